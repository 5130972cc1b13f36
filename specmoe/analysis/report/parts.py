"""Which parts a page has below its first screen, and what each is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from specmoe.analysis.answer import Answer
from specmoe.analysis.figures import each_figure
from specmoe.analysis.report.cells_table import study_table
from specmoe.analysis.report.inputs import Inputs, Study
from specmoe.analysis.report.markup import Html, tag
from specmoe.analysis.report.sections import evidence, plot, reproduction, section, timelines
from specmoe.analysis.report.validations import plots, verdicts
from specmoe.analysis.trace.figures import figures
from specmoe.analysis.trace.job import Analysis

Advance = Callable[[str], object]


class Part(NamedTuple):
    """A section, the id that leads to it, and its name in the list of parts."""

    key: str
    name: str
    section: Html


def parts_of(
    inputs: Inputs, answers: Sequence[Answer], page: Path, command: Sequence[str], advance: Advance
) -> Iterator[Part]:
    """In the order of the page, which will lie at `page`; `advance` is told of each figure that is drawn."""
    for number, (study, answer) in enumerate(zip(inputs.studies, answers, strict=True), 1):
        yield _part(f"results-{number}", f"Results: {study.name}", *_study(f"results-{number}", study, answer, advance))
    if inputs.studies:
        yield _part("evidence", "Assumptions and evidence", evidence(inputs.studies))
    yield _part("reproduce", "How to reproduce", reproduction(inputs.studies, command))
    if inputs.timelines:
        yield _part("timelines", "Timelines", timelines(inputs.timelines, page))
    for number, analysis in enumerate(inputs.analyses, 1):
        name = f"Routing: {analysis.facts['trace']['name']}"
        yield _part(f"routing-{number}", name, *_analysis(f"routing-{number}", analysis, advance))
    if inputs.validations:
        yield _part("validation", "Validation", *_validations(inputs, advance))


def _part(key: str, name: str, *children: object) -> Part:
    return Part(key, name, section(key, name, *children))


def _listed(sentences: Sequence[str]) -> Html:
    return tag("ul", *(tag("li", sentence) for sentence in sentences))


def _study(key: str, study: Study, answer: Answer, advance: Advance) -> Iterator[Html]:
    """What was found in words, figures, and the table."""
    yield _listed(answer.sentences)
    for drawn in each_figure(study.table):
        advance(drawn.name)
        yield plot(f"{key}-{drawn.name}", drawn.title, drawn.reading, drawn.figure)
    yield tag("h3", "All cells")
    yield study_table(f"{key}-cells", study.table)


def _analysis(key: str, analysis: Analysis, advance: Advance) -> Iterator[Html]:
    yield _listed([*analysis.facts["findings"], *analysis.facts["warnings"]])
    for name, title, chart in figures(analysis):
        advance(name)
        yield plot(f"{key}-{name}", title, "", chart)


def _validations(inputs: Inputs, advance: Advance) -> Iterator[Html]:
    yield verdicts(inputs.validations)
    for number, each in enumerate(inputs.validations, 1):
        advance(each.name)
        yield from plots(f"validation-{number}", each)

"""Which parts a page has below its first screen, and what each is made of.

From what was read to a file.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from specmoe.analysis.answer import Answer, answer_of
from specmoe.analysis.figures import each_figure
from specmoe.analysis.report.html import Html, document, join, study_table, tag
from specmoe.analysis.report.inputs import Inputs, Study
from specmoe.analysis.report.opening import Note, marked, notes_of, opening
from specmoe.analysis.report.sections import evidence, plot, plots, reproduction, section, timelines, verdicts
from specmoe.analysis.trace.store import figures
from specmoe.analysis.trace.tables import Analysis
from specmoe.files import replacing

Advance = Callable[[str], object]


class Part(NamedTuple):
    """A section, the id that leads to it, and its name in the list of parts."""

    key: str
    name: str
    section: Html


def parts_of(
    inputs: Inputs, answers: Sequence[Answer], page: Path, command: Sequence[str], advance: Advance
) -> Iterator[Part]:
    """In the order of the page, which will lie at `page`; `advance` is called for each figure."""
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


FOOTER = (
    "Times are simulated by specmoe unless a part says that they were measured. This page holds everything that it "
    "shows; only timelines lie beside it."
)


class Report(NamedTuple):
    """What a page says first."""

    title: str
    answers: dict[str, Answer]  # of each study, by its name
    notes: list[Note]


def write_report(inputs: Inputs, page: Path, command: Sequence[str], advance: Advance = lambda figure: None) -> Report:
    """Write a page, whole or not at all; the same input gives the same bytes.

    `command` is what the page says of how it was made; `advance` is called for each figure. Raises
    InputError if no cell of a study has figures, or the place cannot be written.
    """
    answers = {study.name: answer_of(study.table) for study in inputs.studies}
    notes, first = notes_of(inputs), opening(inputs, list(answers.values()))
    with replacing(page) as fresh:
        parts = list(parts_of(inputs, list(answers.values()), page, command, advance))
        body = join([tag("p", "specmoe report", class_="of"), first.body, marked(notes)])
        fresh.write_text(document(f"{first.title} \N{EN DASH} specmoe", body, parts, FOOTER), encoding="utf-8")
    return Report(first.title, answers, notes)

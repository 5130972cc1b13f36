"""The parts of a page below its first screen: figures, evidence, how to repeat the results, timelines, validations."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from specmoe.analysis.answer import Answer, answer_of
from specmoe.analysis.figures import each_figure
from specmoe.analysis.figures.fidelity import about_of, errors_figure, headline, prediction_figure
from specmoe.analysis.report.html import Column, Html, Row, document, join, plain_table, study_table, tag
from specmoe.analysis.report.inputs import Inputs, Study
from specmoe.analysis.report.opening import Note, distinct, marked, notes_of, opening
from specmoe.analysis.report.svg import inline_svg
from specmoe.analysis.trace.job import figures
from specmoe.analysis.trace.tables import Analysis
from specmoe.files import replacing
from specmoe.uncertainty import band
from specmoe.validation_table import Validation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PERFETTO = "https://ui.perfetto.dev"
ORIGINS = {  # columns of a study's table that tell what it rests on, by their titles
    "routing": "trace",
    "its kind": "trace_kind",
    "machine": "profile",
    "evidence": "evidence",
    "model": "shape",
    "format": "format",
    "replay": "semantics",
    "timed by": "timed_by",
}


def section(key: str, title: str, *children: object) -> Html:
    """A part of the page with its heading."""
    heading = tag("h2", title, id=f"{key}-title")
    return tag("section", heading, *children, id=key, aria_labelledby=f"{key}-title")


def plot(key: str, title: str, reading: str, chart: "Figure") -> Html:
    """A figure, and above it its sentence, if there is one; its title and small print are in it."""
    drawn = inline_svg(chart, key, f"{title}. {reading}".strip())
    frame = tag("div", drawn, class_="plot", tabindex="0", role="group", aria_label=title)
    return tag("figure", tag("figcaption", reading) if reading else None, frame, id=key)


def evidence(studies: Sequence[Study]) -> Html:
    """Where the numbers come from, what was assumed, and all warnings."""
    rows = [row for study in studies for row in _origins(study)]
    caption = "Inputs of each result. The weakest input decides the evidence."
    parts = [plain_table(caption, [Column("results"), *map(Column, ORIGINS)], rows)]
    for title, column in (("Assumed values", "assumed"), ("Warnings", "warnings")):
        found = distinct(studies, column)
        if found:
            parts += [tag("h3", title), tag("ul", *(tag("li", text) for text in found), class_=column)]
    rows_of_all = (row for study in studies for row in study.table.good.to_dict("records"))
    bands = sorted({band({str(name): value for name, value in row.items()}) for row in rows_of_all} - {""})
    if bands:
        parts += [tag("h3", "Expected errors"), tag("ul", *(tag("li", text) for text in bands), class_="bands")]
    return join(parts)


def _origins(study: Study) -> Iterator[Row]:
    found = study.table.good[list(ORIGINS.values())].drop_duplicates()
    for row in found.to_dict("records"):
        yield Row([study.name, *(row[name] for name in ORIGINS.values())])


def reproduction(studies: Sequence[Study], command: Sequence[str]) -> Html:
    """The commands that gave the results, and the page."""
    versions = ", ".join(sorted({study.version for study in studies}))
    told = f"The results are of specmoe {versions}. " if studies else ""
    parts = [tag("p", f"{told}The same inputs give the same page, byte for byte.")]
    for study in studies:
        parts += _command(study.name, study.table.manifest.get("command", "unknown"))
    parts += _command("This page", shlex.join(command))
    read = sorted({row for study in studies for row in _read(study)})
    hashes = plain_table(
        "What was read, by SHA-256", [Column(name) for name in ("file", "kind", "SHA-256")], map(Row, read)
    )
    return join([*parts, hashes if read else None])


def _read(study: Study) -> Iterator[tuple[str, str, str]]:
    """What the results depend on: name, kind, digest."""
    for kind, digests in study.table.manifest.get("hashes", {}).items():
        yield from ((name, kind, digest) for name, digest in digests.items())


def _command(title: str, command: str) -> list[Html]:
    return [tag("h3", title), tag("pre", tag("code", command), tabindex="0")]


def timelines(paths: Sequence[Path], page: Path) -> Html:
    """Links to files, from where the page lies."""
    how = (
        "Open ",
        tag("a", "ui.perfetto.dev", href=PERFETTO),
        " and drop a file on it; nothing is uploaded. The links hold while files and page stay in their places.",
    )
    return join([tag("p", *how), tag("ul", *(_link(path, page) for path in paths))])


def _link(path: Path, page: Path) -> Html:
    there = quote(Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix())
    return tag("li", tag("a", path.name, href=there, download=True), f", of {path.resolve().parent.name}")


FIGURES = {  # title, and how many units of it a 1 is, with how many digits
    "median_abs_error": ("median error, %", 100, 2),
    "worst_abs_error": ("worst error, %", 100, 2),
    "median_step_correlation": ("correlation of steps", 1, 4),
    "kendall_tau": ("Kendall's tau", 1, 3),
}
NONE = "\N{EN DASH}"
CAPTION = (
    "Mean time of a step, simulated beside measured, on cells that no constant was fitted on. Beside it: the median "
    "correlation of single steps, and whether policies come in the same order."
)


def verdicts(found: Sequence[Validation]) -> Html:
    """A row for each, and below what was missed."""
    texts = [Column("validation"), Column("device"), Column("cells", number=True)]
    numbers = [Column(title, number=True) for title, _, _ in FIGURES.values()]
    table = plain_table(CAPTION, [*texts, *numbers, Column("verdict")], [_row(each) for each in found])
    missed = [tag("li", f"{each.name}: {failed}") for each in found for failed in each.verdict.failed]
    return join([table, tag("ul", *missed) if missed else None])


def _row(validation: Validation) -> Row:
    held_out, failed = validation.verdict.held_out, bool(validation.verdict.failed)
    numbers = [_shown(getattr(held_out, name, None), size, digits) for name, (_, size, digits) in FIGURES.items()]
    cells, verdict = held_out.cells if held_out else 0, "missed a target" if failed else "within its targets"
    device = validation.circumstances.device_name
    return Row([validation.name, device, cells, *numbers, verdict], "failed" if failed else None)


def _shown(value: float | None, size: int, digits: int) -> str:
    return NONE if value is None else f"{size * value:.{digits}f}"


def plots(key: str, validation: Validation) -> list[Html]:
    """Its cells, measured and simulated; and, folded away, the error of each."""
    name, about = validation.name, about_of(validation.circumstances)
    seen, errors = f"{name}: {headline(validation.cells)}", f"{name}: error of each cell"
    predicted = plot(f"{key}-predicted", seen, "", prediction_figure(validation.cells, seen, about))
    each = plot(f"{key}-errors", errors, "", errors_figure(validation.cells, errors, about))
    return [predicted, tag("details", tag("summary", errors), each)]


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

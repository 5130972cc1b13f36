"""The parts of a page below its figures: evidence, how to repeat the results, timelines, and validations."""

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from specmoe.analysis.figures.fidelity import about_of, errors_figure, headline, prediction_figure
from specmoe.analysis.report.html import Column, Html, Row, join, plain_table, tag
from specmoe.analysis.report.inputs import Study
from specmoe.analysis.report.opening import distinct
from specmoe.analysis.report.svg import inline_svg
from specmoe.level import band
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

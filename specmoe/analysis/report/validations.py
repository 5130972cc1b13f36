"""How far simulated steps are from measured ones, as validations found it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specmoe.analysis.fidelity import About
from specmoe.analysis.fidelity_plot import errors_figure, prediction_figure
from specmoe.analysis.report.judged import Validation
from specmoe.analysis.report.markup import Html, join, tag
from specmoe.analysis.report.sections import plot
from specmoe.analysis.report.table import Column, Row, plain_table

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
    missed = [tag("li", f"{each.name}: {failed}") for each in found for failed in each.told["failed"]]
    return join([table, tag("ul", *missed) if missed else None])


def _row(validation: Validation) -> Row:
    told: dict[str, Any] = validation.told["held_out"] or {}
    numbers = [_shown(told.get(name), size, digits) for name, (_, size, digits) in FIGURES.items()]
    failed = bool(validation.told["failed"])
    verdict = "missed a target" if failed else "within its targets"
    return Row(
        [validation.name, validation.device, told.get("cells", 0), *numbers, verdict], "failed" if failed else None
    )


def _shown(value: float | None, size: int, digits: int) -> str:
    return NONE if value is None else f"{size * value:.{digits}f}"


def plots(key: str, validation: Validation) -> list[Html]:
    """Its cells, measured and simulated; and, folded away, the error of each."""
    told, name = validation.told, validation.name
    about = About(validation.device, told["profile"], told["evidence"], told["semantics"])
    seen, errors = f"{name}: simulated against measured", f"{name}: the error of each cell"
    predicted = plot(f"{key}-predicted", seen, "", prediction_figure(validation.cells, seen, about))
    each = plot(f"{key}-errors", errors, "", errors_figure(validation.cells, errors, about))
    return [predicted, tag("details", tag("summary", errors), each)]

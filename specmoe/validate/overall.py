"""What all cells say together, and whether that is good enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from specmoe.errors import InputError
from specmoe.validate.fidelity import PARTS, CellFidelity

AT_MOST = {"median_abs_error": 0.01, "worst_abs_error": 0.04}
AT_LEAST = {"median_step_correlation": 0.99, "kendall_tau": 0.97}
TARGETS = {**AT_MOST, **AT_LEAST}  # on cells that nothing was fitted on


@dataclass(frozen=True)
class Overall:
    """Errors of the mean step, as shares, and the order of the policies."""

    cells: int
    median_abs_error: float
    p95_abs_error: float
    worst_abs_error: float
    worst_cell: str
    mean_compute_error: float  # signed; the three add up to the mean of the cells' errors
    mean_stall_error: float
    mean_host_error: float
    kendall_tau: float | None  # None without pairs
    kendall_pairs: int  # of policies, as `kendall` takes them
    median_step_correlation: float | None  # None where no cell has one
    correlated_cells: int  # that have one


def overall(cells: Sequence[CellFidelity]) -> Overall:
    """All cells together; raises InputError if there is none."""
    if not cells:
        raise InputError("no cells: there is nothing to judge")
    errors = np.abs([cell.error for cell in cells])
    correlations = [cell.step_correlation for cell in cells if cell.step_correlation is not None]
    compute, stall, host = (float(np.mean([cell.part_error(part) for cell in cells])) for part in PARTS)
    tau, pairs = kendall(cells)
    return Overall(
        cells=len(cells),
        median_abs_error=float(np.median(errors)),
        p95_abs_error=float(np.percentile(errors, 95)),
        worst_abs_error=float(errors.max()),
        worst_cell=cells[int(errors.argmax())].cell.name,
        mean_compute_error=compute,
        mean_stall_error=stall,
        mean_host_error=host,
        kendall_tau=tau,
        kendall_pairs=pairs,
        median_step_correlation=float(np.median(correlations)) if correlations else None,
        correlated_cells=len(correlations),
    )


def kendall(cells: Sequence[CellFidelity]) -> tuple[float | None, int]:
    """(Concordant - discordant) / pairs, over pairs of policies on the same slots of the same group; and the pairs.

    Pairs whose measured means differ by less than the larger spread of the two, in ns, are ties and left out. A pair
    that only the simulation holds to be equal is neither concordant nor discordant.
    """
    signs = [
        np.sign((one.measured.mean_ns - other.measured.mean_ns) * (one.simulated.mean_ns - other.simulated.mean_ns))
        for one, other in _pairs(cells)
    ]
    return (float(np.mean(signs)) if signs else None), len(signs)


def failed(found: Overall | None) -> tuple[str, ...]:
    """Each of `TARGETS` that was missed, or that nothing was there to judge by, in words with numbers."""
    if found is None:
        return ("no cell was held out: nothing is shown",)
    return tuple(_missed(found))


def _pairs(cells: Sequence[CellFidelity]) -> Iterator[tuple[CellFidelity, CellFidelity]]:
    for one, other in combinations(cells, 2):
        same = (one.cell.group, one.cell.slots) == (other.cell.group, other.cell.slots)
        spread = max(cell.spread * cell.measured.mean_ns for cell in (one, other))
        apart = abs(one.measured.mean_ns - other.measured.mean_ns)
        if same and apart and apart >= spread:
            yield one, other


def _missed(found: Overall) -> Iterator[str]:
    median, worst = AT_MOST["median_abs_error"], AT_MOST["worst_abs_error"]
    if found.median_abs_error > median:
        yield f"median error of the mean step {_percent(found.median_abs_error)}: at most {_percent(median)} expected"
    if found.worst_abs_error > worst:
        error = f"{_percent(found.worst_abs_error)} in {found.worst_cell}"
        yield f"worst error of the mean step {error}: at most {_percent(worst)} expected"
    correlation, least = found.median_step_correlation, AT_LEAST["median_step_correlation"]
    if correlation is None:
        yield "correlation of steps not shown: they differ by no more than noise in every cell"
    elif correlation < least:
        where = f"median of {found.correlated_cells} cells"
        yield f"correlation of steps {correlation:.4f}, {where}: at least {least} expected"
    tau, least = found.kendall_tau, AT_LEAST["kendall_tau"]
    if tau is None:
        yield "order of the policies not shown: no two of them differ by more than their spread"
    elif tau < least:
        yield f"order of the policies: Kendall tau {tau:.3f} of {found.kendall_pairs} pairs: at least {least} expected"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"

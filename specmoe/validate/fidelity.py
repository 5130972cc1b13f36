"""Errors of simulated runs against real runs of the same decisions: per cell, over all cells, and against targets.

A step's latency, and each of its parts, is the median over the repeats of the real run; means are taken over these. On
H100 and H200, two disjoint groups of three repeats agreed better this way than when each repeat was averaged first and
the median of the averages taken.

Errors are shares: simulated / measured - 1 of a latency, and (simulated - measured) / the measured mean step of a part,
so that the errors of the parts add up to the error of the mean.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.results import RunResult, same_decisions
from specmoe.validate.grid import Cell
from specmoe.validate.measured import Steps, steps_of
from specmoe.validation_table import PARTS, CellFidelity, Overall, Side

SIGMA_PER_MAD = 1.4826  # normal distribution: standard deviation / median absolute deviation
MS = 1e6  # ns
AT_MOST = {"median_abs_error": 0.01, "worst_abs_error": 0.04}
AT_LEAST = {"median_step_correlation": 0.99, "kendall_tau": 0.97}
TARGETS = {**AT_MOST, **AT_LEAST}  # on held-out cells


def noise_of(latency: NDArray[np.int64]) -> float:
    """Standard deviation, ns, of one step between repeats; `latency` is [repeats, steps] with two or more repeats.

    It is estimated from the differences of each two repeats by their median absolute deviation, so a repeat that is
    slower throughout (see `spread`) and a few interrupted steps do not count as noise.
    """
    differences = np.stack([one - other for one, other in combinations(latency, 2)])
    deviations = np.abs(differences - np.median(differences, axis=1, keepdims=True))
    return float(SIGMA_PER_MAD * np.median(deviations) / np.sqrt(2))


def correlation_of(simulated: NDArray[np.float64], measured: NDArray[np.float64], noise_ns: float) -> float | None:
    """Pearson correlation of the steps' latencies, [steps] each.

    None if the standard deviation of the simulated steps is at most the noise: if all steps do the same, real steps
    differ by chance. 0 if the simulated steps differ and the real ones do not.
    """
    if simulated.std() <= noise_ns:
        return None
    if not measured.std():
        return 0.0
    return float(np.corrcoef(simulated, measured)[0, 1])


def compare(cell: Cell, simulated: RunResult, measured: Sequence[RunResult]) -> CellFidelity:
    """Compare a simulated run with two or more real ones; raises InputError naming the first different decision."""
    for run in measured:
        try:
            same_decisions(simulated, run)
        except InputError as error:
            raise InputError(f"{cell.name}: {error}") from None
    _require_repeats(cell, len(measured))
    return judge(cell, steps_of([simulated]), steps_of(measured))


def judge(cell: Cell, simulated: Steps, measured: Steps) -> CellFidelity:
    """Compare a simulation with two or more stored repeats; raises InputError if they executed other decisions."""
    if simulated.decisions != measured.decisions:
        raise InputError(f"{cell.name}: simulated and measured decisions differ: they cannot be compared")
    repeats = len(measured.latency)
    _require_repeats(cell, repeats)
    means, noise = measured.latency.mean(axis=1), noise_of(measured.latency)
    return CellFidelity(
        cell=cell.key,
        repeats=repeats,
        measured=_side(measured),
        simulated=_side(simulated),
        spread=float(np.ptp(means) / np.median(means)),
        noise_ns=noise,
        step_correlation=correlation_of(simulated.typical, measured.typical, noise),
    )


def require_quiet(cells: Sequence[CellFidelity], most: float = 0.10) -> None:
    """Raise InputError if the cells' median spread exceeds `most`, because the device is then not idle."""
    spreads = [cell.spread for cell in cells]
    if cells and np.median(spreads) > most:
        worst = cells[int(np.argmax(spreads))]
        raise InputError(
            f"the device is busy: repeated runs differ by {_percent(float(np.median(spreads)))} in the median and by "
            f"{_percent(worst.spread)} in {worst.cell.name}: at most {_percent(most)} expected of one that is idle"
        )


def rows(cells: Sequence[CellFidelity]) -> list[dict[str, str]]:
    """Table as text, one row per cell."""
    return [
        {
            "group": cell.cell.group,
            "policy": cell.cell.policy,
            "slots": str(cell.cell.slots),
            "role": cell.cell.role.replace("_", " "),
            "measured ms": f"{cell.measured.mean_ns / MS:.3f}",
            "simulated ms": f"{cell.simulated.mean_ns / MS:.3f}",
            "error": _signed(cell.error),
            "p50": _signed(cell.p50_error),
            "p95": _signed(cell.p95_error),
            **{part: _signed(cell.part_error(part)) for part in PARTS},
            "correlation": "" if cell.step_correlation is None else f"{cell.step_correlation:.4f}",
            "spread": _percent(cell.spread),
        }
        for cell in cells
    ]


def _side(steps: Steps) -> Side:
    mean, compute, stall = (
        float(np.median(times, axis=0).mean()) for times in (steps.latency, steps.compute, steps.stall)
    )
    p50, p95 = (float(value) for value in np.percentile(steps.typical, (50, 95)))
    return Side(mean, p50, p95, compute, stall, mean - compute - stall)


def _require_repeats(cell: Cell, repeats: int) -> None:
    if repeats < 2:
        raise InputError(f"{cell.name}: measured {repeats} times: 2 or more expected")


def _signed(share: float) -> str:
    return f"{100 * share:+.2f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def overall(cells: Sequence[CellFidelity]) -> Overall:
    """Summary over all cells; raises InputError if there is none."""
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
    """Kendall tau over pairs of policies with the same group and slots, and the number of pairs.

    Tau is (concordant - discordant) / pairs. Pairs whose measured means differ by less than the larger spread of the
    two, in ns, are ties and excluded. A pair with equal simulated means is neither concordant nor discordant.
    """
    signs = [
        np.sign((one.measured.mean_ns - other.measured.mean_ns) * (one.simulated.mean_ns - other.simulated.mean_ns))
        for one, other in _pairs(cells)
    ]
    return (float(np.mean(signs)) if signs else None), len(signs)


def ratio_errors(cells: Sequence[CellFidelity]) -> list[float]:
    """Errors of the simulated ratio of two mean steps, for each pair of cells that differ in policy only.

    The larger of the two ratios counts, so that the order of a pair does not matter.
    """
    ratios = [
        one.simulated.mean_ns * other.measured.mean_ns / (other.simulated.mean_ns * one.measured.mean_ns)
        for one, other in combinations(cells, 2)
        if _same_but_policy(one, other)
    ]
    return [max(ratio, 1 / ratio) - 1 for ratio in ratios]


def _same_but_policy(one: CellFidelity, other: CellFidelity) -> bool:
    keys = [(cell.cell.group, cell.cell.steps, cell.cell.slots) for cell in (one, other)]
    return keys[0] == keys[1] and one.cell.policy != other.cell.policy


def failed(found: Overall | None) -> tuple[str, ...]:
    """One line per target in `TARGETS` that was missed or could not be judged."""
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
        yield f"median error of the mean step {_percents(found.median_abs_error)}: at most {_percents(median)} expected"
    if found.worst_abs_error > worst:
        error = f"{_percents(found.worst_abs_error)} in {found.worst_cell}"
        yield f"worst error of the mean step {error}: at most {_percents(worst)} expected"
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


def _percents(share: float) -> str:
    return f"{100 * share:.2f} %"

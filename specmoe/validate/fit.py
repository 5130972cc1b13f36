"""Fitting of host costs to whole replays, by least squares over the relative errors of the cells of role `fit`.

The constants are the costs of the host; the contention, by which copies take longer in whole runs than alone; and the
interference, the share by which kernels take longer during a copy. In each cell the calls of the host (launch,
launch_dense, issue) take what its replay saw, if it says so, and their constants start from the medians of that.

Residuals, with equal weight for each cell:

    per step      (simulated / measured - 1) / sqrt(steps of the cell)
    per mean      MEAN_WEIGHT * (simulated / measured - 1)
    per constant  PULL * (constant - microbenchmark) / scale, where scale is the microbenchmark or at least UNKNOWN_NS,
                  and 1 for contention and interference

Simulated times are whole numbers and piecewise linear in the constants, so slopes are taken over STEP_NS. The cells can
separate two constants only if these change the cells differently. `Fitted.warnings` names constants that cannot be
separated; they stay near the microbenchmarks. `Resimulation` decides each cell once and only repeats its timing.

Costs of experts on the CPU are fitted apart from these (`fit_cpu`): how long the host takes to hand them to threads
that sleep and to join their result, and by how much copies slow them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, MissingExtraError
from specmoe.hwprofiles.costs import HostCosts
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import CONTENTION, INTERFERENCE, SLOWED_BY_COPY
from specmoe.hwprofiles.shape import Phase
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.table import packed
from specmoe.sim.run import Run, Scenario
from specmoe.validate.grid import Cell, Group
from specmoe.validate.measured import Steps, StepTimes, hash_of_decisions, steps_of
from specmoe.validation_table import HostState

Floats = NDArray[np.float64]
Traces = Mapping[Phase, str]  # the trace of each phase, by name or path
MAX_CONDITION = 30.0  # constants with a larger condition number cannot be separated
MIN_SHARE_OF_DIRECTION = 0.3  # of a direction of length 1, for a constant to belong to it
MILLION = 1_000_000  # shares are counted in millionths
MEAN_WEIGHT = 3.0
PULL = 0.01  # a cost twice the microbenchmark's weighs like an error of 0.3 % of all steps of one cell
UNKNOWN_NS = 10_000
STEP_NS = 500
UNIT_NS = 1000  # unit for the solver, since costs are some microseconds
NAMES = (*(field.removesuffix("_ns") for field in HostCosts._fields), "contention", "interference")
NUM_SHARES = 2  # the last of NAMES: contention and interference
CPU_NAMES = ("cpu.start", "cpu.join", SLOWED_BY_COPY)
CPU_CHANGED = ("start_ns", "join_ns", "slowed_by_copy")  # the same as fields of `CpuCosts`
CPU_STEP = 0.02  # of a constant's scale, over which slopes are taken


def covariance(errors: Floats, weight: float, slopes: Floats) -> Floats:
    """Covariance of the constants, [p, p], from the errors of the cells' means, [cells], and slopes [n, p].

    Errors within a cell may be the same in all its steps, so each cell counts as one observation. `weight` is the
    weight of the squared error of a whole cell in the minimised sum.
    """
    variance = weight * (errors @ errors) / max(1, len(errors) - slopes.shape[1])
    return np.asarray(variance * np.linalg.pinv(slopes.T @ slopes))


def unresolved(slopes: Floats, names: Sequence[str]) -> tuple[float, tuple[str, ...]]:
    """Condition number of slopes [n, p], columns scaled to length 1, and a line per constant that is not determined."""
    lengths = np.linalg.norm(slopes, axis=0)
    affects = lengths > 0
    silent = tuple(
        f"{name}: affects no cell: unchanged" for name, shown in zip(names, affects, strict=True) if not shown
    )
    affecting = [name for name, shown in zip(names, affects, strict=True) if shown]
    if not affecting:
        return np.inf, silent
    _, sizes, directions = np.linalg.svd(slopes[:, affects] / lengths[affects], full_matrices=False)
    conditions = sizes[0] / np.maximum(sizes, sizes[0] * np.finfo(np.float64).eps)
    alike = {
        _alike(affecting, row): size for row, size in zip(directions, conditions, strict=True) if size > MAX_CONDITION
    }
    lines = (
        f"{group}: these cells hardly separate them (condition number {size:.2g})" for group, size in alike.items()
    )
    return (np.inf if silent else float(conditions[-1])), (*silent, *lines)


def _alike(names: Sequence[str], direction: Floats) -> str:
    """Names of the constants that make up a direction."""
    return ", ".join(
        name for name, share in zip(names, np.abs(direction).tolist(), strict=True) if share > MIN_SHARE_OF_DIRECTION
    )


def config_of(group: Group, traces: Traces, profile: str | HardwareProfile) -> RunConfig:
    """Configuration of a group with trace and profile; raises InputError if there is no trace of its phase."""
    if group.phase not in traces:
        raise InputError(f"{group.name}: no trace of phase {group.phase}: one of {', '.join(traces)} expected")
    return replace(group.config, trace=traces[group.phase], profile=profile)


class Resimulation:
    """Repeated simulation of cells with one profile, given by name, path or object, and other host costs."""

    def __init__(self, traces: Traces, profile: str | HardwareProfile) -> None:
        self._traces, self._profile = traces, profile
        self._scenarios: dict[Group, Scenario] = {}
        self._runs: dict[Cell, Run] = {}

    def scenario(self, group: Group) -> Scenario:
        """Scenario that a group's cells share; raises InputError if it cannot be simulated."""
        if group not in self._scenarios:
            self._scenarios[group] = Scenario(config_of(group, self._traces, self._profile))
        return self._scenarios[group]

    def run(self, cell: Cell) -> Run:
        """Run of a cell with the profile's own host costs, without bounds, which no replay is compared with."""
        if cell not in self._runs:
            scenario = self.scenario(cell.group)
            scenario.set_bounds(cell.slots, {})
            self._runs[cell] = scenario.run(cell.policy, cell.slots)
        return self._runs[cell]

    def constants(self, group: Group) -> "Constants":
        """Constants of the profile itself."""
        costs = self.scenario(group).costs
        shares = (costs.profile.contention, costs.profile.interference)
        return Constants(costs.host, *(round(share * MILLION) for share in shares))

    def steps(self, cell: Cell, constants: "Constants") -> Steps:
        """Steps of a cell with the given constants, as one repeat."""
        result, decisions, durations, own = self.run(cell)
        longer = constants.contention / self.constants(cell.group).contention
        copy = packed(np.round(np.array(durations.copy) * longer))
        slows = constants.interference / MILLION
        changed = durations._replace(host=constants.host, copy=copy, interference=slows)
        timing = self.scenario(cell.group).time(decisions, changed)
        layers = decisions.num_layers
        latency = timing.step_end - timing.begin[::layers]
        computed = result.table["compute_ns"] - own.slowed + timing.slowed
        compute, stall = (_by_step(column, layers) for column in (computed, timing.stall))
        return Steps(latency[None], compute, stall, hash_of_decisions(result.table))

    def cpu_constants(self, cell: Cell) -> Floats:
        """Values of `CPU_NAMES` in a cell: ns and a share."""
        costs = self.run(cell).durations.cpu
        return np.array([costs.start_ns, costs.join_ns, costs.slowed_by_copy / MILLION])

    def mean_ns(self, cell: Cell, cpu: Floats) -> float:
        """Mean step of a cell with other values of `CPU_NAMES`."""
        _, decisions, durations, _ = self.run(cell)
        start, join, share = cpu.tolist()
        changed = dict(zip(CPU_CHANGED, map(round, (start, join, share * MILLION)), strict=True))
        timing = self.scenario(cell.group).time(decisions, durations._replace(cpu=durations.cpu._replace(**changed)))
        return float((timing.step_end - timing.begin[:: decisions.num_layers]).mean())

    def all_steps(self, cells: Mapping[Cell, Steps], constants: "Constants") -> dict[Cell, Steps]:
        """Steps of replayed cells with the given constants and the calls of the host that each replay saw."""
        return {cell: self.steps(cell, constants.seen(steps.host)) for cell, steps in cells.items()}


def _by_step(column: StepTimes, layers: int) -> StepTimes:
    """Sums over the layers, [1, steps]."""
    sums: StepTimes = column.reshape(1, -1, layers).sum(axis=2)
    return sums


class Constants(NamedTuple):
    """Fitted constants as whole numbers: ns, and millionths for shares."""

    host: HostCosts
    contention: int = MILLION
    interference: int = 0

    @property
    def flat(self) -> Floats:
        """Values in the order of `NAMES`, in UNIT_NS."""
        return np.array([*self.host, self.contention, self.interference], np.float64) / UNIT_NS

    def seen(self, state: HostState | None) -> "Constants":
        """The same with the costs of the calls that a replay saw, if it says so; the others stay."""
        calls = {f"{name}_ns": ns for name, ns in (state._asdict() if state else {}).items() if ns}
        return self._replace(host=self.host._replace(**calls))

    def values(self, host_set: str = "graph") -> dict[str, float]:
        """Values by a profile's dotted names, in its units."""
        named: dict[str, float] = {f"host.{host_set}.{name}": ns for name, ns in zip(NAMES, self.host, strict=False)}
        return {**named, CONTENTION: self.contention / MILLION, INTERFERENCE: self.interference / MILLION}


Predict = Callable[[Constants], Mapping[Cell, Steps]]  # simulates each cell of the fit


@dataclass(frozen=True)
class Fitted:
    """Fitted constants and their uncertainty."""

    constants: Constants
    standard_error: Constants
    covariance: Floats  # of `NAMES`, in ns and millionths
    condition: float  # of the slopes, each constant's scaled to length 1; infinite if one shows in no cell
    cells: tuple[str, ...]  # that were fitted on
    mean_errors: tuple[float, ...]  # of their mean steps, as shares
    warnings: tuple[str, ...]

    @property
    def ref(self) -> str:
        """Reference for the values in a profile."""
        worst = 100 * max(map(abs, self.mean_errors))
        return f"least squares over {len(self.cells)} replayed cells; their mean steps are off by {worst:.2f} % at most"


def fit(measured: Mapping[Cell, Steps], predict: Predict, start: Constants) -> Fitted:
    """Fit the constants with which `predict` is closest to the measured steps, starting from the microbenchmarks.

    Raises InputError if there is no cell, for a held-out cell or other decisions, MissingExtraError if scipy is
    missing.
    """
    cells, solve = tuple(measured), _least_squares()
    _require_fit(cells)
    _require_same_decisions(measured, predict(start))
    residuals = _Residuals(measured, predict, start)
    solution = solve(residuals, start.flat, residuals.slopes, bounds=(0, np.inf), x_scale=residuals.scale)
    constants = _constants(solution.x)
    errors, slopes = residuals.mean_errors(constants), residuals.slopes(solution.x)
    spread = covariance(np.array(errors), 1 + MEAN_WEIGHT**2, slopes) * UNIT_NS**2
    condition, warnings = unresolved(slopes[: -len(NAMES)], NAMES)  # without the pull
    return Fitted(
        constants,
        _constants(np.sqrt(np.diag(spread)) / UNIT_NS),
        spread,
        condition,
        tuple(cell.name for cell in cells),
        errors,
        warnings,
    )


class _Residuals:
    """Residuals and slopes for the solver, as functions of constants in UNIT_NS."""

    def __init__(self, measured: Mapping[Cell, Steps], predict: Predict, start: Constants) -> None:
        self._predict = predict
        self._steps = {cell: steps.typical for cell, steps in measured.items()}
        self._means = {cell: float(steps.typical.mean()) for cell, steps in measured.items()}
        self._start = start.flat
        self.scale = np.maximum(self._start, UNKNOWN_NS / UNIT_NS)
        self.scale[-NUM_SHARES:] = MILLION / UNIT_NS

    def __call__(self, x: Floats) -> Floats:
        simulated = self._predict(_constants(x))
        steps = [
            (simulated[cell].typical / measured - 1) / np.sqrt(len(measured)) for cell, measured in self._steps.items()
        ]
        means = [MEAN_WEIGHT * (simulated[cell].latency.mean() / mean - 1) for cell, mean in self._means.items()]
        return np.concatenate([*steps, means, PULL * (x - self._start) / self.scale])

    def slopes(self, x: Floats) -> Floats:
        """Slopes, [residuals, constants]."""
        here, step = self(x), STEP_NS / UNIT_NS
        ahead = x + step * np.eye(len(x))
        return np.stack([(self(one) - here) / step for one in ahead], axis=1)

    def mean_errors(self, constants: Constants) -> tuple[float, ...]:
        simulated = self._predict(constants)
        return tuple(float(simulated[cell].latency.mean() / mean - 1) for cell, mean in self._means.items())


def _constants(x: Floats) -> Constants:
    *host, contention, interference = (round(value * UNIT_NS) for value in x.tolist())
    return Constants(HostCosts(*host), contention, interference)


def fit_cpu(measured: Mapping[Cell, Steps], simulation: Resimulation) -> dict[str, float]:
    """Fit `CPU_NAMES` to the mean steps of the cells in which the CPU computes; none if it computes in no cell.

    Residuals are those of `fit` per mean and per constant. Raises InputError for a held-out cell or other decisions.
    """
    _require_fit(tuple(measured))
    means = {cell: float(steps.typical.mean()) for cell, steps in measured.items()}
    means = {cell: mean for cell, mean in means.items() if simulation.run(cell).decisions.cpu_uses}
    if not means:
        return {}
    _require_same_decisions(measured, {cell: steps_of([simulation.run(cell).result]) for cell in measured})
    start = simulation.cpu_constants(next(iter(means)))
    scale = np.array([*np.maximum(start[:2], UNKNOWN_NS), 1.0])

    def residuals(x: Floats) -> Floats:
        errors = [MEAN_WEIGHT * (simulation.mean_ns(cell, x * scale) / mean - 1) for cell, mean in means.items()]
        return np.array([*errors, *(PULL * (x - start / scale))])

    found = _least_squares()(residuals, start / scale, bounds=(0, np.inf), diff_step=CPU_STEP)
    return dict(zip(CPU_NAMES, (found.x * scale).tolist(), strict=True))


def _require_fit(cells: tuple[Cell, ...]) -> None:
    if not cells:
        raise InputError("no cells to fit on: a grid with some under `fit` expected")
    for cell in cells:
        if cell.role != "fit":
            raise InputError(f"{cell.name}: held out: cells to fit on expected")


def _require_same_decisions(measured: Mapping[Cell, Steps], simulated: Mapping[Cell, Steps]) -> None:
    for cell, steps in measured.items():
        if simulated[cell].decisions != steps.decisions:
            raise InputError(f"{cell.name}: simulated and measured decisions differ: they cannot be fitted")


def _least_squares() -> Callable[..., Any]:
    try:
        from scipy.optimize import least_squares
    except ImportError:
        raise MissingExtraError("scipy", "calibrate") from None
    solver: Callable[..., Any] = least_squares
    return solver

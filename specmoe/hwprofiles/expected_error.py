"""Expected error of a prediction, from past errors of simulated steps against replayed ones.

`data/accuracy.json` holds the figures of docs/validation.md and is generated with it, `data/accuracy_styles.json` those
of docs/styles.md, `data/accuracy_cpu.json` those of docs/cpu.md. An error is that of a cell's mean step, simulated /
measured - 1, as an absolute share.
Errors against figures that others published are not among them: they hold what is not known of those machines too, and
widen the ranges of `specmoe reproduce public` only.

Two policies on the same machine share most of the error of a prediction, so the ratio of their mean steps is known
better than either. `data/ratio_error.json` holds the errors of simulated ratios against measured ones, of two held-out
cells that differ in policy only.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.dense import PHASES, DenseTimes
from specmoe.hwprofiles.kernels import USUAL, Style, shares_of, style_of
from specmoe.hwprofiles.launches import ExpertTimes
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import Source
from specmoe.hwprofiles.shape import Format, ModelShape, compute_format, is_compressed

OWN, UNCALIBRATED = "own", "microbenchmarks"  # host constants fitted on the machine, or only measured
SHIPPED = " as shipped"  # suffix: constants of a profile, used on another machine of its kind
MEASURED_SOURCES: tuple[Source, ...] = ("measured", "derived")
SAME_ERROR = 1e-6  # errors that differ by less are of the same calibration


class Accuracy(NamedTuple):
    """Errors of a profile's predictions over all cells of a replay."""

    profile: str
    constants: str  # own, microbenchmarks, carried from ..., emulated ..., ... as shipped
    cells: int
    held_out: bool  # whether the cells had no part in fitting the constants
    median_abs_error: float
    p95_abs_error: float
    worst_abs_error: float
    kendall_tau: float
    style: str = "expand/separate"  # of the replayed kernels

    def covers(self, held: Format, style: Style) -> bool:
        """Whether experts in a format were replayed in a style; how they are multiplied matters if compressed."""
        own = style_of(self.style)
        return own.launch == style.launch and (own.multiply == style.multiply or not is_compressed(held))


class Expected(NamedTuple):
    """Expected error of a predicted mean step: an upper bound for most cells if `validated`, else a lower bound."""

    error: float
    validated: bool
    basis: str

    def rates(self, rate: float) -> tuple[float, float]:
        """Lowest and highest rate to expect on the device for a predicted rate."""
        return rate * max(0.0, 1 - self.error), rate * (1 + self.error)


@cache
def accuracies() -> tuple[Accuracy, ...]:
    """All comparisons in the package; raises InputError if the file is damaged."""
    return (*_rows("accuracy.json"), *_rows("accuracy_styles.json"))


def _rows(name: str) -> tuple[Accuracy, ...]:
    file, fields = files("specmoe.hwprofiles") / "data" / name, Accuracy._fields
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return tuple(Accuracy(**{name: row[name] for name in fields if name in row}) for row in rows)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file}: rows of {', '.join(fields)} expected ({error!r})") from None


def expected_error(
    profile: HardwareProfile,
    shape: ModelShape,
    held: Format,
    known: Sequence[Accuracy] | None = None,
    style: Style = USUAL,
    dense_format: Format | None = None,
    on_cpu: bool = False,
) -> Expected:
    """Expected error for a model on a profile, with experts in slots of format `held`, computed in a style.

    Where the CPU computes experts (`on_cpu`) it is at least that of replays with such experts.

    A bundled profile has the errors seen on another machine of its kind, else of another kind, because the user's
    machine is also another one. A user's calibrated profile has the errors of its calibration; one that was only
    measured has those of similar profiles. A profile with published, assumed or overridden numbers, without measured
    kernels of the model, or of a style that was not replayed, is not validated: a lower bound is the larger of the
    error seen with constants of another machine and the spread of the shares from which times of kernels were derived.
    """
    expected = _on_device(profile, shape, held, accuracies() if known is None else known, style, dense_format)
    return _beside_cpu(expected, profile) if on_cpu else expected


def _on_device(
    profile: HardwareProfile,
    shape: ModelShape,
    held: Format,
    every: Sequence[Accuracy],
    style: Style,
    dense_format: Format | None,
) -> Expected:
    """Expected error where the device computes every expert."""
    rows = [row for row in every if row.covers(held, style)]
    experts = ExpertTimes(profile, shape, held, style)
    why = _why_unvalidated(profile, experts, dense_format)
    if not why and not rows:
        why = f"style {style} was not replayed in {held}"
    if why:
        return _unvalidated(rows or every, why, experts)
    if profile.calibration is None or all(row.constants == UNCALIBRATED for row in rows):
        return _uncalibrated(rows)
    return _calibrated(rows, profile)


def _beside_cpu(expected: Expected, profile: HardwareProfile) -> Expected:
    """The same, or the error of replays with the CPU if that is larger: with its costs fitted, or only measured."""
    join = profile.quantities.get("cpu.join")
    constants = OWN if join and join.source == "derived" else UNCALIBRATED
    (row,) = (row for row in _rows("accuracy_cpu.json") if row.constants == constants)
    if row.p95_abs_error <= expected.error:
        return expected
    seen = f"95% of {row.cells} cells of {row.profile} with experts on the CPU"
    basis = seen if expected.validated else f"{expected.basis}; {seen} are within {row.p95_abs_error:.1%}"
    return expected._replace(error=row.p95_abs_error, basis=basis)


def _why_unvalidated(profile: HardwareProfile, experts: ExpertTimes, dense_format: Format | None) -> str | None:
    if any(source not in MEASURED_SOURCES for source in _sources(profile)):
        return f"{profile.name} has published or assumed numbers"
    if not experts.curves:
        return f"no kernels of {experts.shape.name} were measured on {profile.name}"
    computed = compute_format(experts.held)
    dense = DenseTimes(profile, experts.shape, computed, dense_format or computed)
    if profile.dense_curves and not any(map(dense.measured, dense.parts(PHASES))):
        return f"no dense parts of {experts.shape.name} were measured on {profile.name}"
    return None


def _sources(profile: HardwareProfile) -> Iterator[Source]:
    numbers = (quantity.source for quantity in profile.quantities.values())
    return chain(numbers, (points.source for points in profile.points.values()))


def _unvalidated(rows: Sequence[Accuracy], why: str, experts: ExpertTimes) -> Expected:
    elsewhere = [row for row in rows if row.constants not in (OWN, UNCALIBRATED)]
    worst = max(elsewhere or rows, key=lambda row: row.worst_abs_error)
    seen = f"{worst.worst_abs_error:.1%} was seen with {worst.profile}, constants {worst.constants}"
    bounds = [(worst.worst_abs_error, seen)]
    if not experts.curves and experts.kernel == "fused":
        spread = _spread(experts)
        bounds.append((spread, f"measured machines and sizes differ by {spread:.1%} in the time of such kernels"))
    error, basis = max(bounds)
    return Expected(error, False, f"not validated, as {why}; {basis}")


def _spread(experts: ExpertTimes) -> float:
    """Largest relative change of a launch of one token's experts within the ranges of the shares of their kernels."""
    number, shares = experts.shape.experts.top_k, shares_of(experts.held)
    usual, *ends = (
        replace(experts, shares=one).launch_ns(number, 1) for one in (shares, shares.slowest(), shares.fastest())
    )
    return max(abs(end / usual - 1) for end in ends)


def _uncalibrated(rows: Sequence[Accuracy]) -> Expected:
    mine = [row for row in rows if row.constants == UNCALIBRATED]
    worst = max(mine, key=lambda row: row.p95_abs_error)
    return Expected(worst.p95_abs_error, True, f"95% of {worst.cells} cells of {worst.profile}, measured likewise")


def _calibrated(rows: Sequence[Accuracy], profile: HardwareProfile) -> Expected:
    """Expected error of a calibrated profile, from the package's comparisons, else from the profile's calibration."""
    calibration = profile.calibration
    assert calibration is not None
    for row in rows:
        same = abs(row.worst_abs_error - calibration.worst_abs_error) < SAME_ERROR
        if row.profile == profile.name and row.constants == OWN and same:
            return _shipped(rows, row)
    basis = f"the worst of {calibration.cells} held-out cells that {profile.name} was calibrated beside"
    return Expected(calibration.worst_abs_error, True, basis)


def _shipped(rows: Sequence[Accuracy], own: Accuracy) -> Expected:
    basis = f"95% of {own.cells} held-out cells replayed on {own.profile}"
    elsewhere = [row for row in rows if row.constants.endswith(SHIPPED)]
    mine = [row for row in elsewhere if row.constants == own.profile + SHIPPED]
    if not elsewhere:
        return Expected(own.p95_abs_error, True, basis)
    worst = max(mine or elsewhere, key=lambda row: row.p95_abs_error)
    kind = "this kind" if mine else f"the kind of {worst.constants.removesuffix(SHIPPED)}, as of no other of this"
    description = (
        f"95% of {worst.cells} cells on another machine of {kind}; {own.p95_abs_error:.1%} where it was calibrated"
    )
    return Expected(max(worst.p95_abs_error, own.p95_abs_error), True, description)


FEWEST_PAIRS = 20  # of cells, for a style to be judged by its own replays


class RatioError(NamedTuple):
    """Errors of ratios over the pairs of one machine's replay in one style."""

    replay: str
    style: str
    pairs: int
    median: float
    p95: float
    worst: float

    def covers(self, held: Format, style: Style) -> bool:
        """Whether experts in a format were replayed in a style; how they are multiplied matters if compressed."""
        own = style_of(self.style)
        return own.launch == style.launch and (own.multiply == style.multiply or not is_compressed(held))


@cache
def ratio_errors() -> tuple[RatioError, ...]:
    """All replays in the package."""
    file = files("specmoe.hwprofiles") / "data" / "ratio_error.json"
    return tuple(RatioError(**row) for row in json.loads(file.read_text(encoding="utf-8"))["rows"])


def ratio_error(held: Format, style: Style, validated: bool, known: tuple[RatioError, ...] | None = None) -> float:
    """Expected error of the ratio of two policies with experts in slots of format `held`, computed in a style.

    On a validated machine 95% of the pairs of every replay in that style are within it, else all pairs. A style of few
    pairs is judged by the replays in all styles.
    """
    every = ratio_errors() if known is None else known
    rows = [row for row in every if row.covers(held, style)]
    rows = rows if sum(row.pairs for row in rows) >= FEWEST_PAIRS else list(every)
    return max(row.p95 if validated else row.worst for row in rows)

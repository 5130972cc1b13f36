"""All predictors by name, plug-ins included, and how long each takes. A new one is a class and a line here.

Running times are measured once, kept in `running_time.toml` and charged to every run: for each (step, layer) a fixed
time and one for each token. The host's are those of the numpy reference implementations here, on the CPU that the
reference names; a native one would be faster, a weaker host slower. Predictors that are part of the model, or know by
definition, take none.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from inspect import isabstract, signature
from pathlib import Path
from typing import Any, Literal, NamedTuple

from specmoe.errors import InputError, Place, hint
from specmoe.files import parsing, read_json, read_toml, require_names
from specmoe.hwprofiles.quantity import Quantity, read_quantity
from specmoe.plugins import Table
from specmoe.sim.speculate.learned.predictor import Learned
from specmoe.sim.speculate.predictor import Predictor, Routed
from specmoe.sim.speculate.predictors import heuristics
from specmoe.sim.speculate.predictors.counted import Adaptive, Frequency, Transition, Transition2
from specmoe.sim.speculate.predictors.matched import ActivationMatch, TokenIdentity
from specmoe.sim.speculate.predictors.noisy_oracle import NoisyOracle

LARGE = 1e300  # beyond any number of sense
MOST = {"depth": 1000, "capacity": 10**6, "history": 1000, "top": 1000}  # of whole numbers that memory depends on

_BUILT_IN: dict[str, Callable[..., Predictor]] = {
    "none": heuristics.Nobody,
    "previous_step": heuristics.PreviousStep,
    "layer_minus_1": heuristics.LayerMinus1,
    "multi_layer": heuristics.MultiLayer,
    "frequency": Frequency,
    "frequency-sequence": partial(Frequency, warm=False, reset="sequence"),
    "frequency-decayed": partial(Frequency, half_life=64),
    "transition": Transition,
    "transition-2": Transition2,
    "adaptive": Adaptive,
    "activation_match": ActivationMatch,
    "token_identity": TokenIdentity,
    "lookahead": heuristics.LookAhead,
    "learned-contextual": partial(Learned, architecture="contextual"),
    "learned-transformer": partial(Learned, architecture="transformer"),
    "learned-hierarchical": partial(Learned, architecture="hierarchical"),
    "learned-fusion": partial(Learned, architecture="fusion"),
    "pregated": heuristics.PreGated,
    "all": heuristics.Everybody,
    "noisy_oracle": NoisyOracle,
    "oracle": heuristics.Oracle,
}


def _wrong(name: str, value: Any) -> str:
    """What a plug-in should be instead; what makes configured ones is not one, a policy's parameters do that."""
    fits = isinstance(value, type) and issubclass(value, Predictor) and not isabstract(value)
    return "" if fits else f"{value!r}: a class that implements specmoe.sim.speculate.predictor.Predictor expected"


PREDICTORS: Table[Callable[..., Predictor]] = Table("specmoe.predictors", _BUILT_IN, _wrong)


def keywords(name: str) -> tuple[str, ...]:
    """What a predictor can be configured by; raises InputError for an unknown one."""
    PREDICTORS.require_usable(name)
    if name not in PREDICTORS:
        raise InputError(f"predictor {name!r}: {hint(name, PREDICTORS)}")
    return tuple(signature(PREDICTORS[name]).parameters)


def make_predictor(name: str, parameters: dict[str, Any] | None = None) -> Predictor:
    """A predictor by its name; raises InputError for an unknown name, keyword or value."""
    known = keywords(name)
    for keyword in parameters or {}:
        if keyword not in known:
            raise InputError(f"predictor {name} has no {keyword}: {hint(keyword, known)}")
    defaults = signature(PREDICTORS[name]).parameters
    for keyword, value in (parameters or {}).items():
        _require_kind(keyword, value, defaults[keyword].default)
    return PREDICTORS[name](**(parameters or {}))


def _require_kind(keyword: str, value: Any, default: Any) -> None:
    """Raise InputError for a value of another kind than the keyword's default."""
    most = MOST.get(keyword, 2**31 - 1)
    kinds: dict[type, tuple[str, bool]] = {
        bool: ("true or false", isinstance(value, bool)),
        int: (f"a whole number, 0 to {most},", type(value) is int and 0 <= value <= most),
        float: ("a number", type(value) in (int, float) and abs(value) < LARGE),
        str: ("a text", isinstance(value, str)),
    }
    expected, fits = kinds.get(type(default), ("", True))
    if not fits and value != default:
        raise InputError(f"predictor.{keyword}={value}: {expected} expected")


Device = Literal["cpu", "cuda"]
RUNNING_TIMES = Path(__file__).parents[1] / "running_time.toml"
MOST_TOKENS = 16  # a step, when running times were measured
FREE = ("none", "oracle", "noisy_oracle", "all", "pregated")  # by definition, or the model itself did it
ON_THE_DEVICE = ("lookahead",)  # one more router, whose cost the profile tells
METRICS = "metrics.json"  # of a checkpoint; its `running_time` is {device: {"fixed_ns": ..., "per_token_ns": ...}}


class RunningTime(NamedTuple):
    """Time of one (step, layer), guessing one layer ahead."""

    fixed_ns: int
    per_token_ns: int
    ref: str

    def ns(self, tokens: int) -> int:
        """Time for a (step, layer) with `tokens` tokens, ns."""
        return self.fixed_ns + self.per_token_ns * tokens


def running_time(predictor: str, parameters: dict[str, Any]) -> RunningTime | None:
    """Of a predictor by name on its `device`, as shipped, or of the checkpoint that it names; None if nobody knows."""
    device = device_of(parameters)
    if parameters.get("checkpoint"):
        return _of_checkpoint(Path(parameters["checkpoint"]), device)
    return shipped_times().get((predictor, device))


def is_extrapolated(parameters: dict[str, Any], tokens: int) -> bool:
    """Whether more tokens run at once than when shipped times were measured; a checkpoint's are of its own phase."""
    return tokens > MOST_TOKENS and not parameters.get("checkpoint")


def device_of(parameters: dict[str, Any]) -> Device:
    """Where a predictor with these keywords runs. Default: on the host."""
    return "cuda" if str(parameters.get("device", "cpu")).startswith("cuda") else "cpu"


@cache
def shipped_times() -> dict[tuple[str, Device], RunningTime]:
    """All running times in `running_time.toml`."""
    return read_times(RUNNING_TIMES)


def read_times(path: Path) -> dict[tuple[str, Device], RunningTime]:
    """Running times of a file; raises InputError for anything else."""
    found: dict[tuple[str, Device], RunningTime] = {}
    devices: tuple[Device, ...] = ("cpu", "cuda")
    for name, table in read_toml(path).items():
        place = Place(str(path), name)
        by_device = isinstance(table, dict) and set(table) <= set(devices)
        for device in devices if by_device else devices[:1]:
            if not by_device or device in table:
                found[name, device] = (
                    _read_time(place / device, table[device]) if by_device else _read_time(place, table)
                )
    return found


def measured_time(predictor: Predictor, one: Routed, many: Routed, repeats: int = 7) -> RunningTime:
    """From the time of a (step, layer) at two batch sizes, in the best of some runs; `many` has more tokens a step."""
    few, most = (min(predictor.event_seconds(part) for _ in range(repeats)) * 1e9 for part in (one, many))
    tokens = [len(part.workload.rows) / part.workload.num_steps for part in (one, many)]
    if tokens[1] <= tokens[0]:
        raise InputError(f"{tokens[1]:g} tokens a step: more than {tokens[0]:g} expected, to tell what one costs")
    slope = max(0.0, (most - few) / (tokens[1] - tokens[0]))
    return RunningTime(max(0, round(few - slope * tokens[0])), round(slope), "measured here and now")


def _read_time(place: Place, table: object) -> RunningTime:
    found = require_names(place, table, ("fixed", "per_token"))
    fixed, token = (read_quantity(place / name, found[name], "ns") for name in ("fixed", "per_token"))
    return _made(fixed, token)


def _made(fixed: Quantity, per_token: Quantity) -> RunningTime:
    return RunningTime(round(fixed.value), round(per_token.value), f"{fixed.source}: {fixed.ref}")


def _of_checkpoint(checkpoint: Path, device: Device) -> RunningTime | None:
    """What was measured when it was trained; None if nothing was."""
    path = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / METRICS
    with suppress(InputError), parsing(path, "metrics of a training"):
        times = read_json(path)["running_time"][device]
        return RunningTime(round(times["fixed_ns"]), round(times["per_token_ns"]), f"measured: {path}")
    return None

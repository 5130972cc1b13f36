"""How long predicting takes: measured once, kept in `running_time.toml`, charged to every run.

For each (step, layer): a fixed time and one for each token. The host's are those of the numpy reference implementations
here, on the CPU that the reference names; a native one would be faster, a weaker host slower. Predictors that are part
of the model, or know by definition, take none.
"""

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from specmoe.errors import InputError
from specmoe.files import Place, parsing, read_json, read_toml, require_names
from specmoe.hwprofiles.quantity import Quantity, read_quantity
from specmoe.sim.speculate.predictor import Predictor, Routed

Device = Literal["cpu", "cuda"]
FILE = Path(__file__).with_name("running_time.toml")
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
    return shipped().get((predictor, device))


def is_extrapolated(parameters: dict[str, Any], tokens: int) -> bool:
    """Whether more tokens run at once than when shipped times were measured; a checkpoint's are of its own phase."""
    return tokens > MOST_TOKENS and not parameters.get("checkpoint")


def device_of(parameters: dict[str, Any]) -> Device:
    """Where a predictor with these keywords runs. Default: on the host."""
    return "cuda" if str(parameters.get("device", "cpu")).startswith("cuda") else "cpu"


@cache
def shipped() -> dict[tuple[str, Device], RunningTime]:
    """All running times in `running_time.toml`."""
    return read(FILE)


def read(path: Path) -> dict[tuple[str, Device], RunningTime]:
    """A file of running times; raises InputError for anything else."""
    found: dict[tuple[str, Device], RunningTime] = {}
    devices: tuple[Device, ...] = ("cpu", "cuda")
    for name, table in read_toml(path).items():
        place = Place(str(path), name)
        by_device = isinstance(table, dict) and set(table) <= set(devices)
        for device in devices if by_device else devices[:1]:
            if not by_device or device in table:
                found[name, device] = _read(place / device, table[device]) if by_device else _read(place, table)
    return found


def measure(predictor: Predictor, one: Routed, many: Routed, repeats: int = 7) -> RunningTime:
    """From the time of a (step, layer) at two batch sizes, in the best of some runs; `many` has more tokens a step."""
    few, most = (min(predictor.event_seconds(part) for _ in range(repeats)) * 1e9 for part in (one, many))
    tokens = [len(part.workload.rows) / part.workload.num_steps for part in (one, many)]
    if tokens[1] <= tokens[0]:
        raise InputError(f"{tokens[1]:g} tokens a step: more than {tokens[0]:g} expected, to tell what one costs")
    slope = max(0.0, (most - few) / (tokens[1] - tokens[0]))
    return RunningTime(max(0, round(few - slope * tokens[0])), round(slope), "measured here and now")


def _read(place: Place, table: object) -> RunningTime:
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

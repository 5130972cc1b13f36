"""Tokens per second that others published, beside what is predicted for the same card, model, format and runtime.

    for one in reproduce(read_rows(None)):
        one["measured"], one["tokens_per_second"], one["low"], one["high"], one["error"], one["reason"]

The list is data/public_tokens_per_second.csv; none of it decides a number here. `public_names` says what its words
mean. A resident model is timed by `sim.resident`, one that loads experts by the engine on drawn routing.
"""

import csv
import dataclasses
import math
import tempfile
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from specmoe.errors import InputError, SpecmoeError
from specmoe.files import parsing, read_text
from specmoe.hwprofiles.catalogue import SUFFIX, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.cpu import CpuExperts
from specmoe.hwprofiles.expected_error import accuracies, published_errors
from specmoe.hwprofiles.launches import size_of
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import ModelShape
from specmoe.sim.advise.setting import LIKELY, MOST_SEQUENCES, draw
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.misses import named
from specmoe.sim.decide.policy import POLICIES, policy
from specmoe.sim.reproduce.public_cpu import (
    OnCpu,
    routed_bytes,
    shares_in_ram,
    step_with_cpu_ns,
    usual_host,
    with_cpu,
)
from specmoe.sim.reproduce.public_hosts import RowHost, host_of
from specmoe.sim.reproduce.public_names import (
    Held,
    Offload,
    UnpredictableError,
    batch_of,
    context_of,
    held_of,
    policy_of,
    profile_of,
    samples_on_host,
    shape_of,
    style_of_runtime,
)
from specmoe.sim.resident import ResidentModel, ResidentStep
from specmoe.sim.run import Scenario

DATA = files("specmoe.hwprofiles") / "data"
LIST, REASONS = "public_tokens_per_second.csv", "public_reasons.toml"
NEEDED = ("gpu", "model", "quant", "runtime", "policy", "batch", "context")
HOST_COLUMNS = ("cpu", "ram", "link")  # of lists that have no column `host`
MEASURED = ("decode_tps", "tps", "tg_tps")  # names of `tokens_per_second` in other lists
PREDICTED = (
    "tokens_per_second",
    "low",
    "high",
    "measured",
    "error",
    "profile",
    "shape",
    "format",
    "dense_format",
    "style",
    "evidence",
    "reason",
    "range",
)
ASSUMED_NS_A_LOGIT = 2.2  # see `sampling_ns`
OFFLOADED_STEPS = 300  # of which the second half counts

Row = dict[str, str]


class Rate(NamedTuple):
    """A predicted throughput of all sequences, tokens/s, its range, and how the range was made."""

    tokens_per_second: float
    low: float
    high: float
    range: str


def shipped_list() -> Path:
    """The list that comes with the package."""
    return Path(str(DATA / LIST))


def read_rows(path: Path | None = None) -> list[Row]:
    """The rows of a list (default: the shipped one); raises InputError in one line if it is not such a list."""
    file = path or shipped_list()
    text, what = read_text(file, "a CSV table"), f"a CSV table with the columns {', '.join(NEEDED)}"
    with parsing(file, what):
        header, *lines = [line for line in csv.reader(text.removeprefix("\ufeff").splitlines(), strict=True) if line]
    names = [name.strip() for name in header]
    others = any(name in names for name in MEASURED)
    missing = [name for name in NEEDED if name not in names and not (others and name == "batch")]
    if missing or len(set(names)) < len(names):
        wrong = f"{missing[0]} is missing" if missing else "a column comes twice"
        raise InputError(f"{file}: not {what} ({wrong})")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(names):
            raise InputError(f"{file}: row {number}: {len(line)} fields: {len(names)}, as in the header, expected")
    return [_completed(dict(zip(names, line, strict=True))) for line in lines]


def _completed(row: Row) -> Row:
    """A row with the columns host, batch and tokens_per_second, made of what other lists have instead."""
    host = ", ".join(row[name] for name in HOST_COLUMNS if row.get(name))
    measured = next((row[name] for name in MEASURED if name in row), None)
    made = {"host": host, "batch": "1", "tokens_per_second": measured}
    return row | {name: value for name, value in made.items() if name not in row and value is not None}


def reproduce(rows: Sequence[Row], host: str | None = None) -> list[dict[str, Any]]:
    """One object a row, in the same order: its columns, then PREDICTED; `tokens_per_second` is the prediction.

    All cards stand in `host`; by default, each in its usual one.
    """
    return [_reproduced(row, host) for row in rows]


def _reproduced(row: Row, host: str | None) -> dict[str, Any]:
    measured = _number(row.get("tokens_per_second", ""))
    one: dict[str, Any] = row | dict.fromkeys(PREDICTED) | {"measured": measured}
    try:
        rate, setting = _predicted(row, host)
    except (UnpredictableError, SpecmoeError) as unpredictable:
        return one | {"reason": str(unpredictable)}
    off = rate.tokens_per_second / measured - 1 if measured else None
    reasons = [known for known in (reason_of(row), setting.pop("note")) if known]
    return one | rate._asdict() | setting | {"error": off, "reason": "; ".join(reasons) or None}


def _predicted(row: Row, host: str | None) -> tuple[Rate, dict[str, Any]]:
    """Prediction of a row and what it is of; raises UnpredictableError or SpecmoeError if there is none."""
    profile, shape = profile_of(row["gpu"], host), shape_of(row["model"])
    asked = policy_of(row["policy"], row["runtime"], shape.experts.number)
    held = held_of(row["quant"].strip() or row["model"], row["runtime"])
    batch, context = batch_of(row["batch"]), context_of(row["context"])
    notes = [held.note, _approximated(shape)]
    cpu = None
    if isinstance(asked, OnCpu) or (asked and POLICIES[named(asked.policy)[0]].uses_cpu):
        cpu = None if host else host_of(row.get("host", ""), row["runtime"])
        cpu = cpu or usual_host(profile, stated=host is not None)
        profile = with_cpu(profile, cpu, held.formats)
        notes.append(cpu.note)
    if isinstance(asked, Offload):
        model = row["model"] if row["model"].endswith(SUFFIX) else shape.name
        rate, costs, note = _offloaded(profile, model, held, asked, batch)
        notes.append(note)
    else:
        style, launches = style_of_runtime(row["runtime"])
        costs = Costs(profile, shape, held.experts, launches, moves=(), style=style, dense_format=held.dense)
        model_in_vram = ResidentModel(costs, held.head, held.mix)
        sampling = batch * sampling_ns(profile, shape) if samples_on_host(row["runtime"], row.get("source", "")) else 0
        if asked is None or cpu is None:
            rate = resident_rate(model_in_vram, batch, context, sampling)
        else:
            rate, note = cpu_rate(model_in_vram, cpu, asked, batch, context, sampling)
            notes.append(note)
            costs = dataclasses.replace(costs, cpu=CpuExperts(profile, size_of(shape), held.experts))
        notes.append(f"{sampling / 1e6:.2g} ms of sampling on the host are assumed" if sampling else "")
    of = {"profile": profile.name, "shape": shape.name, "format": held.experts, "dense_format": held.dense}
    said = "; ".join(dict.fromkeys(text for text in notes if text))
    return rate, of | {"style": str(costs.style), "evidence": costs.evidence, "note": said}


def cpu_rate(
    model: ResidentModel, host: RowHost, asked: OnCpu, batch: int, context: int, sampling: int = 0
) -> tuple[Rate, str]:
    """Throughput where some experts stay in RAM, and what is to be said of it."""
    in_ram = shares_in_ram(asked, model)
    usual, slowest, fastest = (
        batch / (step_with_cpu_ns(model, host, in_ram, batch, context, end) + sampling) * 1e9
        for end in ("usual", "slowest", "fastest")
    )
    in_vram = model.bytes - routed_bytes(model) * sum(in_ram) / len(in_ram)
    vram = model.costs.profile["device.vram"]
    too_large = f"its weights in VRAM, {in_vram / 2**30:.1f} GiB, do not fit into {vram / 2**30:.1f} GiB"
    band, _ = _band()
    low, high = min(slowest, usual * max(0, 1 - band)), max(fastest, usual * (1 + band))
    basis = f"what CPU, memory, hand-off and kernels were seen to reach, and at least {band:.0%}".replace("%", " %")
    return Rate(usual, low, high, basis), too_large if in_vram > vram else ""


def sampling_ns(profile: HardwareProfile, shape: ModelShape) -> int:
    """Time of choosing a token on the host: its logits are copied there, sorted by rank and summed.

    The copy is the profile's. The rest, `ASSUMED_NS_A_LOGIT`, is that of compiled loops on one core of a server: a
    copy, a histogram for the largest 40, and a sum of exponentials over 201,088 logits took 0.45 ms.
    """
    return profile.curve("device_to_host")(4 * shape.vocab) + round(ASSUMED_NS_A_LOGIT * shape.vocab)


def resident_rate(model: ResidentModel, batch: int, context: int, sampling: int = 0) -> Rate:
    """Throughput of a resident model with `sampling` ns more a step; raises UnpredictableError if it does not fit."""
    vram = model.costs.profile["device.vram"]
    if model.bytes > vram:
        raise UnpredictableError(f"its weights, {model.bytes / 2**30:.1f} GiB, do not fit into {vram / 2**30:.1f} GiB")
    usual, slowest, fastest = (
        batch / (ResidentStep.of(model, batch, context, end).total_ns + sampling) * 1e9
        for end in ("usual", "slowest", "fastest")
    )
    band, basis = _band()
    low, high = min(slowest, usual * max(0, 1 - band)), max(fastest, usual * (1 + band))
    return Rate(usual, low, high, f"what kernels were seen to reach of a machine's rates, and at least {basis}")


def _band() -> tuple[float, str]:
    """Least range of a prediction: errors against figures that others published, else those of our own replays."""
    if published := published_errors():
        worst = max(published, key=lambda row: row.p95_abs_error)
        return worst.p95_abs_error, f"{worst.p95_abs_error:.0%}, as 95% of published figures".replace("%", " %")
    error = max(row.worst_abs_error for row in accuracies())
    return error, f"{error:.0%}, the largest error of a replay".replace("%", " %")


def _offloaded(
    profile: HardwareProfile, model: str, held: Held, offload: Offload, batch: int
) -> tuple[Rate, Costs, str]:
    """Throughput of a policy that loads experts, warm, on drawn routing; and what differs."""
    if batch > MOST_SEQUENCES:
        raise UnpredictableError(f"batch {batch}: at most {MOST_SEQUENCES} sequences are simulated where experts load")
    shape = load_shape(model)
    slots = offload.slots_a_layer and offload.slots_a_layer * shape.decoder.moe_layers
    chosen, note = policy(offload.policy), f"routing is drawn: experts alike, {LIKELY:.0%} used again"
    if chosen.predictor == "lookahead":  # which only a recorded trace has
        chosen = dataclasses.replace(chosen, predictor="none", prefetch=None)
        note += ", without prefetching by routers looked at ahead"
    with tempfile.TemporaryDirectory() as directory:
        trace = str(draw(shape, LIKELY, batch, Path(directory)))
        config = RunConfig(
            trace, "", profile, model, held.experts, slots, batch=batch, steps=OFFLOADED_STEPS, dense_format=held.dense
        )
        scenario = Scenario(config)
        chosen = scenario.with_rates(chosen)
        decisions = scenario.decide(chosen, scenario.slots)
        ends = scenario.run_decided(chosen, decisions, scenario.slots).timing.step_end
    half = len(ends) // 2
    rate = batch * (len(ends) - 1 - half) / float(ends[-1] - ends[half]) * 1e9
    band, basis = _band()
    return Rate(rate, rate * max(0, 1 - band), rate * (1 + band), basis), scenario.costs, note.replace("%", " %")


def _approximated(shape: ModelShape) -> str:
    return f"the shape of {shape.name} is approximated" if shape.source.startswith("approximated") else ""


def _number(text: str) -> float | None:
    """The number of a text, or the middle of a range such as 65-66; None if it is neither."""
    try:
        low, _, high = text.partition("-")
        value = (float(low) + float(high or low)) / 2
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def reason_of(row: Row) -> str | None:
    """What is known to differ between a row and its prediction: the first known reason all of whose fields fit."""
    for known in _reasons():
        if all(part in row.get(name, "") for name, part in known.items() if name != "reason"):
            return known["reason"]
    return None


@cache
def _reasons() -> tuple[dict[str, str], ...]:
    return tuple(tomllib.loads((DATA / REASONS).read_text(encoding="utf-8"))["known"])

"""Tokens per second that others published, beside what is predicted for the same card, model, format and runtime.

    for one in reproduce(read_rows(None)):
        one["measured"], one["tokens_per_second"], one["low"], one["high"], one["error"], one["reason"]

The list is data/public_tokens_per_second.csv; none of it decides a number here. `public_names` says what its words
mean. A resident model is timed by `sim.resident`, one that loads experts by the engine on drawn routing.

The range of a prediction is made of what is not known of the machine and of the model's own error. Both are
independent, so their logarithms add as squares:

    ln(high / usual)^2 = ln(fastest / usual)^2 + spread^2

The fastest and slowest machine are those of the row's host and kernels. The spread is that |ln(predicted / measured)|
below which are eight of ten figures of the shipped list with experts in the same place (`resident`, `cpu`, `loaded`);
all figures of one source on one card count as one. Of n such machines it is the quantile 0.8 (n + 1) / n, which a
further one is below in eight of ten cases. data/public_spread.json has it; docs/build_public.py makes it.
"""

import json
import math
import tempfile
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from specmoe.errors import SpecmoeError
from specmoe.hwprofiles.catalogue import SUFFIX, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.cpu import CpuExperts
from specmoe.hwprofiles.launches import size_of
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import ModelShape
from specmoe.sim.advise.setting import LIKELY, MOST_SEQUENCES, draw
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.misses import named
from specmoe.sim.decide.policy import POLICIES, policy
from specmoe.sim.reproduce import public_cpu, public_names
from specmoe.sim.reproduce.public_cards import profile_of
from specmoe.sim.reproduce.public_hosts import RowHost, host_of
from specmoe.sim.reproduce.public_rows import DATA, WRONG, Row, UnpredictableError, number_of
from specmoe.sim.resident import ResidentModel, ResidentStep
from specmoe.sim.run import Scenario

REASONS = "public_reasons.toml"
PREDICTED = (
    "tokens_per_second",
    "low",
    "high",
    "measured",
    "error",
    "kind",
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
LITTLE = 0.05  # of VRAM
OFFLOADED_STEPS = 300  # of which the second half counts
SPREAD = files("specmoe.hwprofiles") / "data" / "public_spread.json"
COVERED = 0.8  # of machines
FEWEST = 4  # machines of a kind that have a spread of their own: with fewer the quantile is beyond the largest error
KINDS = ("resident", "cpu", "loaded")
Rows = Sequence[dict[str, Any]]


class Rate(NamedTuple):
    """A predicted throughput of all sequences, tokens/s, its range, and how the range was made."""

    tokens_per_second: float
    low: float
    high: float
    range: str = ""


def reproduce(rows: Sequence[Row], host: str | None = None) -> list[dict[str, Any]]:
    """One object a row, in the same order: its columns, then PREDICTED; `tokens_per_second` is the prediction.

    A row that cannot be predicted has None there, and why in `reason`. All cards stand in `host`; by default, each in
    its usual one.
    """
    return [_reproduced(row, host) for row in rows]


def _reproduced(row: Row, host: str | None) -> dict[str, Any]:
    measured = number_of(row.get("tokens_per_second", ""))
    one: dict[str, Any] = row | dict.fromkeys(PREDICTED) | {"measured": measured}
    wrong = one.pop(WRONG, None)
    try:
        if wrong:
            raise UnpredictableError(wrong)
        rate, setting = _predicted(row, host)
    except (UnpredictableError, SpecmoeError) as unpredictable:
        return one | {"reason": str(unpredictable)}
    off = rate.tokens_per_second / measured - 1 if measured else None
    reasons = [known for known in (reason_of(row), setting.pop("note")) if known]
    return one | rate._asdict() | setting | {"error": off, "reason": "; ".join(reasons) or None}


def _predicted(row: Row, host: str | None) -> tuple[Rate, dict[str, Any]]:
    """Prediction of a row and what it is of; raises UnpredictableError or SpecmoeError if there is none."""
    profile, shape = profile_of(row["gpu"], host), public_names.shape_of(row["model"])
    asked = public_names.policy_of(row["policy"], row["runtime"], shape)
    held = public_names.held_of(row["quant"].strip() or row["model"], row["runtime"], row["model"])
    batch, context = public_names.batch_of(row["batch"]), public_names.context_of(row["context"])
    style, launches = public_names.style_of_runtime(row["runtime"])
    costs = Costs(profile, shape, held.experts, launches, moves=(), style=style, dense_format=held.dense)
    model, notes = ResidentModel(costs, held.head, held.mix), [held.note, _approximated(shape)]
    if asked is None and public_names.is_unsaid(row["policy"]) and model.bytes > profile["device.vram"]:
        asked = public_cpu.OnCpu("last")
        notes.append("no policy is named: what does not fit into VRAM stays in RAM")
    if isinstance(asked, public_cpu.OnCpu) and not any(public_cpu.shares_in_ram(asked, model)):
        asked = None  # as with n-cpu-moe 0
    cpu = None
    if isinstance(asked, public_cpu.OnCpu) or (asked and POLICIES[named(asked.policy)[0]].uses_cpu):
        cpu = None if host else host_of(row.get("host", ""), row["runtime"])
        cpu = cpu or public_cpu.usual_host(profile, stated=host is not None)
        profile = public_cpu.with_cpu(profile, cpu, held.formats)
        model = replace(model, costs=replace(costs, profile=profile))
        notes.append(cpu.note)
    if isinstance(asked, public_names.Offload):
        name = row["model"] if row["model"].endswith(SUFFIX) else shape.name
        rate, costs, note = _offloaded(profile, name, held, asked, batch)
        kind = "loaded"
    else:
        sampling = (
            batch * sampling_ns(profile, shape)
            if public_names.samples_on_host(row["runtime"], row.get("source", ""))
            else 0
        )
        if asked is None or cpu is None:
            rate, note, kind = *resident_rate(model, batch, context, sampling), "resident"
        else:
            rate, note, kind = *cpu_rate(model, cpu, asked, batch, context, sampling), "cpu"
            costs = replace(model.costs, cpu=CpuExperts(profile, size_of(shape), held.experts))
        notes.append(f"{sampling / 1e6:.2g} ms of sampling on the host are assumed" if sampling else "")
    of = {"kind": kind, "profile": profile.name, "shape": shape.name, "format": held.experts}
    said = "; ".join(dict.fromkeys(text for text in (*notes, note) if text))
    of |= {"dense_format": held.dense, "style": str(costs.style), "evidence": costs.evidence, "note": said}
    return widened(rate, kind), of


def cpu_rate(
    model: ResidentModel, host: RowHost, asked: public_cpu.OnCpu, batch: int, context: int, sampling: int = 0
) -> tuple[Rate, str]:
    """Throughput where some experts stay in RAM, and what is to be said of it."""
    in_ram = public_cpu.shares_in_ram(asked, model)
    usual, slowest, fastest = (
        batch / (public_cpu.step_with_cpu_ns(model, host, in_ram, batch, context, end) + sampling) * 1e9
        for end in ("usual", "slowest", "fastest")
    )
    in_vram = model.bytes - public_cpu.routed_bytes(model) * sum(in_ram) / len(in_ram)
    vram = model.costs.profile["device.vram"]
    rate = Rate(usual, slowest, fastest, "what CPU, memory, hand-off and kernels were seen to reach")
    return rate, _too_large(in_vram, vram) if in_vram > vram else ""


def _too_large(weights: float, vram: float) -> str:
    return f"its weights in VRAM, {weights / 2**30:.1f} GiB, do not fit into {vram / 2**30:.1f} GiB"


def sampling_ns(profile: HardwareProfile, shape: ModelShape) -> int:
    """Time of choosing a token on the host: its logits are copied there, sorted by rank and summed.

    The copy is the profile's. The rest, `ASSUMED_NS_A_LOGIT`, is that of compiled loops on one core of a server: a
    copy, a histogram for the largest 40, and a sum of exponentials over 201,088 logits took 0.45 ms.
    """
    return profile.curve("device_to_host")(4 * shape.vocab) + round(ASSUMED_NS_A_LOGIT * shape.vocab)


def resident_rate(model: ResidentModel, batch: int, context: int, sampling: int = 0) -> tuple[Rate, str]:
    """Throughput of a resident model with `sampling` ns more a step; raises UnpredictableError if it does not fit.

    The reported figure shows that weights did fit which are only a little larger than VRAM: a note says so.
    """
    vram = model.costs.profile["device.vram"]
    if model.bytes > vram * (1 + LITTLE):
        raise UnpredictableError(_too_large(model.bytes, vram))
    usual, slowest, fastest = (
        batch / (ResidentStep.of(model, batch, context, end).total_ns + sampling) * 1e9
        for end in ("usual", "slowest", "fastest")
    )
    note = f"{_too_large(model.bytes, vram)}, by our figures" if model.bytes > vram else ""
    return Rate(usual, slowest, fastest, "what kernels were seen to reach of a machine's rates"), note


def _offloaded(
    profile: HardwareProfile, model: str, held: public_names.Held, offload: public_names.Offload, batch: int
) -> tuple[Rate, Costs, str]:
    """Throughput of a policy that loads experts, warm, on drawn routing; and what differs."""
    if batch > MOST_SEQUENCES:
        raise UnpredictableError(f"batch {batch}: at most {MOST_SEQUENCES} sequences are simulated where experts load")
    shape = load_shape(model)
    slots = offload.slots_a_layer and offload.slots_a_layer * shape.decoder.moe_layers
    chosen, note = policy(offload.policy), f"routing is drawn: experts alike, {LIKELY:.0%} used again"
    if chosen.predictor == "lookahead":  # which only a recorded trace has
        chosen = replace(chosen, predictor="none", prefetch=None)
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
    return Rate(rate, rate, rate), scenario.costs, note.replace("%", " %")


def _approximated(shape: ModelShape) -> str:
    return f"the shape of {shape.name} is approximated" if shape.source.startswith("approximated") else ""


def reason_of(row: Row) -> str | None:
    """What is known to differ between a row and its prediction: the first known reason all of whose fields fit."""
    for known in _reasons():
        if all(part in row.get(name, "") for name, part in known.items() if name != "reason"):
            return known["reason"]
    return None


@cache
def _reasons() -> tuple[dict[str, str], ...]:
    return tuple(tomllib.loads((DATA / REASONS).read_text(encoding="utf-8"))["known"])


def widened(rate: Rate, kind: str, spread: float | None = None) -> Rate:
    """A rate whose ends are those of the machine, with the model's error (default: that of its kind) added."""
    usual, own = rate.tokens_per_second, spreads()[kind] if spread is None else spread
    low, high = (math.hypot(math.log(end / usual), own) for end in (rate.low, rate.high))
    text = f"{rate.range}; eight of ten public figures of such rows are off by less than {math.expm1(own):.0%}"
    return Rate(usual, usual * math.exp(-low), usual * math.exp(high), text.strip("; ").replace("%", " %"))


@cache
def spreads() -> dict[str, float]:
    """The spread of each kind, as shipped."""
    shipped: dict[str, float] = json.loads(SPREAD.read_text(encoding="utf-8"))
    return shipped


def spreads_of(rows: Rows) -> dict[str, float]:
    """The spread of each kind over predicted rows that have a measured value."""
    known = [row for row in rows if row["error"] is not None]
    return {kind: spread_of(known, kind) for kind in KINDS}


def spread_of(rows: Rows, kind: str) -> float:
    """The spread of a kind; that of all rows if it has too few machines."""
    own = [row for row in rows if row["kind"] == kind]
    if len({machine(row) for row in own}) < FEWEST:
        own = list(rows)
    times, seen = Counter(map(machine, own)), 0.0
    errors = sorted((abs(math.log(row["tokens_per_second"] / row["measured"])), 1 / times[machine(row)]) for row in own)
    for error, weight in errors:
        seen += weight
        if seen >= COVERED * (len(times) + 1) - 1e-9:
            return error
    return errors[-1][0]


def covered_unseen(rows: Rows) -> int:
    """Rows whose measured value is in the range that the figures of all other machines give."""
    known = [row for row in rows if row["error"] is not None]
    return sum(_covered(row, [one for one in known if machine(one) != machine(row)]) for row in known)


def _covered(row: dict[str, Any], others: Rows) -> bool:
    own, wanted = spreads()[row["kind"]], spread_of(others, row["kind"])
    usual = row["tokens_per_second"]
    ends = (math.sqrt(max(0.0, math.log(row[end] / usual) ** 2 - own**2)) for end in ("low", "high"))
    low, high = (math.hypot(end, wanted) for end in ends)
    return -high <= math.log(usual / row["measured"]) <= low


def machine(row: dict[str, Any]) -> tuple[str, str]:
    """Card and first word of the source: figures that share both are of one machine."""
    return row["gpu"], row["source"].split()[0]

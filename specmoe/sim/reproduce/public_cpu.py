"""A decode step of a runtime whose experts stay in RAM, in whole layers or a share of each, and the CPU computes them.

    layer on the CPU = hand-off + bytes of the chosen experts / min(read rate of the memory, rate of the kernel)

A step is that of the resident model, less the launches of experts that are not in VRAM, plus those layers: llama.cpp
computes layers one after the other, so a step is linear in the number of layers on the CPU (pull request 15077). Where
a layer has experts on both sides, they are computed side by side.

Hand-off is the start of the CPU's threads, both copies of the hidden state and the join: those of the usual desktop
(`hwprofiles/hosts`), which the engine has, too. Public fits put it at 8 to 95 us a layer; 20 us is what one row gives,
n-cpu-moe 40 on the RTX 3090 with DDR4-3000. It is the only number here that comes from the list. Rates of kernels are
those of the same desktop, by core.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from specmoe.hwprofiles.catalogue import load_host
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.cpu import PER_THREADS, CpuExperts
from specmoe.hwprofiles.kernels import Share
from specmoe.hwprofiles.launches import size_of
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import QUANTITIES, SLOWED_BY_COPY, SLOWS_COPY, Quantity
from specmoe.hwprofiles.shape import Format
from specmoe.sim.reproduce.public_hosts import CORES, RowHost
from specmoe.sim.resident import ResidentModel, ResidentStep

ASSUMED_VRAM_IN_USE = 0.9  # of VRAM, for weights, where a row does not say how many experts are in it
SERVER_READ, SERVER_CORES = Share(150e9, 60e9, 361.5e9), 32  # a Xeon 8358; EPYC 7402P to 9374F
_SERVER_CARD = re.compile(r"a100|h100|h200|v100|a40|l40|a10\b|t4\b|p40")
_USUAL = {3: "desktop-pcie3", 4: "desktop-ddr4-pcie4", 5: "desktop-ddr5-pcie5"}  # hosts by generation of the link
READ, THREADS = "cpu.read.bandwidth", "cpu.threads"
HANDOFF = ("cpu.start", "cpu.join")


class OnCpu(NamedTuple):
    """Which experts stay in RAM: of the `first` or `last` layers, a `share` of each layer's, or by a `pattern`.

    `number` is of layers, or a share in VRAM; None: as many in VRAM as fit.
    """

    where: str
    number: float | None = None
    pattern: str = ""


ALL_ON_CPU = OnCpu("share", 0.0)


def shares_in_ram(asked: OnCpu, model: ResidentModel) -> list[float]:
    """Share of each MoE layer's experts that stays in RAM."""
    shape = model.costs.shape
    decoder = shape.decoder
    layers = range(decoder.first_moe, decoder.layers, decoder.moe_every)
    if asked.where == "pattern":
        return [_matched(asked.pattern, layer) for layer in layers]
    fitting = share_that_fits(model)
    if asked.where == "share":
        return [1 - (fitting if asked.number is None else min(1.0, asked.number))] * len(layers)
    number = round(asked.number) if asked.number is not None else -int(-(1 - fitting) * len(layers) // 1)
    if asked.number is None:
        return [float(place < number) for place in _places(asked.where, len(layers))]
    indices = layers if asked.where == "first" else [decoder.layers - 1 - layer for layer in layers]
    return [float(index < number) for index in indices]


def _places(where: str, layers: int) -> Sequence[int]:
    return range(layers) if where == "first" else range(layers - 1, -1, -1)


def share_that_fits(model: ResidentModel) -> float:
    """Share of all routed experts that VRAM holds beside the other weights."""
    routed = routed_bytes(model)
    room = ASSUMED_VRAM_IN_USE * model.costs.profile["device.vram"] - (model.bytes - routed)
    return min(1.0, max(0.0, room / routed))


def routed_bytes(model: ResidentModel) -> float:
    """Size of all routed experts."""
    shape, mix = model.costs.shape, model.mix
    expert = float(shape.expert_bytes(model.costs.format))
    if mix:
        expert += mix.share * (shape.expert_bytes(mix.format) - expert)
    return shape.routed_experts * expert


def _matched(pattern: str, layer: int) -> float:
    """Share of a layer's three expert tensors whose names a pattern of llama.cpp's --override-tensor matches."""
    names = [f"blk.{layer}.ffn_{part}_exps.weight" for part in ("gate", "up", "down")]
    return sum(bool(re.search(pattern, name)) for name in names) / len(names)


def usual_host(profile: HardwareProfile, stated: bool = False) -> RowHost:
    """The host of a profile, if it is `stated` or measured; else the usual host of such cards.

    The range of the usual host is that of all hosts with as new a link, or a newer one.
    """
    own, note = _own(profile), "the row names no CPU and no memory: the usual host of the card"
    if own and (stated or READ not in profile or profile.quantities[READ].source == "measured"):
        return own
    if _SERVER_CARD.search(profile.name):
        return RowHost(SERVER_READ, SERVER_CORES, note)
    generation = int(profile["link.generation"])
    known = [load_host(name).quantities for at, name in sorted(_USUAL.items()) if at >= min(generation, max(_USUAL))]
    reads = [_share_of(quantities[READ]) for quantities in known]
    usual = own or RowHost(reads[0], int(known[0][THREADS].value))
    read = Share(
        usual.read.value,
        min(one.low for one in (usual.read, *reads)),
        max(one.high for one in (usual.read, *reads)),
    )
    return RowHost(read, usual.cores, note)


def _own(profile: HardwareProfile) -> RowHost | None:
    if THREADS not in profile:
        return None
    threads = int(profile[THREADS])
    if READ in profile:
        return RowHost(_share_of(profile.quantities[READ]), threads)
    points = profile.points.get("cpu.read.by_threads")
    if points is None:
        return None
    rate = max(PER_THREADS / time * 1e9 for time in points.times_ns)
    return RowHost(Share(rate, rate, rate), threads)


def _share_of(quantity: Quantity) -> Share:
    low, high = quantity.range or (quantity.value, quantity.value)
    return Share(quantity.value, low, high)


def with_cpu(profile: HardwareProfile, host: RowHost, held: Sequence[Format], end: str = "usual") -> HardwareProfile:
    """A machine with a row's CPU and memory, at an `end` (slowest, fastest) of their ranges; a layer is one call."""
    desktop, cores = _desktop(), host.cores or CORES
    values: dict[str, float] = {THREADS: cores, READ: _at(host.read, end)}
    for name in (f"cpu.{one}.rate" for one in held):
        if name in desktop:
            values[name] = _at(_share_of(desktop[name]), end) * cores / desktop[THREADS].value
    ref = "what the row says of its host, and public rates of CPUs"
    made = {name: Quantity(value, QUANTITIES[name], "derived", ref) for name, value in values.items()}
    made |= {name: desktop[name] for name in (*HANDOFF, SLOWED_BY_COPY, SLOWS_COPY)}
    kept = {name: one for name, one in profile.quantities.items() if not name.startswith("cpu.")}
    points = {name: one for name, one in profile.points.items() if not name.startswith("cpu.")}
    return replace(profile, quantities={**kept, **made}, points=points, cpu_curves=())


def _desktop() -> Mapping[str, Quantity]:
    return load_host(_USUAL[4]).quantities


def handoff_ns(costs: Costs, batch: int, end: str = "usual") -> float:
    """Time that a layer on the CPU takes beside its experts: their start, both small copies and the join."""
    parts = [_share_of(_desktop()[name]) for name in HANDOFF]
    times = {"usual": [one.value for one in parts], "slowest": [one.high for one in parts]}
    return sum(costs.hidden_ns(batch)) + sum(times.get(end, [one.low for one in parts]))


def _at(share: Share, end: str) -> float:
    return {"usual": share.value, "slowest": share.low, "fastest": share.high}[end]


def cpu_layer_ns(model: ResidentModel, host: RowHost, batch: int, end: str = "usual") -> float:
    """Time in which the CPU computes a layer's chosen experts, without the hand-off."""
    costs, mix = model.costs, model.mix
    number, tokens = model.experts(batch)
    machine = with_cpu(costs.profile, host, [costs.format, *([mix.format] if mix else [])], end)
    own = CpuExperts(machine, size_of(costs.shape), costs.format).expert_ns(tokens)
    if mix is None:
        return float(number * own)
    other = CpuExperts(machine, size_of(costs.shape), mix.format).expert_ns(tokens)
    return number * (own * (1 - mix.share) + other * mix.share)


def step_with_cpu_ns(
    model: ResidentModel, host: RowHost, in_ram: Sequence[float], batch: int, context: int, end: str = "usual"
) -> float:
    """Time of a step whose layers have a share `in_ram` of their experts in RAM."""
    resident = ResidentStep.of(model, batch, context, end).total_ns
    on_gpu, on_cpu = sum(model.experts_ns(batch, end)), cpu_layer_ns(model, host, batch, end)
    handoff = handoff_ns(model.costs, batch, end)
    return resident + sum(max((1 - ram) * on_gpu, handoff + ram * on_cpu) - on_gpu for ram in in_ram if ram)

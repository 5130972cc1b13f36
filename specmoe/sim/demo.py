"""The demo: all notable policies on a real decode trace of switch-base-128 on an RTX 3090.

Encoder and decoder share the VRAM; the decoder's experts get half of what is left for experts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import specmoe.traces
from specmoe import results
from specmoe.hwprofiles.shape import Format
from specmoe.level import Lead, real_lead, sentence
from specmoe.results import RunResult
from specmoe.sim.config import RunConfig
from specmoe.sim.decide import compiled
from specmoe.sim.draws import DRAWS, Draws
from specmoe.sim.run import Run, Scenario
from specmoe.sim.sweep.retiming import bounds_of
from specmoe.spread import add_fastest_shares
from specmoe.summary import summary

MACHINE = "rtx3090"
TRACE = "switch-mini-128/decode/test"
GIB = 1 << 30
BUDGETS_GIB = (1, 2, 4, 8, 12)
COMPARED = (  # policies: yardsticks, the best known systems, and the best predictors without a network
    "gpu-only",
    "oracle",
    "belady",
    "pregated-lru",
    "lookahead",
    "mixtral-offloading",
    "on-demand-lru",
    "pregated",
    "token-identity",
    "transition-2",
    "moe-infinity",
    "frequency",
    "static",
    "layer-minus-1",
    "on-demand",
    "prefetch-all",
)
SWEPT = ("on-demand-lru", "lookahead", "mixtral-offloading", "frequency", "static")


class Setting(NamedTuple):
    """One case: the format of the experts and the VRAM left for experts of both stacks, bytes."""

    title: str
    format: Format
    expert_bytes: int


class Answer(NamedTuple):
    """The runs of one setting by policy, the fastest one and why it is."""

    setting: Setting
    runs: dict[str, Run]
    summaries: list[dict[str, Any]]
    reason: str
    winner: Run


def settings(machine: str = MACHINE) -> list[Setting]:
    """Two settings: the whole model in fp32 on 24 GiB, and fp16 with 4 GiB left for experts."""
    whole = Scenario(RunConfig(TRACE, profile=machine, format="fp32", steps=1)).budget
    left = whole.slot_bytes + whole.free_bytes
    return [
        Setting(f"fp32: 30 GB of weights on 24 GiB, {left / GIB:.1f} GiB left for experts", "fp32", left),
        Setting("fp16, 4 GiB left for experts, half of it the decoder's", "fp16", 4 * GIB),
    ]


def runs(settings: list[Setting]) -> int:
    """Number of runs of the whole demo."""
    return len(settings) * len(COMPARED) + len(BUDGETS_GIB) * len(SWEPT)


def answer(
    setting: Setting, steps: int, on_policy: Callable[[str], object] = lambda name: None, machine: str = MACHINE
) -> Answer:
    """Simulate the policies `COMPARED` in one setting, on `DRAWS` machines that fit what is known of this one too."""
    runs = dict(_runs(setting, COMPARED, steps, on_policy, machine))
    summaries = [summary(run.result) for run in runs.values()]
    add_fastest_shares(summaries)
    lead = real_lead(summaries)
    assert lead is not None, "some of the policies compared are real"
    return Answer(setting, runs, summaries, reason(summaries, lead), runs[lead.best.policy])


def memory_sweep(
    steps: int, on_policy: Callable[[str], object] = lambda name: None, machine: str = MACHINE
) -> Iterator[RunResult]:
    """Results of a few policies with 1 to 12 GiB left for experts, fp16."""
    for budget in BUDGETS_GIB:
        for _, run in _runs(Setting("", "fp16", budget * GIB), SWEPT, steps, on_policy, machine):
            yield run.result


def _runs(
    setting: Setting, policies: Sequence[str], steps: int, on_policy: Callable[[str], object], machine: str
) -> Iterator[tuple[str, Run]]:
    """Runs with their spread, by policy."""
    config = RunConfig(TRACE, profile=machine, format=setting.format, steps=steps, draws=DRAWS)
    scenario, draws = scenario_of(config, setting.expert_bytes), Draws()
    for name in policies:
        yield name, draws.add_to(scenario, scenario.run(name), scenario.policy(name))
        on_policy(name)


def cliff_slots() -> int:
    """Number of slots up to which an LRU has no hits on the demo's trace at batch 1."""
    meta = specmoe.traces.open(TRACE).meta
    return results.cliff_slots(meta.num_layers * meta.top_k, 1, meta.num_layers)


def scenario_of(config: RunConfig, expert_bytes: int) -> Scenario:
    """A scenario of which `expert_bytes` of VRAM are left for the experts of both stacks, with its bounds."""
    compiled.load()
    whole = Scenario(config)
    taken = whole.budget.vram_bytes - whole.budget.slot_bytes - whole.budget.free_bytes
    scenario = Scenario(replace(config, vram=taken + expert_bytes), routing=whole.routing)
    scenario.set_bounds(scenario.slots, *bounds_of([scenario], scenario.slots))
    return scenario


def reason(summaries: Sequence[dict[str, Any]], lead: Lead) -> str:
    """Which policy wins or is level, why, and how far it is from perfect knowledge, in a sentence or two."""
    rows = {row["policy"]: row for row in summaries}
    best, short = rows[lead.best.policy], 1 - rows[lead.best.policy]["oracle_ns"] / lead.best.mean_ns
    perfect = f"Perfect knowledge would take {100 * short:.0f} % less."
    if lead.level:
        return f"{sentence(lead)}. {perfect}"
    assert lead.behind is not None, "several real policies were compared"
    second, gain = rows[lead.behind.policy], lead.behind.mean_ns / lead.best.mean_ns - 1
    stall, other = (row["stall_ns"] / row["steps"] / 1e6 for row in (best, second))
    how = f"{100 * best['hit_rate']:.0f} % hits against {100 * second['hit_rate']:.0f} %"
    return (
        f"{best['policy']} wins, {100 * gain:.0f} % faster than {second['policy']}: {how}, so compute waits "
        f"{stall:.2f} ms a step for the link instead of {other:.2f}. {perfect}"
    )

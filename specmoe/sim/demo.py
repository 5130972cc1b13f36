"""The demo: all notable policies on a real decode trace of switch-base-128 on an RTX 3090.

Encoder and decoder share the VRAM; the decoder's experts get half of what is left for experts.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import specmoe.traces
from specmoe import summary
from specmoe.hwprofiles.shape import Format
from specmoe.results import Manifest
from specmoe.sim.config import RunConfig
from specmoe.sim.decide import compiled
from specmoe.sim.routing import Routing
from specmoe.sim.run import Run, Scenario
from specmoe.sim.sweep.evaluate import summed
from specmoe.sim.sweep.retiming import DRAWS, Draws, bounds_of
from specmoe.summary import Row
from specmoe.uncertainty import Lead, add_fastest_shares, real_lead, sentence

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
    """The runs of one setting, the policy that is the fastest, and why it is."""

    setting: Setting
    manifests: list[Manifest]
    summaries: list[Row]
    best: str
    reason: str
    scenario: Scenario

    def winner(self) -> Run:
        """The fastest policy's run, event by event."""
        return self.scenario.run(self.best)


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


class Demo:
    """All runs of the demo on one machine; they share the routing, and the machines that are drawn."""

    def __init__(self, steps: int, on_policy: Callable[[str], object] = lambda name: None, machine: str = MACHINE):
        self._config = RunConfig(TRACE, profile=machine, steps=steps, draws=DRAWS)
        self._on_policy, self._draws = on_policy, Draws()

    @cached_property
    def _routing(self) -> Routing:
        return Routing(*self._config.routing, None)

    def answer(self, setting: Setting) -> Answer:
        """Simulate the policies `COMPARED` in one setting, on machines that fit what is known of this one too."""
        scenario = scenario_of(replace(self._config, format=setting.format), setting.expert_bytes, self._routing)
        manifests, summaries = zip(*self._runs(scenario, COMPARED), strict=True)
        add_fastest_shares(summaries)
        lead = real_lead(summaries)
        assert lead is not None, "some of the policies compared are real"
        best, why = lead.best.policy, reason(summaries, lead)
        return Answer(setting, [*manifests], [*summaries], best, why, scenario)

    def memory_sweep(self) -> list[tuple[Manifest, Row]]:
        """Runs of a few policies with 1 to 12 GiB left for experts, fp16."""
        config = replace(self._config, format="fp16")
        scenarios = (scenario_of(config, budget * GIB, self._routing) for budget in BUDGETS_GIB)
        return [run for scenario in scenarios for run in self._runs(scenario, SWEPT)]

    def _runs(self, scenario: Scenario, policies: Sequence[str]) -> list[tuple[Manifest, Row]]:
        found = []
        for name in policies:
            found.append(summed(scenario, name, self._draws))
            self._on_policy(name)
        return found


def cliff_slots() -> int:
    """Number of slots up to which an LRU has no hits on the demo's trace at batch 1."""
    meta = specmoe.traces.open(TRACE).meta
    return summary.cliff_slots(meta.num_layers * meta.top_k, 1, meta.num_layers)


def scenario_of(config: RunConfig, expert_bytes: int, routing: Routing | None = None) -> Scenario:
    """A scenario of which `expert_bytes` of VRAM are left for the experts of both stacks, with its bounds."""
    compiled.load()
    whole = Scenario(config, routing=routing)
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

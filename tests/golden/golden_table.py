"""Golden numbers: 60 steps of the bundled decode trace under every named policy. `python tests/golden/golden_table.py`
prints the table as it is now, beside the recorded one where they differ, for review; with `--write` it records it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from specmoe.sim.config import RunConfig
from specmoe.sim.decide.miss import Rates
from specmoe.sim.decide.policy import POLICIES, with_rates
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.evaluate import counts_of
from specmoe.summary import summary

RECORDED = Path(__file__).with_name("golden.json")
FIGURES = (
    "demands",
    "hits",
    "late_hits",
    "demand_loads",
    "prefetch_loads",
    "prefetch_useful",
    "predict_ns",
    "stall_ns",
    "host_ns",
    "compute_ns",
    "link_busy_ns",
)
RUNNABLE = [  # no network was trained, the machine has no CPU for experts, and changed uses are not timed
    name
    for name, row in POLICIES.items()
    if not (row.predictor.startswith("learned-") or row.uses_cpu or row.approximate)
]
ON_CPU = [name for name, row in POLICIES.items() if row.uses_cpu or row.approximate]
CPU_FIGURES = ("cpu_uses", "cpu_tokens", "later_loads", "later_useful", "cpu_ns", "cpu_stall_ns")
IN_A_HOST = "rtx3090+desktop-ddr5-pcie5"  # whose CPU is described
RATES = Rates(copy_ns=400_000, cpu_ns=150_000, both_ns=120_000, cpu_token_ns=30_000, gpu_ns=20_000)  # made up
CASES = {"b1-77": {"slots": 77}, "b4-40-priority": {"slots": 40, "batch": 4, "link": "priority"}}
CASES["b4-40-steady"] = {"slots": 40, "batch": 4, "warm_up": None, "staggered": True}


def table() -> dict[str, dict[str, Any]]:
    """Exact integers of every case and policy."""
    found = {}
    for case, options in CASES.items():
        spec: dict[str, Any] = {"trace": "switch-mini-128/decode/test", "format": "fp16", "steps": 60}
        spec |= {"warm_up": 0, "staggered": False} | options
        scenario = Scenario(RunConfig(**spec))
        for name in RUNNABLE:
            figures = summary(scenario.run(name).result)
            found[f"{case} {name}"] = {"mean_step_ns": figures["latency_mean_ns"]} | {
                figure: figures[figure] for figure in FIGURES
            }
        for name in ON_CPU:
            found[f"{case} {name}"] = decisions(scenario, name)
    return found | timed_on_cpu()


def timed_on_cpu() -> dict[str, dict[str, Any]]:
    """Exact integers of policies that use the CPU, on a machine that has one."""
    spec: dict[str, Any] = {"trace": "switch-mini-128/decode/test", "format": "fp16", "steps": 60, "profile": IN_A_HOST}
    scenario = Scenario(RunConfig(**spec, slots=300, batch=4, warm_up=0, staggered=False))
    names = [name for name in ON_CPU if not POLICIES[name].approximate]
    rows = {name: summary(scenario.run(name).result) for name in names}
    figures = ("latency_mean_ns", *FIGURES, *CPU_FIGURES)
    return {f"b4-300-cpu {name}": {figure: row[figure] for figure in figures} for name, row in rows.items()}


def decisions(scenario: Scenario, name: str) -> dict[str, int]:
    """Counts of decisions after the warm-up, of a policy that the machine cannot run."""
    decided = scenario.routing.decide(with_rates(scenario.policy(name), RATES), scenario.slots)
    return counts_of(scenario.routed.workload, decided.since(scenario.warm_up()))._asdict()


def main() -> None:
    """Print what changed, or record it."""
    now, recorded = table(), json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    for row, figures in now.items():
        old = recorded.get(row, {})
        changed = {name: (old.get(name), value) for name, value in figures.items() if old.get(name) != value}
        sys.stdout.write(f"{row}: {changed or 'as recorded'}\n")
    if "--write" in sys.argv:
        RECORDED.write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main()

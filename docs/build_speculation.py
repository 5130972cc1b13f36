"""Fill in the tables and draw the figures of docs/speculation.md from docs/runs/speculation: `make figures`.

`python docs/build_speculation.py --measure [--gptoss DIRECTORY]` measures those anew (about ten minutes). The directory
holds {train,test}.parquet of gpt-oss-20b (`specmoe traces import --format gptoss`, `specmoe traces split --fractions
0.7,0.1,0.2`) and what `specmoe train` made of them in predictors/<architecture>; without it gpt-oss-20b stays as it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specmoe.analysis.figures.precision import plot_break_even
from specmoe.analysis.figures.predictors import plot_predictions
from specmoe.sim.break_even import curve
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES, Policy, Prefetch
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.scoring.evaluate import Examination, asked_for, run
from specmoe.sim.timing.durations import charged
from specmoe.summary import summary

DOCS = Path(__file__).parent
RUNS = DOCS / "runs" / "speculation"
PAGE = DOCS / "speculation.md"
TRACES = {"decode": "switch-mini-128/decode/test", "encode": "switch-mini-128/encode/test"}
BUDGETS = {57: "1 GiB", 114: "2 GiB", 227: "4 GiB"}  # slots of fp16: half of what is left for experts
STEPS = 3000
VALIDATION = "switch-mini-128/decode/validation"
RULED = ("token-identity", "transition", "transition-2", "learned-transformer", "learned-fusion")
ON_GPU = ("learned-contextual", "learned-hierarchical", "learned-transformer", "learned-fusion")
DROPPED = ("reliability", "per_layer", "ceilings", "chance", "warnings", "parameters", "wrapped_per_depth")


def main() -> None:
    """Measure if told, then fill in the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--gptoss", type=Path)
    args = parser.parse_args()
    if args.measure:
        measure(args.gptoss)
    PAGE.write_text(filled(PAGE.read_text()))


def measure(gptoss: Path | None) -> None:
    """Write docs/runs/speculation/*.json and docs/img/speculation-*.png."""
    RUNS.mkdir(exist_ok=True)
    for phase, trace in TRACES.items():
        rows, ceilings = scores(trace, None, asked_for())
        write(phase, {"predictors": [short(row) for row in rows], "ceilings": ceilings})
        if phase == "decode":
            plot_predictions(rows, RUNS)
            (RUNS / "accuracy.png").replace(DOCS / "img" / "speculation-accuracy.png")
            (RUNS / "reliability.png").replace(DOCS / "img" / "speculation-reliability.png")
            (RUNS / "depth.png").unlink()
    if gptoss is not None:
        trained = sorted((gptoss / "predictors").iterdir())
        asked = [one for one in asked_for() if not one.name.startswith("learned-")]
        train, test = str(gptoss / "train.parquet"), str(gptoss / "test.parquet")
        rows, ceilings = scores(test, train, [*asked, *asked_for(checkpoints=trained)])
        write("gptoss", {"predictors": [short(row) for row in rows], "ceilings": ceilings})
    write("rules", list(rules()))
    write("latency", {str(slots): list(latencies(slots)) for slots in BUDGETS})


def scores(trace: str, train: str | None, asked: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every predictor on a trace."""
    exam = Examination(trace, train)
    return run(exam, asked, strict=False), exam.ceilings


def short(row: dict[str, Any]) -> dict[str, Any]:
    """Without what no table shows, and without the place of a file."""
    kept = {name: value for name, value in row.items() if name not in DROPPED}
    return kept | {"trace": Path(row["trace"]).stem if Path(row["trace"]).exists() else row["trace"], "train": ""}


def latencies(slots: int) -> Iterator[dict[str, Any]]:
    """Mean step of every policy, ns, with its predictions charged and free; the learned ones also on a GPU."""
    scenario = Scenario(RunConfig(TRACES["decode"], format="fp16", slots=slots, steps=STEPS))
    for name, chosen in POLICIES.items():
        if chosen.uses_cpu or chosen.approximate:
            continue
        yield {"policy": name, **timed(scenario, chosen, slots)}
        if name in ON_GPU:
            yield {"policy": f"{name}, on a GPU", **timed(scenario, on_gpu(chosen), slots)}
    if slots == max(BUDGETS):
        yield {"policy": "break-even", "precision": scenario.break_even(slots).precision}
        draw_break_even(scenario, slots)


def rules() -> Iterator[dict[str, Any]]:
    """Mean step of other prefetch rules over that of an LRU, on the validation split, where rules were chosen."""
    scenario = Scenario(RunConfig(VALIDATION, format="fp16", slots=1, steps=STEPS))
    plain = {slots: timed(scenario, POLICIES["on-demand-lru"], slots)["free_ns"] for slots in BUDGETS}
    for name, depth, threshold, late in itertools.product(RULED, (1, 2), (0.0, 0.3, 0.5), (False, True)):
        rule = Prefetch(1, threshold, depth, after_launch=late)
        chosen = dataclasses.replace(POLICIES[name], prefetch=rule)
        found = {slots: timed(scenario, chosen, slots) for slots in BUDGETS}
        ratios = {how: [found[s][f"{how}_ns"] / plain[s] for s in BUDGETS] for how in ("charged", "free")}
        yield {"policy": name, "depth": depth, "threshold": threshold, "after_launch": late, **ratios}


def on_gpu(chosen: Policy) -> Policy:
    """The same with its predictor's time charged to the GPU."""
    return dataclasses.replace(chosen, predictor_parameters={"device": "cuda"})


def timed(scenario: Scenario, chosen: Policy, slots: int) -> dict[str, Any]:
    """One policy."""
    decisions = scenario.decide(chosen, slots)
    free, cost = scenario.durations(decisions), scenario.charge(chosen)
    loads = decisions.prefetch_loads
    return {
        "charged_ns": mean(scenario, decisions, charged(free, cost)),
        "free_ns": mean(scenario, decisions, free),
        "predict_ns": cost.mean_ns,
        "hit_rate": decisions.hits / len(decisions.uses.key),
        "precision": decisions.prefetch_useful / loads if loads else None,
    }


def mean(scenario: Scenario, decisions: Any, durations: Any) -> int:
    """Of a step."""
    ends = scenario.time(decisions, durations).step_end
    return round(int(ends[-1]) / len(ends))


def draw_break_even(scenario: Scenario, slots: int) -> None:
    """Break-even precision over the link's bandwidth, with what a few policies reach."""
    names = ("lookahead", "token-identity", "transition-2", "layer-minus-1", "learned-fusion")
    summaries = [summary(scenario.run(name, slots).result) for name in names]
    points = [(point.bandwidth, point.at.precision) for point in curve(scenario, scenario.sweep(slots))]
    own = scenario.break_even(slots).precision
    plot_break_even(points, own, summaries, DOCS / "img" / "speculation-break-even.png")


def write(name: str, value: Any) -> None:
    """One JSON file."""
    (RUNS / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


def load(name: str) -> Any:
    """One JSON file."""
    return json.loads((RUNS / f"{name}.json").read_text())


def filled(text: str) -> str:
    """The page with its tables made anew."""
    tables = {f"accuracy-{name}": accuracy_table(load(name)["predictors"]) for name in (*TRACES, "gptoss")}
    tables |= {f"ceilings-{name}": ceilings_table(load(name)["ceilings"]) for name in (*TRACES, "gptoss")}
    tables["latency"] = latency_table(load("latency"))
    for name, table in tables.items():
        text = re.sub(f"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{table}\n\g<2>", text, flags=re.DOTALL)
    return text


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def accuracy_table(rows: list[dict[str, Any]]) -> str:
    """Best first; what peeks is left out."""
    several = any(row["top_k"] > 1 for row in rows)
    header = ["predictor", "top-1", "top-2", "top-4", "top-8", *["recall"] * several]
    header += ["2 ahead", "3 ahead", "wrapped", "ECE", "ms CPU", "ms GPU", "KiB"]
    scored = [row for row in rows if "error" not in row and not row["peeks"]]
    return markdown(header, [accuracy_row(row, several) for row in scored])


def accuracy_row(row: dict[str, Any], several: bool) -> list[str]:
    """One predictor."""
    low, high = row["top1_interval"]
    depths = [row["per_depth"].get(depth, {}).get("top1") for depth in ("2", "3")]
    best = [percent(row[name]) for name in ("top2", "top4", "top8", *["recall"] * several)]
    return [
        row["predictor"],
        f"{percent(row['top1'])} ± {percent((high - low) / 2)}",
        *best,
        *map(percent, (*depths, row["wrapped"]["top1"], row["ece"])),
        milliseconds(row["milliseconds_cpu"]),
        milliseconds(row["milliseconds_gpu"]),
        f"{row['state_bytes'] / 1024:.0f}",
    ]


def ceilings_table(found: dict[str, Any]) -> str:
    """What is left to guess when something is known."""
    header = [
        "context",
        "entropy, bits, train (low)",
        "entropy, bits, held out (high)",
        "top-1 of a table",
        "top-1 limit (Fano)",
    ]
    return markdown(
        header,
        [
            [
                name,
                f"{each['entropy_bits']:.2f}",
                f"{each['held_out_bits']:.2f}",
                percent(each["held_out_accuracy"]),
                percent(each["fano_accuracy"]),
            ]
            for name, each in found.items()
        ],
    )


def latency_table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Mean step and share of the oracle's gain over an LRU, charged and free, fastest first with the most slots."""
    by_name = {
        row["policy"]: {slots: {r["policy"]: r for r in rows}[row["policy"]] for slots, rows in found.items()}
        for row in found[str(min(BUDGETS))]
    }
    header = ["policy", "prediction, µs"]
    for slots, budget in BUDGETS.items():
        header += [f"{budget} ({slots} slots), ms", "captured", "if free"]
    most = str(max(BUDGETS))
    shown = sorted(by_name, key=lambda name: by_name[name][most]["free_ns"])
    return markdown(header, [latency_row(name, by_name) for name in shown if "all" not in name])


def latency_row(name: str, by_name: dict[str, Any]) -> list[str]:
    """One policy at every budget."""
    cells = [name, f"{by_name[name][str(max(BUDGETS))]['predict_ns'] / 1e3:.1f}"]
    for slots in map(str, BUDGETS):
        row, lru, oracle = (by_name[each][slots] for each in (name, "on-demand-lru", "oracle"))
        gain = lru["free_ns"] - oracle["free_ns"]
        charged_share, free_share = ((lru["free_ns"] - row[how]) / gain for how in ("charged_ns", "free_ns"))
        cells += [f"{row['charged_ns'] / 1e6:.3f}", f"{100 * charged_share:.0f} %", f"{100 * free_share:.0f} %"]
    return cells


def percent(value: float | None) -> str:
    """Of one, to a tenth."""
    return "-" if value is None else f"{100 * value:.1f}"


def milliseconds(value: float | None) -> str:
    """To two digits."""
    return "-" if value is None else "< 0.001" if value < 1e-3 else f"{value:.2g}"


if __name__ == "__main__":
    main()

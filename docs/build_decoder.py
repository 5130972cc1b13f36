"""Compare the bundled decoder-only routing with that of gpt-oss-20b, and fill in the table of docs/routing.md.

`python docs/build_decoder.py TRACE` measures anew, where TRACE is that of openai/gpt-oss-20b, imported with `specmoe
traces import --format gptoss` and not shipped. What was measured is kept in docs/runs/decoder-mini-64/routing.json, and
how often policies miss on either routing, and on a drawn one, in the package: `advise` goes by it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import specmoe.traces
from specmoe.analysis.trace import domains, layers, reuse, routing
from specmoe.hwprofiles.catalogue import load_shape
from specmoe.sim.advise.levers import JUDGE, judged, rate_with
from specmoe.sim.advise.search import Trial, searched
from specmoe.sim.advise.setting import LIKELY, draw
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.run import Scenario
from specmoe.summary import summary
from specmoe.traces.splitting import split_trace
from specmoe.traces.store import Trace
from specmoe.traces.summary import count_sequences, expert_counts
from specmoe.traces.workload import build

DOCS = Path(__file__).parent
RUN = DOCS / "runs" / "decoder-mini-64"
PAGE = DOCS / "routing.md"
SHARES = (0.2, 0.3, 0.5, 0.7)  # of all experts that have a slot
MISSES = DOCS.parent / "specmoe" / "sim" / "advise" / "misses.csv"
CHECKED = ("on-demand-lru", "static", "lru-cpu", "ktransformers")
TENTHS, STEPS, FRACTIONS = (1, 2, 3, 4, 5, 6, 7, 8, 9), 1_500, (0.5, 0.1, 0.4)  # of the experts; run; of the trace
BUNDLED = "decoder-mini-64/decode/train"
Facts = dict[str, Any]


def main() -> None:
    """Measure the bundled trace and the given one, if one is given, and fill in the page's table."""
    if sys.argv[1:]:
        opened = [specmoe.traces.open(name) for name in (BUNDLED, *sys.argv[1:])]
        facts = {trace.meta.model: measure(trace) for trace in opened}
        (RUN / "routing.json").write_text(json.dumps(facts, indent=1) + "\n")
        with TemporaryDirectory() as directory:
            runs = runs_of(*sys.argv[1:], Path(directory))
            MISSES.write_text("".join(misses(runs)))
            (RUN / "judged.json").write_text(json.dumps(list(checks(runs)), indent=1) + "\n")
    PAGE.write_text(filled(PAGE.read_text()))


def measure(trace: Trace) -> Facts:
    """Evenness, reuse, and what the layer before tells, by layer; hit rates of an LRU over all layers at batch 1."""
    meta, used = trace.meta, trace.experts[:, :, : trace.meta.top_k]
    uses = expert_counts(used, meta.num_experts)
    first = used[:, :, 0]
    known = [mutual(first[:, layer - 1], first[:, layer], meta.num_experts) for layer in range(1, meta.num_layers)]
    bits = [routing.entropy(uses[layer]) for layer in range(meta.num_layers)]
    return {
        "tokens": len(trace),
        "sequences": count_sequences(trace),
        "experts": meta.num_experts,
        "top_k": meta.top_k,
        "even": rounded(np.array(bits) / np.log2(meta.num_experts)),
        "even_in_domain": in_domains(trace),
        "again": rounded(layers.persistence(used, trace.sequence)),
        "chance": rounded(layers.by_chance(uses, meta.top_k)),
        "layer_before": rounded(known),
        "lru": lru(trace),
    }


def in_domains(trace: Trace) -> list[float]:
    """Corrected entropies within the text domains, as shares of even use, of all layers; empty for one domain."""
    experts, sources = trace.meta.num_experts, trace.meta.sources
    uses = domains.uses_by_source(trace.source, trace.experts[:, :, : trace.meta.top_k], experts)
    counts = uses.reshape(-1, experts) if len(sources) > 1 else uses[:0].reshape(-1, experts)
    return rounded([routing.entropy(one) / np.log2(experts) for one in counts])


def mutual(before: Any, here: Any, experts: int) -> float:
    """Share of a first choice's entropy that the first choice of the layer before removes, bias corrected."""
    joint = np.bincount(before.astype(np.int64) * experts + here, minlength=experts**2).reshape(experts, experts)
    return routing.mutual_information(joint) / routing.entropy(joint.sum(axis=0))


def lru(trace: Trace) -> list[float]:
    """Hit rate of an LRU with slots for each of `SHARES` of all experts, first uses included."""
    block, keys = trace.read(), trace.meta.num_layers * trace.meta.num_experts
    workload = build(block, trace.meta, 1)
    hits = reuse.lru_hits(reuse.reuse_distances(workload), keys)
    return rounded([hits[round(share * keys)] / len(workload.experts) for share in SHARES])


def runs_of(path: str, directory: Path) -> list[Scenario]:
    """Runs on the judge's own routing, on the bundled one, and on a drawn one; the directory holds their traces."""
    split_trace(specmoe.traces.open(path), FRACTIONS, 0, directory)
    likely = str(draw(load_shape(JUDGE), LIKELY, 1, directory))
    own = {"trace": f"{directory}/test.parquet", "train": f"{directory}/train.parquet", "shape": JUDGE}
    runs = (own, {"trace": "decoder-mini-64/decode/test"}, {"trace": likely, "shape": JUDGE})
    return [Scenario(RunConfig(profile="rtx3090", steps=STEPS, **asked)) for asked in runs]


def misses(runs: list[Scenario]) -> Iterator[str]:
    """Lines of the package's table: share of demanded experts that policies miss on each routing, by share of slots."""
    yield "policy,slots,own,borrowed,drawn\n"
    names = (name for name in searched(False, True) if POLICIES[name].predictor != "lookahead")  # none recorded
    for name, tenth in product(names, TENTHS):
        cells = (f"{missed(each, name, tenth * each.num_keys // 10):.4f}" for each in runs)
        yield f"{name},{tenth / 10},{','.join(cells)}\n"


def checks(runs: list[Scenario]) -> Iterator[Facts]:
    """Mean steps of the judge on its own routing, on the drawn one, and as the range of an answer says, ns."""
    own, _, drawn = runs
    for name, share in product(CHECKED, SHARES):
        one, other = (summary(each.run(name, round(share * each.num_keys)).result) for each in (own, drawn))
        trial = Trial(RunConfig("", name), other)
        said = other["latency_mean_ns"] * trial.rate / rate_with(trial, judged(name, share, "drawn").ratio)
        yield {
            "policy": name,
            "slots": share,
            "own_ns": one["latency_mean_ns"],
            "drawn_ns": other["latency_mean_ns"],
            "judged_ns": round(said),
        }


def missed(scenario: Scenario, name: str, slots: int) -> float:
    """Share of demanded experts that are not in a slot when they are asked for, after the warm-up."""
    table = scenario.decide(scenario.policy(name), slots).since(scenario.warm_up(slots))
    return 1 - table.hits / len(table.uses.key)


def rounded(values: Any) -> list[float]:
    """Four digits are kept."""
    return [round(float(value), 4) for value in values]


def filled(text: str) -> str:
    """The page with its table made anew."""
    tables = {"decoder": comparison(json.loads((RUN / "routing.json").read_text())), "judged": judgement()}
    for name, table in tables.items():
        text = re.sub(f"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{table}\n\g<2>", text, flags=re.DOTALL)
    return text


def judgement() -> str:
    """A row for each policy and share of slots: what it misses, and what its step takes."""
    lines = [
        "| policy | slots for, % | missed, own, % | borrowed, % | drawn, % | own, ms | drawn, ms | range's end, ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in json.loads((RUN / "judged.json").read_text()):
        found = [judged(row["policy"], row["slots"], kind) for kind in ("borrowed", "drawn")]
        missed = [f"{100 * share:.0f}" for share in (found[0].own, found[0].other, found[1].other)]
        times = [f"{row[name] / 1e6:.1f}" for name in ("own_ns", "drawn_ns", "judged_ns")]
        lines.append(" | ".join(["", row["policy"], f"{100 * row['slots']:.0f}", *missed, *times, ""]).strip())
    return "\n".join(lines)


def comparison(models: dict[str, Facts]) -> str:
    """A column for each trace; ranges are over its layers."""
    rows = {
        "experts, top-k": [f"{m['experts']}, {m['top_k']}" for m in models.values()],
        "tokens, sequences": [f"{m['tokens']:,}, {m['sequences']}" for m in models.values()],
        "entropy of use, % of even use": [span(m["even"]) for m in models.values()],
        "the same within a text domain, %": [span(m["even_in_domain"]) for m in models.values()],
        "experts used again by the next token, %": [span(m["again"]) for m in models.values()],
        "the same by chance, %": [span(m["chance"]) for m in models.values()],
        "beyond chance, mean, % of what chance leaves": [f"{100 * beyond(m):.0f}" for m in models.values()],
        "entropy of a first choice that the layer before removes, %": [
            span(m["layer_before"]) for m in models.values()
        ],
    }
    for place, share in enumerate(SHARES):
        rows[f"hits of an LRU with slots for {share:.0%} of the experts, %"] = [
            f"{100 * m['lru'][place]:.0f}" for m in models.values()
        ]
    lines = [["", *models], ["---", *["---:"] * len(models)], *([name, *cells] for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def beyond(facts: Facts) -> float:
    """Mean reuse beyond chance, as a share of what chance leaves."""
    again, chance = np.array(facts["again"]), np.array(facts["chance"])
    return float(((again - chance) / (1 - chance)).mean())


def span(values: list[float]) -> str:
    """Least to most, in percent; empty for no values."""
    return "" if not values else f"{100 * min(values):.0f} to {100 * max(values):.0f}"


if __name__ == "__main__":
    main()

"""Draw the figures of docs/routing.md and fill in its tables, from docs/runs and the bundled traces: `make figures`.

Look-ahead over two and three layers needs traces that are too large to ship; what they gave is kept in
docs/runs/switch-mini-128/lookahead.json and made anew by `python docs/build_routing.py DIRECTORY`, the directory
holding {encode,decode}.parquet of `specmoe collect --lookahead-depth 3`. Hits of policies by text domain take minutes;
they are kept in docs/runs/switch-mini-128/hits.json and made anew by `python docs/build_routing.py hits`.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

import specmoe.traces
from specmoe.analysis.style import figure, save
from specmoe.analysis.trace.domains import cv_of_sample, domain_information, evenness, uses_by_source
from specmoe.analysis.trace.layers import persistence, spread
from specmoe.analysis.trace.predictability import table_accuracy
from specmoe.analysis.trace.routing import confidence, lookahead_accuracy
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.routing import Routing
from specmoe.traces.schema import Block, join, limit_lookahead
from specmoe.traces.store import ALL_DOMAINS
from specmoe.traces.summary import expert_counts
from specmoe.traces.workload import warm_up_of

DOCS = Path(__file__).parent
RUNS = DOCS / "runs"
MODEL = "switch-mini-128"
EXPERTS, LAYERS = 128, 6
PHASES = ("encode", "decode")
SPLITS = ("train", "validation", "test")
PAGE = DOCS / "routing.md"
SLOTS = 154  # a fifth of all experts
LEARNING = ("static",)  # from the train split
COMPARED = ("on-demand-lru", "on-demand-lfu", "on-demand-lfu-perfect", "on-demand-lfu-decayed", "static")
Counts = dict[str, Any]
Predicted = dict[str, dict[str, Any]]


def main() -> None:
    """Write docs/img/*.png and the tables between the markers of docs/routing.md."""
    for argument in sys.argv[1:]:
        if argument == "hits":
            write_hits()
        else:
            write_lookahead(Path(argument))
    counts, predicted = measure()
    (DOCS / "img").mkdir(exist_ok=True)
    plot_training(DOCS / "img" / "training.png")
    plot_usage(counts, DOCS / "img" / "usage.png")
    plot_predictability(predicted, DOCS / "img" / "predictability.png")
    PAGE.write_text(filled(PAGE.read_text(), counts, predicted))


def measure() -> tuple[Counts, Predicted]:
    """Uses of experts by model and phase, and accuracies by phase and way."""
    splits = {phase: {split: read(f"{MODEL}/{phase}/{split}") for split in SPLITS} for phase in PHASES}
    counts = {
        phase: sum(expert_counts(part.experts[:, :, :1], EXPERTS) for part in parts.values())
        for phase, parts in splits.items()
    }
    google = np.array(list(load("google-switch-base-128", "usage")["expert_counts"].values()))
    return {**counts, "google": google}, {phase: predictability(splits[phase], phase) for phase in PHASES}


def filled(text: str, counts: Counts, predicted: Predicted) -> str:
    """The page with its tables made anew."""
    tables = {
        "loss": loss_table(),
        "usage": usage_table(counts),
        "domains": domains_table(counts["google"]),
        "hits": hits_table(load(MODEL, "hits")),
        "predictability": predictability_table(predicted),
    }
    for name, table in tables.items():
        text = re.sub(f"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{table}\n\g<2>", text, flags=re.DOTALL)
    return text


def read(name: str) -> Block:
    """All rows of a bundled trace, with the look-ahead that all of them have."""
    return limit_lookahead(specmoe.traces.open(name).read(), 1)


def load(run: str, name: str) -> Any:
    """One JSON file of a run."""
    return json.loads((RUNS / run / f"{name}.json").read_text())


def write_lookahead(directory: Path) -> None:
    """Measure the look-ahead of the traces in a directory."""
    blocks = {phase: specmoe.traces.open(directory / f"{phase}.parquet").read() for phase in PHASES}
    measured = {
        phase: {
            str(depth): {f"top{best}": lookahead_accuracy(block, depth, best).tolist() for best in (1, 2, 4, 8)}
            for depth in (1, 2, 3)
        }
        for phase, block in blocks.items()
    }
    (RUNS / MODEL / "lookahead.json").write_text(json.dumps(measured, indent=1) + "\n")


def write_hits() -> None:
    """Measure the hit rates of `COMPARED` on each domain of the decode test split, and on their mixture."""
    domains = sorted(specmoe.traces.open(f"{MODEL}/decode/test").meta.sources)
    (RUNS / MODEL / "hits.json").write_text(json.dumps({d: hits(d) for d in ("", *domains)}, indent=1) + "\n")


def hits(domain: str) -> dict[str, float]:
    """Hit rate of each policy after the warm-up on a domain, or on all of them together."""
    source = (domain,) if domain else ()
    same, everything = (
        Routing(f"{MODEL}/decode/test", source=source, train_source=learnt) for learnt in ((), ALL_DOMAINS)
    )
    rates = {name: hit_rate(same, name) for name in COMPARED}
    return rates | ({f"{name}, all domains": hit_rate(everything, name) for name in LEARNING} if domain else {})


def hit_rate(routing: Routing, name: str) -> float:
    """Hits of a policy among the demands after the warm-up."""
    workload = routing.routed.workload
    warm_up = warm_up_of(workload, SLOTS).steps
    decisions = routing.decide(POLICIES[name], SLOTS).since(warm_up)
    return round(decisions.hits / len(workload.since(warm_up).experts), 4)


def predictability(splits: dict[str, Block], phase: str) -> dict[str, Any]:
    """Accuracy per layer (nan where it does not apply) of simple ways to know an expert."""
    train, test = splits["train"], splits["test"]
    every = join([train, splits["validation"], test])
    before = [(train.experts[:, layer - 1, 0], test.experts[:, layer - 1, 0]) for layer in range(1, LAYERS)]
    unknown = (np.zeros(len(train.token), np.int32), np.zeros(len(test.token), np.int32))
    ahead = load(MODEL, "lookahead")[phase]
    return {
        "same expert as the token before": persistence(every.experts[:, :, :1], every.sequence),
        "the layer's favourite": table_accuracy(train, test, [unknown] * LAYERS),
        "token id": table_accuracy(train, test, [(train.token, test.token)] * LAYERS),
        "expert of the layer before": blank_first(table_accuracy(train, test, [unknown, *before]), 1),
        **{
            f"look-ahead, {depth} layer{'s' * (depth > 1)}": np.array([np.nan] * depth + ahead[str(depth)]["top1"])
            for depth in (1, 2, 3)
        },
        "look-ahead, 1 layer, best 8": np.array([np.nan, *ahead["1"]["top8"]]),
    }


def blank_first(values: Any, layers: int) -> Any:
    """The same with the first layers marked as not applicable."""
    return np.concatenate([np.full(layers, np.nan), values[layers:]])


def plot_training(png: Path) -> None:
    """Held-out loss of the three models by step; balance and drops of the large one."""
    chart, (loss, balance) = figure(1, 2)
    for run in (MODEL, "dense-mini", "switch-mini-16"):
        points = load(run, "history")["held_out"]
        loss.plot([p["step"] for p in points], [p["loss"] for p in points], "o-", markersize=3, label=run)
    unigram = load(MODEL, "specmoe")["held_out"]["unigram"]
    loss.axhline(unigram, linestyle=":", color="0.4", label="unigram guess")
    loss.set(xlabel="step", ylabel="held-out loss, nats a target token", title="Held-out loss")
    training = load(MODEL, "history")["training"]
    steps = [point["step"] for point in training]
    balance.plot(steps, [point["balance"] for point in training], linewidth=1, label="balance loss, mean of layers")
    balance.plot(steps, [point["dropped"] for point in training], linewidth=1, label="share of tokens dropped")
    balance.set(xlabel="step", ylim=(0, None), title=f"{MODEL} while it trains")
    for axes in (loss, balance):
        axes.legend(frameon=False)
    save(chart, png)


def plot_usage(counts: Counts, png: Path) -> None:
    """Each layer's experts by rank."""
    chart, panels = figure(1, 3, width=3.6)
    titles = {"encode": f"{MODEL}, encode", "decode": f"{MODEL}, decode", "google": "google/switch-base-128, encode"}
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        for layer, uses in enumerate(counts[name]):
            axes.plot(np.arange(1, EXPERTS + 1), np.sort(uses)[::-1] / uses.sum(), linewidth=1, label=f"layer {layer}")
        axes.axhline(1 / EXPERTS, linestyle=":", color="0.4", label="even")
        axes.set(xlabel="expert, by rank", yscale="log", ylim=(1e-5, 0.5), title=title)
    panels[0].set_ylabel("share of tokens")
    panels[0].legend(frameon=False, ncols=2, fontsize=7)
    save(chart, png)


def plot_predictability(predicted: Predicted, png: Path) -> None:
    """Accuracy by layer of the ways to know an expert."""
    chart, panels = figure(1, 2, width=4.6)
    for axes, (phase, ways) in zip(panels, predicted.items(), strict=True):
        for number, (way, accuracy) in enumerate(ways.items()):
            axes.plot(range(LAYERS), 100 * accuracy, "osD^v<>P"[number], linestyle="-", markersize=4, label=way)
        axes.axhline(100 / EXPERTS, linestyle=":", color="0.4", label="chance")
        axes.set(xlabel="MoE layer", ylim=(0, 100), title=f"{MODEL}, {phase}")
    panels[0].set_ylabel("accuracy, %")
    chart.legend(*panels[0].get_legend_handles_labels(), frameon=False, ncols=3, fontsize=7, loc="outside lower center")
    save(chart, png)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def loss_table() -> str:
    """What the models cost and reached."""
    rows = []
    for run in (MODEL, "dense-mini", "switch-mini-16"):
        card = load(run, "specmoe")
        recipe, held_out = card["recipe"], card["held_out"]
        tokens = recipe["steps"] * recipe["batch"] * (256 + 58) / 1e6
        rows.append([run, str(recipe["experts"]), str(recipe["steps"]), f"{tokens:.0f} M", f"{held_out['loss']:.3f}"])
    rows.append(["unigram guess", "", "", "", f"{load(MODEL, 'specmoe')['held_out']['unigram']:.3f}"])
    return markdown(["model", "experts", "steps", "tokens seen", "held-out loss, nats per target token"], rows)


def usage_table(counts: Counts) -> str:
    """Statistics by layer, ours beside Google's."""
    rows = []
    for layer in range(LAYERS):
        uses = [spread(counts[name][layer]) for name in ("encode", "decode", "google")]
        cells = (
            " / ".join(f"{use.entropy_bits:.2f}" for use in uses),
            " / ".join(f"{use.cv:.2f}" for use in uses),
            " / ".join(str(use.active) for use in uses),
            " / ".join(f"{100 * use.top_share:.1f}" for use in uses),
        )
        rows.append([str(layer), *cells])
    return markdown(["MoE layer", "entropy, bits of 7", "CV", "active experts", "top expert, %"], rows)


def domains_table(google: Any) -> str:
    """Evenness within each domain of the train split, least to most over the layers, and of mixtures."""
    rows: dict[str, list[str]] = {}
    for phase in PHASES:
        trace = specmoe.traces.open(f"{MODEL}/{phase}/train")
        counts = uses_by_source(trace.source, trace.experts[:, :, :1], EXPERTS)
        for code, name in sorted(enumerate(trace.meta.sources), key=lambda pair: pair[1]):
            rows.setdefault(name, []).extend(evenness_cells(counts[:, code]))
        together, size = counts.sum(axis=1), round(counts.sum(axis=2).mean())
        rows.setdefault("**all 14 together**", []).extend(evenness_cells(together))
        drawn = " to ".join(f"{cv:.2f}" for cv in ends([cv_of_sample(layer, size) for layer in together]))
        rows.setdefault("as few tokens of all together", []).extend(["", drawn, ""])
    rows["google/switch-base-128"] = [*evenness_cells(google), "", "", ""]
    header = ["text", *(f"{phase}: {what}" for phase in PHASES for what in ("bits", "CV", "top expert, %"))]
    return markdown(header, [[name, *cells] for name, cells in rows.items()])


def evenness_cells(counts: Any) -> list[str]:
    """Corrected entropy, CV and share of the top expert of layers [L, E], least to most."""
    found = [evenness(layer) for layer in counts]
    bits, cv, top = (
        [each.corrected_bits for each in found],
        [each.cv for each in found],
        [100 * each.top_share for each in found],
    )
    form = ((bits, ".2f"), (cv, ".2f"), (top, ".1f"))
    return [" to ".join(format(end, digits) for end in ends(values)) for values, digits in form]


def ends(values: list[float]) -> tuple[float, float]:
    """Least and most."""
    return min(values), max(values)


def hits_table(rates: dict[str, dict[str, float]]) -> str:
    """Hit rates in %, a row for each domain, then their mean and the mixture."""
    columns = [*COMPARED, *(f"{name}, all domains" for name in LEARNING)]
    domains = {name: row for name, row in rates.items() if name}
    mean = {column: float(np.mean([row[column] for row in domains.values()])) for column in columns}
    rows = {**domains, "**mean of the domains**": mean, "**all 14 together**": rates[""]}
    cells = [[name, *(f"{100 * row[c]:.0f}" if c in row else "" for c in columns)] for name, row in rows.items()]
    return f"{markdown(['hits, %', *columns], cells)}\n\n{hits_reading(list(domains.values()), rates[''])}"


def hits_reading(domains: list[dict[str, float]], mixture: dict[str, float]) -> str:
    """What the table says of popularity."""
    above = sum(row["static"] > row["on-demand-lru"] for row in domains)
    perfect = sum(row["on-demand-lfu-perfect"] > row["on-demand-lru"] for row in domains)
    gains = [100 * (row["static"] - row["on-demand-lru"]) for row in domains]
    least, most = (round(end) for end in ends(gains))
    return textwrap.fill(
        f"Within a domain `static` has more hits than the LRU in {above} of {len(domains)} domains ({least:+d} to "
        f"{most:+d} percentage points), and `on-demand-lfu-perfect` in {perfect}. On the mixture they have "
        f"{100 * mixture['static']:.0f} % and {100 * mixture['on-demand-lfu-perfect']:.0f} % against "
        f"{100 * mixture['on-demand-lru']:.0f} %.",
        120,
        break_on_hyphens=False,
    )


def predictability_table(predicted: Predicted) -> str:
    """Accuracies over the layers, least to most."""
    rows = []
    for way in predicted["encode"]:
        cells = [100 * predicted[phase][way] for phase in PHASES]
        rows.append([way, *(f"{np.nanmin(c):.0f} to {np.nanmax(c):.0f} %" for c in cells)])
    for name, measure in (
        (
            "mutual information of text domain and expert, bits",
            lambda block: domain_information(block.source, block.experts[:, :, 0], EXPERTS),
        ),
        ("median probability of the chosen expert", lambda block: confidence(block.probs[:, :, 0])),
    ):
        cells = [measure(join([read(f"{MODEL}/{phase}/{split}") for split in SPLITS])) for phase in PHASES]
        rows.append([name, *(f"{c.min():.2f} to {c.max():.2f}" for c in cells)])
    return markdown(["range over the layers", *PHASES], rows)


if __name__ == "__main__":
    main()

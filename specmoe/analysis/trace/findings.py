"""What an analysis says, in sentences.

The few numbers and sentences that an analysis comes to: what analysis.json holds.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log2
from typing import Any

import pandas as pd

from specmoe.analysis.trace.domains import Evenness, cv_of_sample, evenness
from specmoe.analysis.trace.tables import TABLES
from specmoe.traces.schema import TraceMeta

Facts = dict[str, Any]
EVEN = 0.95  # share of the greatest possible entropy from which use is called even
TOLD = 0.1  # hit rate of an LRU, from which slots are worth a sentence
WINDOW = 8  # tokens, in the sentence on working sets


def findings(facts: Facts) -> list[str]:
    """Sentences from the other facts of `facts.facts_of`; one alone for an empty trace."""
    if not facts["uses"]:
        return ["The trace holds no use of any expert."]
    return [sentence for write in SENTENCES for sentence in write(facts)]


def _use(facts: Facts) -> Iterator[str]:
    experts = facts["trace"]["num_experts"]
    layers = [layer for layer in facts["layers"] if layer["total"]]
    bits, most = [layer["entropy_bits"] for layer in layers], log2(experts)
    even = min(bits) >= EVEN * most
    domains = facts["domains"]
    of = "the mixture's use" if domains["sources"] > 1 else "use"
    verdict = f"{of} is even and popularity tells little" if even else f"{of} is uneven and popularity tells"
    domain = f"; the text's domain tells {max(0.0, domains['bits']):.2f} bits" if domains["sources"] > 1 else ""
    active, top = ([layer[name] for layer in layers] for name in ("active", "top_share"))
    yield (
        f"A layer uses {_span(active)} of {experts} experts, with {_span(bits, '.2f')} of {most:.2f} bits and "
        f"{_span([100 * share for share in top], '.1f')} % of uses for its favourite: {verdict}{domain}."
    )


def _within(facts: Facts) -> Iterator[str]:
    if facts["domains"]["sources"] > 1:
        use, mixture = facts["domains"]["use"], facts["domains"]["mixture"]
        bits, cv, top = (
            [row[name][end] for row in use for end in ("min", "max")] for name in ("corrected_bits", "cv", "top_share")
        )
        yield (
            f"Within one text domain a layer's use has {_span(bits, '.2f')} bits, corrected for the small sample, and "
            f"a CV of {_span(cv, '.2f')} (of as many uses of the mixture: {mixture['cv_of_sample']:.2f}); its "
            f"favourite has {_span([100 * share for share in top], '.1f')} % of uses."
        )


def _slots(facts: Facts) -> Iterator[str]:
    for study in facts["reuse"]:
        nothing = study["lru_hits_nothing_up_to"]
        part = f", over the first {study['tokens']:,} tokens," if study["tokens"] < facts["tokens"] else ""
        begin = f"At batch {study['batch']}{part} an LRU over all layers hits "
        if nothing is None:
            yield f"{begin}nothing at all: no expert is wanted twice."
            continue
        rate = next((rate for rate in study["hit_rates"] if rate["lru"] >= TOLD), study["hit_rates"][-1])
        low = f"nothing up to {nothing} slots; " if nothing >= study["largest_demand"] else ""
        yield (
            f"{begin}{low}{100 * rate['lru']:.0f} % with {rate['slots']} slots ({100 * rate['share']:.0f} % of the "
            f"experts), where the best possible without prefetching is {100 * rate['belady']:.0f} %."
        )


def _order(facts: Facts) -> Iterator[str]:
    known = [layer for layer in facts["layers"] if layer["persistence"] is not None]
    if known:
        again, chance = (_mean([layer[name] for layer in known]) for name in ("persistence", "persistence_by_chance"))
        yield (
            f"Of the experts that a token uses, {100 * again:.1f} % are those of the token before it "
            f"({100 * chance:.1f} % by chance)."
        )


def _surprise(facts: Facts) -> Iterator[str]:
    rows = sorted(facts["predictability"], key=lambda row: row["told"])
    if rows:
        told = [f"{max(0.0, row['told']):.1f} by the {row['context']}" for row in rows]
        bits = max(row["bits"] for row in rows)
        ahead = [layer["lookahead_top1"] for layer in facts["layers"] if layer["lookahead_top1"] is not None]
        found = f"; a router asked one layer early names {100 * _mean(ahead):.0f} % of first choices" if ahead else ""
        yield f"An expert holds {bits:.1f} bits of surprise; told at most: {_listed(told)}{found}."


def _sets(facts: Facts) -> Iterator[str]:
    every = facts["trace"]["num_experts"] * facts["trace"]["num_layers"]
    windows = [row for row in facts["working_set"]["windows"] if row["tokens"] == WINDOW]
    short = f", {WINDOW} tokens in a row {windows[0]['mean']:.0f}" if windows else ""
    share = facts["working_set"]["sequence"] / every
    yield (
        f"A sequence uses {facts['working_set']['sequence']:.0f} of all {every} experts ({100 * share:.0f} %){short}."
    )


def _batches(facts: Facts) -> Iterator[str]:
    rows = facts["deduplication"]
    if len(rows) > 1:
        last = rows[-1]
        saved, by_chance = (100 * (1 - last[name] / last["uses"]) for name in ("demanded", "independent"))
        yield (
            f"Loading each expert once for a batch of {last['batch']} saves {saved:.0f} % of the loads that its tokens "
            f"would need by themselves ({by_chance:.0f} % if they chose independently of each other)."
        )


SENTENCES: tuple[Callable[[Facts], Iterator[str]], ...] = (_use, _within, _slots, _order, _surprise, _sets, _batches)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _span(values: list[float], form: str = "g") -> str:
    ends = sorted({format(min(values), form), format(max(values), form)}, key=float)
    return " to ".join(ends)


def _listed(parts: list[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


SCHEMA = 2
SEMANTICS = "event-atomic"  # a (step, layer)'s demand is one event, and each of its experts one hit or miss
OF_TRACE = ("kind", "phase", "origin", "model", "corpus", "split", "num_layers", "num_experts", "top_k", "dropless")
SHARES = (0.1, 0.2, 0.5)  # of all experts held, at which hit rates are told


def facts_of(
    meta: TraceMeta, origin: Mapping[str, str], tables: Mapping[str, pd.DataFrame], reuse: Sequence[Facts]
) -> Facts:
    """All scalars, JSON values only: what is not defined is None.

    Keys: schema, trace (`origin` and the metadata), semantics, warnings, tokens, sequences, uses, dropped; layers (a
    list of the table's rows); reuse (one for each batch); working_set, deduplication, domains, predictability (means
    over layers); findings (sentences); tables (each column's meaning).
    """
    layers, sequences = tables["layers"], tables["sequences"]
    described = dataclasses.asdict(meta)
    facts: Facts = {
        "schema": SCHEMA,
        "trace": {**origin, **{name: described[name] for name in OF_TRACE}, "sources": len(meta.sources)}
        | {"domains": sorted(map(str, sequences["source"].unique()))},
        "semantics": SEMANTICS,
        "warnings": list(meta.warnings),
        "tokens": int(sequences["tokens"].sum()),
        "sequences": len(sequences),
        "uses": int(layers["total"].sum()),
        "dropped": int(layers["dropped"].sum()),
        "layers": _records(layers),
        "reuse": [{**fact, "hit_rates": _hit_rates(tables["miss-ratio"], fact["batch"])} for fact in reuse],
        "working_set": {"sequence": _column_mean(sequences["experts"]), "windows": _records(tables["working-set"])},
        "deduplication": _means(tables["deduplication"], "batch", ["tokens", "uses", "demanded", "independent"]),
        "domains": _domains(tables),
        "predictability": _means(tables["predictability"], "context", ["bits", "left", "told"]),
        "tables": {name: {key: column.meaning for key, column in columns.items()} for name, columns in TABLES.items()},
    }
    facts = plain(facts)
    return {**facts, "findings": findings(facts)}


def plain(value: Any) -> Any:
    """The same for JSON: numpy's and pandas' scalars as Python's, nan as None."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    value = value.item() if hasattr(value, "item") else value
    return None if value is pd.NA or (isinstance(value, float) and math.isnan(value)) else value


def _hit_rates(curve: pd.DataFrame, batch: int) -> list[Facts]:
    """At the slot counts with a computed optimum that are nearest to `SHARES`."""
    known = curve[(curve["batch"] == batch) & curve["belady_hits"].notna()]
    nearest = dict.fromkeys(int((known["share"] - share).abs().to_numpy().argmin()) for share in SHARES)
    rows = known.iloc[list(nearest)].assign(lru=1 - known["lru_miss_ratio"], belady=1 - known["belady_miss_ratio"])
    return _records(rows[["slots", "share", "lru", "belady"]])


def _means(frame: pd.DataFrame, by: str, columns: list[str]) -> list[Facts]:
    """A row for each value of `by` in the order in which they come, with means over layers."""
    return _records(frame.groupby(by, sort=False)[columns].mean().reset_index())


def _domains(tables: Mapping[str, pd.DataFrame]) -> Facts:
    """How much domains tell, and ends and mean over layers of how even use is within each and in their mixture."""
    of_source = tables["domains"]
    uses = of_source.groupby("source")["uses"].mean()
    counts = [layer["uses"].to_numpy() for _, layer in tables["usage"].groupby("layer") if layer["uses"].any()]
    mixture = pd.DataFrame([evenness(layer) for layer in counts], columns=Evenness._fields)
    samples = [cv_of_sample(layer, round(uses.mean())) for layer in counts]
    found = {name: _column_mean(of_source[name]) for name in ("variation", "variation_by_chance")}
    return {
        "bits": _column_mean(tables["layers"]["domain_bits"]),
        "sources": int(of_source["source"].nunique()),
        **found,
        "use": [{"source": name, **_ends(rows)} for name, rows in of_source.groupby("source")],
        "mixture": {**_ends(mixture), "cv_of_sample": sum(samples) / len(samples) if samples else math.nan},
    }


def _ends(rows: pd.DataFrame) -> Facts:
    """Uses of a layer, and for each measure of evenness least, mean and most of the layers."""
    measures = {name: rows[name] for name in ("corrected_bits", "cv", "top_share")}
    ends = {name: {"min": of.min(), "mean": of.mean(), "max": of.max()} for name, of in measures.items()}
    return {"uses": _column_mean(rows["uses"]), **ends}


def _records(frame: pd.DataFrame) -> list[Facts]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _column_mean(column: "pd.Series[Any]") -> float:
    return float(column.mean()) if len(column) else math.nan

"""The few numbers and sentences that an analysis comes to: what analysis.json holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from specmoe.analysis.trace.findings import findings
from specmoe.analysis.trace.tables import TABLES
from specmoe.traces.schema import TraceMeta

SCHEMA = 1
SEMANTICS = "event-atomic"  # a (step, layer)'s demand is one event, and each of its experts one hit or miss
OF_TRACE = ("kind", "phase", "origin", "model", "corpus", "split", "num_layers", "num_experts", "top_k", "dropless")
SHARES = (0.1, 0.2, 0.5)  # of all experts held, at which hit rates are told
Facts = dict[str, Any]


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
        "trace": {**origin, **{name: described[name] for name in OF_TRACE}, "sources": len(meta.sources)},
        "semantics": SEMANTICS,
        "warnings": list(meta.warnings),
        "tokens": int(sequences["tokens"].sum()),
        "sequences": len(sequences),
        "uses": int(layers["total"].sum()),
        "dropped": int(layers["dropped"].sum()),
        "layers": _records(layers),
        "reuse": [{**fact, "hit_rates": _hit_rates(tables["miss-ratio"], fact["batch"])} for fact in reuse],
        "working_set": {"sequence": _mean(sequences["experts"]), "windows": _records(tables["working-set"])},
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
    of_source = tables["domains"]
    found = {name: _mean(of_source[name]) for name in ("variation", "variation_by_chance")}
    return {"bits": _mean(tables["layers"]["domain_bits"]), "sources": int(of_source["source"].nunique()), **found}


def _records(frame: pd.DataFrame) -> list[Facts]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _mean(column: pd.Series[Any]) -> float:
    return float(column.mean()) if len(column) else math.nan

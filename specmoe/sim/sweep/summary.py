"""The summary of a sweep in a few lines: the fastest policy of each setting, and which cells failed."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from specmoe.hwprofiles.quantity import EVIDENCE
from specmoe.sim.config import is_of_policy
from specmoe.summary import FIGURES as COLUMNS
from specmoe.summary import KEYS, SET
from specmoe.sweep_table import SweepTable
from specmoe.uncertainty import band, fastest_shares, lead_of, timed

TYPES = KEYS | COLUMNS
SPREAD = ("draws", "step_p5_ns", "step_p95_ns", "tokens_per_second_p5", "tokens_per_second_p95", "fastest_share")
ERROR = ("expected_error", "validated", "error_basis", "ratio_error")
FIGURES = ("latency_mean_ns", "tokens_per_second", "hit_rate", "oracle_ns", "floor_ns", "fits", *ERROR, *SPREAD)


def digest(table: SweepTable) -> dict[str, Any]:
    """Number of rows and failures, each error once, evidence, semantics, expected errors, and `best`."""
    good, failed = table.good, table.rows[table.rows["error"] != ""]
    return {
        "cells": len(table.rows),
        "failed": len(failed),
        "errors": list(dict.fromkeys(failed["error"])),
        "evidence": max(good["evidence"], key=EVIDENCE.index, default=""),
        "semantics": ", ".join(dict.fromkeys(good["semantics"])),
        "warnings": sorted({warning for lines in good["warnings"] for warning in lines}),
        "expected_errors": [text for text in dict.fromkeys(map(band, _rows(good))) if text],
        "best": best(table),
    }


def best(table: SweepTable) -> list[dict[str, Any]]:
    """For each setting, the fastest policy that is no yardstick, and who is level with it (see `specmoe.uncertainty`).

    A row has the varied columns, the policy, its figures, and `level`: names of the policies that are level, the
    fastest first. Policies are compared with the same values of whatever is no policy's own.
    """
    apart, parts = _settings(table)
    own = [name for name in table.varied if _of_policy(name)]
    ranked = [part.sort_values(["latency_mean_ns", "policy"], kind="stable") for part in parts if len(part)]
    return [_plain(part.iloc[0][[*apart, "policy", *own, *FIGURES]]) | {"level": _level(part)} for part in ranked]


def _settings(table: SweepTable) -> tuple[list[str], list[pd.DataFrame]]:
    """The varied columns that are no policy's own, and the rows without yardsticks of each of their values."""
    good = table.good[~table.good["yardstick"].astype(bool)]
    names = [name for name in (*KEYS, *table.varied) if name != "policy" and not _of_policy(name)]
    if good.groupby("policy")["style"].nunique().max() < 2:
        names.remove("style")  # nobody chose it: policies that hold every expert have their own
    apart = [name for name in names if good[name].nunique(dropna=False) > 1]
    return apart, [part for _, part in good.groupby(apart, sort=False, dropna=False)] if apart else [good]


def fastest_shares_of(table: SweepTable) -> "pd.Series[float]":
    """Of each row that is no yardstick, the share of drawn machines on which it is the fastest of its setting."""
    found = dict.fromkeys(table.rows.index.tolist(), np.nan)
    for part in _settings(table)[1] if len(table.good) else []:
        drawn = part[part["draws"].notna()]
        found |= zip(drawn.index.tolist(), fastest_shares(drawn["drawn_step_ns"].tolist()), strict=True)
    return pd.Series(found)


def _level(part: pd.DataFrame) -> list[str]:
    """Names of the policies level with that of the first row."""
    lead = lead_of(map(timed, _rows(part.drop_duplicates("policy"))))
    return [each.policy for each in lead.level]


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _of_policy(name: str) -> bool:
    return name.startswith(SET) and is_of_policy(name.removeprefix(SET))


def _plain(row: "pd.Series[Any]") -> dict[str, Any]:
    """A row as plain Python values; None for a missing value."""
    return {str(name): None if pd.isna(value) else _own(str(name), value) for name, value in row.items()}


def _own(name: str, value: Any) -> Any:
    if TYPES.get(name) == pa.int64():
        return int(value)  # pandas holds integers as floats where a failed row has none
    return value.item() if isinstance(value, np.generic) else value

"""Results of single runs as a sweep's table, so that a page reports both alike; and the commands that repeat them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from specmoe.analysis.point import BOUND_NAMES, about
from specmoe.errors import InputError
from specmoe.hwprofiles.fields import QUANTITIES
from specmoe.results import Manifest, RunResult, latencies, summary
from specmoe.sweep_table import FIGURES, KEYS, ORIGIN, SET, SweepTable
from specmoe.units import quantity

OPTIONS = ("profile", "shape", "format", "batch")  # of `specmoe simulate`: fields of the manifest
CHOICES = {"link": "fifo", "host": "graph", "tier": "host-pinned", "home_format": "", "compressed_slots": 0}
LINE = " \\\n    "  # between the parts of a long command


def table_of(results: Mapping[Path, RunResult]) -> SweepTable:
    """A row for each result, in their order; the manifest tells their version and the commands."""
    rows = [_row(path, result) for path, result in results.items()]
    version = next(iter(results.values())).manifest.versions.get("specmoe", "")
    command = "\n".join(commands(results.values()))
    told = {"version": version, "command": command, "hashes": _hashes(results.values())}
    return SweepTable(pd.DataFrame(rows), told)


def _hashes(results: Iterable[RunResult]) -> dict[str, dict[str, str]]:
    """Of what was read: by kind and name, as a sweep's manifest tells them."""
    found: dict[str, dict[str, str]] = {}
    for manifest in (result.manifest for result in results):
        for kind, digest in manifest.hashes.items():
            found.setdefault(kind, {})[str(getattr(manifest, kind))] = digest
    return found


def commands(results: Iterable[RunResult]) -> list[str]:
    """What `specmoe simulate` was told, one command for all policies that share the rest.

    A policy that holds every expert goes with any slots. Files that popularity was learnt from are not known.
    """
    policies: dict[tuple[str, ...], list[str]] = {}
    everything: list[tuple[tuple[str, ...], str, str]] = []
    for result in results:
        manifest, steps = result.manifest, str(len(latencies(result)))
        shared, slots = _shared(manifest, steps), str(manifest.slots)
        if about(manifest).all_resident:
            everything.append((shared, slots, manifest.policy))
        else:
            policies.setdefault((*shared, "--slots", slots), []).append(manifest.policy)
    for shared, slots, policy in everything:
        key = next((key for key in policies if key[: len(shared)] == shared), (*shared, "--slots", slots))
        policies.setdefault(key, []).append(policy)
    return [_command(key, names) for key, names in policies.items()]


def _command(arguments: tuple[str, ...], policies: list[str]) -> str:
    trace, *rest = arguments
    named = [part for policy in dict.fromkeys(policies) for part in ("--policy", policy)]
    return LINE.join((f"specmoe simulate {shlex.quote(trace)}", shlex.join(named), shlex.join(rest)))


def _shared(manifest: Manifest, steps: str) -> tuple[str, ...]:
    """The trace and the options that are not the policy's."""
    chosen = {name: manifest.parameters.get(name) or usual for name, usual in CHOICES.items()}
    options = {name: str(getattr(manifest, name)) for name in OPTIONS} | {"steps": steps}
    unusual = {name: str(value) for name, value in chosen.items() if value != CHOICES[name]}
    pairs = [(f"--{name.replace('_', '-')}", value) for name, value in (options | unusual).items()]
    pairs += [("--set", pair) for pair in manifest.parameters.get("set", ())]
    return (manifest.trace, *(part for pair in pairs for part in pair))


def _row(path: Path, result: RunResult) -> dict[str, Any]:
    if not len(result.table["step"]):
        raise InputError(f"{path}: no step was simulated: there is nothing to report")
    manifest, told = result.manifest, summary(result)
    found = {
        **told,
        **dict.fromkeys(BOUND_NAMES, math.nan),
        **told["bounds"],
        **{f"latency_{name}_ns": value for name, value in told["latency_ns"].items()},
        **{name: manifest.parameters.get(name) or usual for name, usual in CHOICES.items()},
        "num_layers": manifest.num_layers,
        "expert_bytes": manifest.expert_bytes,
        "cliff_slots": cliff_slots(result),
        "assumed": list(manifest.assumed),
        "warnings": list(manifest.warnings),
        "cell": path.name,
        "timed_by": "engine",
        "error": "",
    }
    row = {name: found.get(name) for name in (*KEYS, *FIGURES, *ORIGIN)}
    return row | dict(_varied(manifest.parameters.get("set", ())))


def cliff_slots(result: RunResult) -> int:
    """Up to so many slots an LRU over all layers hits hardly anything: a step's mean demand, one layer's aside."""
    return round(float(result.table["demands"].mean()) * (result.manifest.num_layers - 1))


def _varied(pairs: Iterable[str]) -> Iterator[tuple[str, float | str]]:
    """A column for each value that was set: a number, in base units where it has a unit, or a word."""
    for name, _, value in (pair.partition("=") for pair in pairs):
        yield f"{SET}{name}", _number(name, value)


def _number(name: str, text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        dimension = QUANTITIES.get(name)
        return text if dimension is None else quantity(f"{name}={text}", name, text, dimension)

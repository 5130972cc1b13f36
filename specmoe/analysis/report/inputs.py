"""Results of single runs as a sweep's table, so that a page reports both alike; and the commands that repeat them.

What lies in the directories that a report is made of, each thing known by what is in it.

A directory may hold a sweep, results of single runs, timelines, validations and an analysis of a trace, in any mixture.
"""

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from specmoe.analysis.trace.job import FACTS, load_analysis
from specmoe.analysis.trace.tables import Analysis
from specmoe.errors import InputError
from specmoe.files import parsing, read_json, require_regular
from specmoe.results import METADATA_KEY, Manifest, RunResult, latencies
from specmoe.summary import BOUNDS, CHOICES, KEYS, SCALE, SET, Row, summary
from specmoe.sweep_table import MANIFEST, TABLE, SweepTable, load_sweep
from specmoe.uncertainty import add_fastest_shares, is_drawn
from specmoe.validation_table import Validation, is_validation, read_validation

OPTIONS = ("profile", "shape", "format", "batch")  # of `specmoe simulate`: fields of the manifest
ASKED = ("style", "dense_format")  # likewise, where they were given
LINE = " \\\n    "  # between the parts of a long command


def table_of(results: Mapping[Path, RunResult]) -> SweepTable:
    """The results as a sweep's table, one row each in their order, with a manifest of their version and commands."""
    return table_of_rows({path.name: (result.manifest, _figures(path, result)) for path, result in results.items()})


def table_of_rows(runs: Mapping[str, tuple[Manifest, Row]]) -> SweepTable:
    """The same of runs of which the manifests and the rows of `summary` are known, by name."""
    rows, manifests = [_row(name, row) for name, (_, row) in runs.items()], [of for of, _ in runs.values()]
    for alike in _compared(rows):
        add_fastest_shares(alike)
    command = "\n".join(_commands((of, row["steps"] + of.warm_up_steps) for of, row in runs.values()))
    told = {"version": manifests[0].versions.get("specmoe", ""), "command": command, "hashes": _hashes(manifests)}
    return SweepTable(pd.DataFrame(rows), told)


def _compared(rows: Sequence[Row]) -> Iterable[list[Row]]:
    """Rows that differ in their policy and its style alone, and were timed on the same machines."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in filter(is_drawn, rows):
        apart = [name for name in (*KEYS, "draws", "seed") if name not in ("policy", "style")]
        changed = sorted((name, value) for name, value in row.items() if name.startswith((SET, SCALE)))
        groups.setdefault((*(row[name] for name in apart), *changed), []).append(row)
    return groups.values()


def _hashes(manifests: Iterable[Manifest]) -> dict[str, dict[str, str]]:
    """Hashes of the traces, profiles and shapes, by kind and name, as in a sweep's manifest."""
    found: dict[str, dict[str, str]] = {}
    for manifest in manifests:
        for kind, digest in manifest.hashes.items():
            found.setdefault(kind, {})[str(getattr(manifest, kind))] = digest
    return found


def commands(results: Iterable[RunResult]) -> list[str]:
    """The `specmoe simulate` commands that repeat the results, one for all policies that share the rest.

    A policy that holds every expert goes with any slots. Files that popularity was learnt from are not known.
    """
    return _commands((result.manifest, len(latencies(result))) for result in results)


def _commands(runs: Iterable[tuple[Manifest, int]]) -> list[str]:
    """The same of manifests with their numbers of steps."""
    policies: dict[tuple[str, ...], list[str]] = {}
    everything: list[tuple[tuple[str, ...], str, str]] = []
    for manifest, steps in runs:
        shared, slots = _shared(manifest, str(steps)), str(manifest.slots)
        if manifest.parameters.get("sharing") == "all-resident":
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
    """Arguments of `specmoe simulate` that do not depend on the policy: the trace and options."""
    chosen = {name: manifest.parameters.get(name) or usual for name, usual in CHOICES.items()}
    options = {name: str(getattr(manifest, name)) for name in OPTIONS} | {"steps": steps}
    options["warm-up"] = str(manifest.warm_up_steps)
    unusual = {name: str(value) for name, value in chosen.items() if value != CHOICES[name]}
    unusual |= {name: str(value) for name in ASKED if (value := manifest.parameters.get(name))}
    pairs = [(f"--{name.replace('_', '-')}", value) for name, value in (options | unusual).items()]
    pairs += [("--set", pair) for pair in manifest.parameters.get("set", ())]
    aligned = ("--aligned",) if manifest.batch > 1 and not manifest.staggered else ()
    return (manifest.trace, *(part for pair in pairs for part in pair), *aligned)


def _figures(path: Path, result: RunResult) -> Row:
    if not len(result.table["step"]):
        raise InputError(f"{path}: no step was simulated: there is nothing to report")
    return summary(result)


def _row(name: str, row: Row) -> Row:
    unknown = {bound: math.nan for bound in BOUNDS if row[bound] is None}
    return {column: value for column, value in row.items() if column != "parameters"} | unknown | {"cell": name}


TIMELINE = '{"traceEvents"'  # how one begins
EXPECTED = "a sweep, results of runs, a timeline, a validation or an analysis of a trace"


@dataclass(frozen=True)
class Study:
    """Cells that one command simulated: a sweep, or the single runs in a directory."""

    name: str
    table: SweepTable

    @property
    def version(self) -> str:
        """Version of specmoe that simulated the cells."""
        return str(self.table.manifest.get("version", ""))


@dataclass(frozen=True)
class Inputs:
    """Everything that a report shows, by directory in the given order, then by file name; study names are unique."""

    studies: tuple[Study, ...]
    analyses: tuple[Analysis, ...]
    validations: tuple[Validation, ...]
    timelines: tuple[Path, ...]


Found = Study | Analysis | Validation | Path


def read_inputs(directories: Sequence[Path]) -> Inputs:
    """Read directories; raises InputError for an empty one, a damaged file, or results of different versions."""
    found: list[Found] = []
    for directory in dict.fromkeys(directories):
        here = list(_read(directory))
        if not here:
            raise InputError(f"{directory}: nothing to report in it: {EXPECTED} expected")
        found += here
    studies = tuple(each for each in found if isinstance(each, Study))
    same_version(studies)
    return Inputs(
        tuple(_named_apart(studies)),
        tuple(each for each in found if isinstance(each, Analysis)),
        tuple(each for each in found if isinstance(each, Validation)),
        tuple(each for each in found if isinstance(each, Path)),
    )


def _named_apart(studies: Sequence[Study]) -> Iterator[Study]:
    """The studies, of which all but the first of one name get a number in theirs."""
    seen: Counter[str] = Counter()
    for study in studies:
        seen[study.name] += 1
        times = seen[study.name]
        yield study if times == 1 else replace(study, name=f"{study.name} ({times})")


def same_version(studies: Sequence[Study]) -> None:
    """Raises InputError, which names two of the results, if different versions of specmoe wrote them."""
    for one, other in pairwise(studies):
        if one.version != other.version:
            made = " and ".join(f"{each.name} by specmoe {each.version or 'unknown'}" for each in (one, other))
            raise InputError(f"{made}: results of one version expected; run one of them again")


def _read(directory: Path) -> Iterator[Found]:
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory")
    name = directory.resolve().name
    if (directory / MANIFEST).exists() or (directory / TABLE).exists():
        yield Study(name, load_sweep(directory))
    yield from _runs(name, directory)
    for path in sorted(directory.glob("*.json")):
        yield from _described(path)


def _runs(name: str, directory: Path) -> Iterator[Study]:
    """Results grouped by the version of specmoe that wrote them."""
    paths = [path for path in sorted(directory.glob("*.parquet")) if is_result(path)]
    versions: dict[str, dict[Path, RunResult]] = {}
    for path in paths:
        result = RunResult.load(path)
        versions.setdefault(result.manifest.versions.get("specmoe", ""), {})[path] = result
    for results in versions.values():
        yield Study(f"{name}/{next(iter(results)).name}" if len(versions) > 1 else name, table_of(results))


def is_result(path: Path) -> bool:
    """Whether the file's metadata are those of a run; raises InputError for what is no Parquet file."""
    require_regular(path, "a Parquet file")
    with parsing(path, "a Parquet file, or only a part of one"):
        told = json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}"))
    return isinstance(told, dict) and {"policy", "profile"} <= told.keys()


def _described(path: Path) -> Iterator[Found]:
    if path.name == FACTS:
        yield load_analysis(path.parent)
    elif path.name != MANIFEST:
        yield from _validation_or_timeline(path)


def _validation_or_timeline(path: Path) -> Iterator[Found]:
    require_regular(path, "a JSON file")
    with parsing(path, "a JSON file"), path.open(encoding="utf-8") as file:
        start = file.read(len(TIMELINE))
    if start == TIMELINE:
        yield path
        return
    if is_validation(read_json(path, "a JSON file, or only a part of one")):
        yield read_validation(path)

"""Mutated inputs for every reader and every option: whatever is no clean exit and no SpecmoeError is a failure.

    make fuzz                                        # for FUZZ_SECONDS (300), from FUZZ_SEED (the clock)
    PYTHONPATH=.:tests:tests/collect python tests/fuzz/fuzzer.py readers:123    # a case again, with its traceback

A case is a group and a seed; the seed determines the input. The last line says how many inputs failed.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from random_traces import META, random_block
from typer.main import get_command
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.errors import SpecmoeError
from specmoe.hwprofiles.catalogue import _find, load_profile, load_shape
from specmoe.hwprofiles.gguf_file import shape_from
from specmoe.results import RunResult
from specmoe.sim.speculate import predictors
from specmoe.sim.sweep.question import read_question
from specmoe.sweep_table import load_sweep
from specmoe.traces import Trace, write_trace
from specmoe.traces.importers import Options, import_trace
from specmoe.traces.synthesize import load_counts
from specmoe.traces.validation import validate
from specmoe.validate.grid import read_grid

Random = np.random.Generator
SECONDS = 60  # after which a case hangs
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 7, 2**31, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e-300, 1e300, float("inf"), float("nan"),
    "", " ", "x", "[/z]", "é\u202e", "9" * 5000, "1e999", [], [[]], {}, {"value": 1}, [1, "a"], {"": {"": {}}},
)  # fmt: skip
TEXTS = (
    "", " ", "0", "-1", "1", "2", "3", "7", "0.5", "1e-300", "1e300", "1e400", "nan", "inf", "-inf", "9" * 5000,
    str(2**31), str(2**63), str(10**30), "true", "x", "[/z]", "é", ",", "a,b", "a=b", "1..5:3", "1..5:0", "5..1:2log",
    "nan..1:3", "1e400..2:3", "1..2", "8GiB", "1e30GiB", "-4GiB", "4", "all", "none", "..", "0x10", "1_000", "None",
)  # fmt: skip
TOML = (
    "-1", "0", "1e999", "nan", "inf", "-inf", "true", '""', '"x"', "[]", "{}", "[[1]]", "9" * 30, "9" * 5000,
    "1e-300", "0.5", "1979-05-27", '"B"', "[1, 2]", "{a=1}",
)  # fmt: skip


class Hang(BaseException):
    """A case that does not end."""


class Failure(NamedTuple):
    """What went wrong, and how to see it again."""

    case: str
    error: str
    trace: str


# Inputs


def bytes_of(rng: Random, good: bytes, others: tuple[bytes, ...]) -> bytes:
    """A file with something wrong in its bytes."""
    out = bytearray(good)
    for _ in range(int(rng.integers(1, 4))):
        at, end = sorted(rng.integers(0, len(out) + 1, 2).tolist())
        kind = int(rng.integers(8))
        if kind < 3 and out:
            for place in rng.integers(0, len(out), int(rng.integers(1, 9))):
                out[place] ^= 1 << int(rng.integers(8))
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : min(end, at + 64)]
        elif kind == 5:
            out[at:at] = rng.bytes(int(rng.integers(1, 64)))
        elif kind == 6:
            out[at:at] = bytes(rng.choice([b"[", b"{", b'{"a":', b"(", b"a."])) * int(rng.choice([3, 200, 5000, 60000]))
        else:
            other = others[int(rng.integers(len(others)))]
            out[at:end] = other[: int(rng.integers(len(other) + 1))]
    return bytes(out)


def places(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, and one that is not there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(items):
        yield (*prefix, key)
        yield from places(part, (*prefix, key))
    if isinstance(value, dict):
        yield (*prefix, "odd")


def odd(rng: Random) -> Any:
    """An odd value of its own: what is put into it stays there."""
    return copy.deepcopy(ODD[int(rng.integers(len(ODD)))])


def value_of(rng: Random, good: Any) -> Any:
    """A JSON value with something wrong in it."""
    out = json.loads(json.dumps(good))
    for _ in range(int(rng.integers(1, 4))):
        known = list(places(out))
        if not known or rng.random() < 0.03:
            return odd(rng)
        *path, last = known[int(rng.integers(len(known)))]
        inner = out
        for key in path:
            inner = inner[key]
        if rng.random() < 0.25 and (not isinstance(inner, dict) or last in inner):
            del inner[last]
        else:
            inner[last] = odd(rng)
    return out


def toml_of(rng: Random, good: str) -> str:
    """TOML with some values replaced, or lines taken out or twice there."""
    lines = good.splitlines()
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        kind = rng.random()
        if kind < 0.2:
            del lines[at]
        elif kind < 0.3:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        else:
            odd_text = str(rng.choice(TOML))
            values = list(re.finditer(r"(?<=[=,\[{] )[^,\]}]+|(?<== )[^#]+", lines[at]))
            if values:
                match = values[int(rng.integers(len(values)))]
                lines[at] = lines[at][: match.start()] + odd_text + lines[at][match.end() :]
        if not lines:
            break
    return "\n".join(lines)


def table_of(rng: Random, good: pa.Table) -> pa.Table:
    """A table whose metadata, columns or values are wrong."""
    kind, names = int(rng.integers(5)), good.column_names
    name = names[int(rng.integers(len(names)))]
    if kind == 0 and good.schema.metadata:
        metadata = dict(good.schema.metadata)
        for key, text in metadata.items():
            metadata[key] = json.dumps(value_of(rng, json.loads(text))).encode() if text[:1] in b"[{" else rng.bytes(9)
        return good.replace_schema_metadata(metadata)
    if kind == 1:
        return good.drop_columns([name])
    if kind == 2:
        return good.slice(int(rng.integers(3)), int(rng.integers(3)))
    at = good.schema.get_field_index(name)
    column = good[name].to_pylist()
    odd = [None, [], "x", 0, -1, 2**31, 0.5, [1], [-1], [None], float("nan")][int(rng.integers(11))]
    for row in rng.integers(0, max(1, len(column)), 3 if kind == 3 else 0):
        if column:
            column[row] = odd
    try:
        array = pa.array(column, good.schema.field(at).type if kind == 3 else None)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        array = pa.array([odd] * len(column)) if odd != [] else pa.nulls(len(column))
    if kind == 4:
        array = pa.array([odd] * len(column)) if odd != [] else pa.nulls(len(column))
    return good.set_column(at, name, array)


def mutated(rng: Random, path: Path, target: Path, others: tuple[bytes, ...]) -> None:
    """Write a spoilt copy of a good file."""
    good = path.read_bytes()
    if rng.random() < 0.4:
        target.write_bytes(bytes_of(rng, good, others))
    elif path.suffix == ".json":
        target.write_text(json.dumps(value_of(rng, json.loads(good))))
    elif path.suffix == ".toml":
        target.write_text(toml_of(rng, good.decode()))
    elif path.suffix == ".parquet":
        pq.write_table(table_of(rng, pq.read_table(path)), target)
    elif path.suffix == ".jsonl":
        rows = [
            value_of(rng, json.loads(line)) if rng.random() < 0.3 else json.loads(line) for line in good.splitlines()
        ]
        target.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix in (".npy", ".npz"):
        arrays = [
            np.zeros((0, 2, 2), int),
            np.zeros((3, 2, 2)),
            np.full((3, 2, 2), -5),
            np.full((3, 2, 2), 2**40),
            np.array("x"),
        ]
        np.save(target, arrays[int(rng.integers(len(arrays)))])
    else:
        target.write_bytes(bytes_of(rng, good, others))


# Good files, made once


class World:
    """A directory of small files of every kind; a `full` one has a sweep and an analysis, which take longer."""

    def __init__(self, directory: Path, full: bool = True) -> None:
        self.directory = directory
        self.trace = directory / "trace.parquet"
        write_trace(self.trace, META, [random_block(40, META, 0)])
        self.shape = self._shape()
        self.run = directory / "run"
        self.sweep = directory / "sweep"
        command(["simulate", str(self.trace), *self.machine, "--policy", "oracle", "--out", str(self.run)])
        if full:
            cells = ["--policy", "oracle,on-demand-lru", "--workers", "1", "--out", str(self.sweep)]
            command(["sweep", "--trace", str(self.trace), *self.machine, *cells])
            command(["analyze", str(self.trace), "--out", str(directory / "analysis")])
        self._texts()
        self._recordings()
        self.good = {
            path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if path.is_file()
        }
        self.others = tuple(path.read_bytes()[:4096] for path in self.good.values())

    @property
    def machine(self) -> list[str]:
        """Options of a machine and a model for the trace."""
        return ["--shape", str(self.shape), "--slots", "9", "--steps", "6"]

    def _shape(self) -> Path:
        path = self.directory / "shape.toml"
        shutil.copy(_find("shapes", "shape", "switch-base-128"), path)
        return path

    def _texts(self) -> None:
        shutil.copy(_find("profiles", "profile", "rtx3090"), self.directory / "profile.toml")
        shutil.copy(_find("profiles", "profile", "h100-sxm5-80gb"), self.directory / "curves.toml")
        shutil.copy(predictors.RUNNING_TIMES, self.directory / "times.toml")
        (self.directory / "grid.toml").write_text(
            '[[group]]\nshape = "switch-base-128"\nphase = "decode"\nformat = "fp16"\nbatch = 1\nsteps = 150\n'
            "cells.lookahead = [77, 154]\nfit.lookahead = [154]\n"
        )
        (self.directory / "question.toml").write_text(
            f'trace = "{self.trace}"\nshape = "{self.shape}"\npolicy = ["oracle", "lookahead"]\nslots = [9, 12]\n'
            'steps = 4\nbatch = [1, 2]\nlink = "fifo"\nhost = "graph"\ntier = "host-pinned"\none-at-a-time = 0.5\n'
            '[set]\n"prefetch.limit" = [1, 2]\n[scale]\n"expert.speed" = {from = 1, to = 2, count = 2}\n'
        )
        (self.directory / "counts.json").write_text(
            json.dumps({"expert_counts": {"0": {"0": 1, "1": 5}, "1": {"0": 2, "1": 3}}, "origin": "x"})
        )

    def _recordings(self) -> None:
        rows = [
            {"seq": 0, "pos": p, "layer": layer, "experts": [p % 4, 5], "probs": [0.5, 0.25], "phase": "decode"}
            for p in range(4)
            for layer in range(2)
        ]
        (self.directory / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))
        flat = [row | {"experts": "3 5", "probs": "0.5 0.25"} for row in rows]
        lines = [",".join(flat[0]), *(",".join(map(str, row.values())) for row in flat)]
        (self.directory / "long.csv").write_text("\n".join(lines))
        pq.write_table(pa.Table.from_pylist(rows), self.directory / "long.parquet")
        short = [
            {"p": 0, "t": t, "l": la, "e": [t, 5], "s": [0.5, 0.25], "ph": "decode"}
            for t in range(4)
            for la in range(2)
        ]
        header = {"model_name": "m", "num_layers": 2, "num_experts": 16, "top_k": 2}
        (self.directory / "policylang.jsonl").write_text("\n".join(map(json.dumps, [header, *short])))
        table = pa.table(
            {"seq": [0, 0], "pos": [0, 1], "expert_ids": [[0, 1, 2, 3] * 2] * 2, "expert_probs": [[0.25] * 8] * 2}
        )
        described = json.dumps([{"seq": 0, "dataset": "d", "category": "c"}])
        pq.write_table(
            table.replace_schema_metadata({"origin": "o", "sequences": described}), self.directory / "gptoss.parquet"
        )
        np.save(self.directory / "vllm.npy", np.arange(24).reshape(6, 2, 2) % 8)
        np.savez(self.directory / "vllm.npz", a=np.ones((2, 2, 2), int), b=np.zeros((3, 2, 2), int))
        recordings = {"megatron.jsonl": "router_trace_rank0.jsonl", "llama.txt": "moe-trace.txt"}
        for name, recording in (recordings | {"model.gguf": "tiny-Q4_K_M.gguf", "config.json": "config.json"}).items():
            shutil.copy(Path(__file__).parents[1] / "recordings" / recording, self.directory / name)


def command(arguments: list[str]) -> int:
    """Run a command; raises whatever it raises that is no clean exit."""
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code not in (0, 1, 2):
        raise AssertionError(f"exit status {done.exit_code}")
    if done.exit_code == 1 and not done.stderr.strip():
        raise AssertionError("exit status 1 without a word")
    return done.exit_code


# Groups


def _import(name: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        return import_trace(path, name, path.with_name("imported.parquet"), Options(num_experts=16))

    return read


READERS: dict[str, Callable[[Path], Any]] = {
    "profile.toml": lambda path: load_profile(str(path)),
    "curves.toml": lambda path: load_profile(str(path)),
    "shape.toml": lambda path: load_shape(str(path)),
    "question.toml": read_question,
    "grid.toml": read_grid,
    "times.toml": predictors.read_times,
    "counts.json": load_counts,
    "trace.parquet": lambda path: validate(Trace(path)),
    "run/oracle.parquet": RunResult.load,
    **{f"long.{ending}": _import("long") for ending in ("jsonl", "csv", "parquet")},
    "policylang.jsonl": _import("policylang"),
    "gptoss.parquet": _import("gptoss"),
    "vllm.npy": _import("vllm"),
    "vllm.npz": _import("vllm"),
    "megatron.jsonl": _import("megatron"),
    "llama.txt": _import("llama"),
    "config.json": shape_from,
    "model.gguf": shape_from,
}


def one_of(rng: Random, options: Any) -> Any:
    """A random one."""
    known = list(options)
    return known[int(rng.integers(len(known)))]


def readers(rng: Random, world: World, place: Path) -> None:
    """A spoilt file through its reader."""
    name = one_of(rng, READERS)
    target = place / Path(name).name
    mutated(rng, world.good[name], target, world.others)
    READERS[name](target)


def foreign(rng: Random, world: World, place: Path) -> None:
    """A good file through a reader of another kind."""
    path, name = one_of(rng, world.good.values()), one_of(rng, READERS)
    target = place / Path(name).name
    shutil.copy(path, target)
    READERS[name](target)


def directories(rng: Random, world: World, place: Path) -> None:
    """A directory of results with a spoilt file, through report, plot and analysis."""
    kind = one_of(rng, ("run", "sweep", "analysis"))
    shutil.copytree(world.directory / kind, place / kind)
    path = one_of(rng, [path for path in sorted((place / kind).iterdir()) if path.suffix in (".json", ".parquet")])
    mutated(rng, world.directory / kind / path.name, path, world.others)
    if kind == "sweep" and rng.random() < 0.5:
        load_sweep(place / kind)
    command(
        [
            one_of(rng, ("report", "plot")),
            str(place / kind),
            "--out",
            str(place / f"out{one_of(rng, ('', '.html', '.png'))}"),
        ]
    )


NAMES = (
    "prefetch.limit", "prefetch.threshold", "prefetch.after_launch", "eviction", "predictor", "sharing", "keep",
    "assumed_predict_ns", "predictor.depth", "predictor.warm", "predictor.checkpoint", "predictor.assumed_precision",
    "host_to_device.pinned.bandwidth", "host_to_device.pinned.latency", "device.memory_bandwidth", "device.vram",
    "nvme.bandwidth", "host.graph.layer", "link.generation", "link.lanes", "x", "", "expert.speed", "dense.speed",
)  # fmt: skip


def settings(rng: Random, world: World, place: Path) -> None:
    """--set and --scale of simulate and sweep."""
    name, value = one_of(rng, NAMES), one_of(rng, TEXTS)
    policy = one_of(rng, ("lookahead", "on-demand-lru", "oracle", "gpu-only"))
    profile = one_of(rng, ("rtx3090", "h100-sxm5-80gb"))
    common = [*world.machine, "--policy", policy, "--profile", profile]
    if rng.random() < 0.6:
        command(["simulate", str(world.trace), *common, "--set", f"{name}={value}"])
    else:
        option = one_of(rng, ("--set", "--scale"))
        command(
            [
                "sweep",
                "--trace",
                str(world.trace),
                *common,
                option,
                f"{name}={value}",
                "--workers",
                "1",
                "--out",
                str(place / "o"),
            ]
        )


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that is no group, with the words that call it."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _commands(inner, (*path, name))
    else:
        yield path, command


@cache
def option_places() -> tuple[tuple[tuple[str, ...], str, bool], ...]:
    """Every option of every command: the words that call the command, the option's name, whether it takes a value."""
    return tuple(
        (path, max(option.opts, key=len), not option.is_flag)
        for path, command in _commands(get_command(app))
        for option in command.params
        if option.param_type_name == "option" and (path, max(option.opts, key=len)) not in LEFT_OUT
    )


LEFT_OUT = {
    (("sweep",), "--dask"): "waits for a cluster",
    (("demo",), "--out"): "a right one runs for a minute",
}


def _calls(world: World, place: Path) -> dict[tuple[str, ...], list[str]]:
    """Right arguments of commands; those that would take minutes lack a file, so that only their options are read."""
    trace, missing, out = str(world.trace), "missing.toml", ["--out", str(place / "o")]
    counts = ["--tokens", "20", "--sequences", "2", "--assumed-stickiness", "0.5", "--candidates", "2"]
    return {
        ("simulate",): [trace, *world.machine, "--policy", "lookahead"],
        ("sweep",): ["--trace", trace, *world.machine, "--policy", "lookahead", "--workers", "1", *out],
        ("report",): [str(world.run), *out],
        ("plot",): [str(world.run), *out],
        ("evaluate",): [trace, "--predictor", "frequency"],
        ("analyze",): [missing, *out],
        ("checksums",): [trace, "--steps", "2"],
        ("traces", "info"): [trace],
        ("traces", "validate"): [trace],
        ("traces", "head"): [trace],
        ("traces", "split"): [trace, *out],
        ("traces", "export"): [trace, *out],
        ("traces", "import"): [str(world.good["long.jsonl"]), "--format", "long", "--num-experts", "16", *out],
        ("traces", "synthesize"): [str(world.good["counts.json"]), *counts, *out],
        ("profile", "show"): ["rtx3090"],
        ("profile", "diff"): ["rtx3090", "rtx4090"],
        ("profile", "fit"): ["h100-sxm5-80gb"],
        ("profile", "measure"): out,
        ("advise",): ["--profile", "rtx3090", "--vram", "4GiB", "--model", "switch-base-128", "--trace", missing],
        ("demo",): ["--out", str(world.trace)],
        ("collect",): ["--model", missing, *out],
        ("pretrain",): ["--preset", "switch-mini-128", "--text", missing, *out],
        ("train",): [missing, "--architecture", "mlp", *out],
        ("validate",): [missing, "--profile", "rtx3090", *out],
        ("calibrate",): [missing, missing, "--profile", "rtx3090", *out],
        ("reproduce", "isca24"): ["--shape", missing],
    }


def _odd_option(rng: Random, name: str, valued: bool) -> list[str]:
    return [name, one_of(rng, [text for text in TEXTS if text != ".."])] if valued else [name]


def options(rng: Random, world: World, place: Path) -> None:
    """A command with one or two options whose values are odd; every option of every command is as likely."""
    path, name, valued = one_of(rng, option_places())
    wrong = _odd_option(rng, name, valued)
    if rng.random() < 0.5:
        _, name, valued = one_of(rng, [place for place in option_places() if place[0] == path])
        wrong += _odd_option(rng, name, valued)
    with inside(place):
        command([*path, *_calls(world, place).get(path, []), *wrong])


def advice(rng: Random, world: World, place: Path) -> None:
    """`advise` on a trace, with an option whose value is odd."""
    names = [name for path, name, valued in option_places() if path == ("advise",) and valued]
    arguments = ["--profile", "rtx3090", "--vram", "4GiB", "--trace", str(world.trace), "--steps", "2"]
    with inside(place):
        command(["advise", *arguments, "--model", str(world.shape), *_odd_option(rng, one_of(rng, names), True)])


def files(rng: Random, world: World, place: Path) -> None:
    """A command on a spoilt file."""
    name = one_of(rng, ("trace.parquet", "profile.toml", "curves.toml", "shape.toml", "question.toml"))
    target = place / name
    mutated(rng, world.good[name], target, world.others)
    policy = one_of(rng, ("lookahead", "on-demand-lru", "oracle"))
    if name == "question.toml":
        command(["sweep", str(target), "--workers", "1", "--out", str(place / "o")])
    elif name == "trace.parquet" and rng.random() < 0.5:
        calls = [["evaluate", "--predictor", "frequency"], ["traces", "info"], ["traces", "head"]]
        command([*one_of(rng, calls), str(target)])
    else:
        trace = target if name == "trace.parquet" else world.trace
        option = {"shape.toml": "--shape", "profile.toml": "--profile", "curves.toml": "--profile"}.get(name)
        command(
            ["simulate", str(trace), *world.machine, "--policy", policy, *([option, str(target)] if option else [])]
        )


@cache
def _checkpoint(model_type: str, directory: Path) -> Path:
    from tiny_models import save_tiny

    return save_tiny(directory / "models" / model_type, model_type)


def checkpoints(rng: Random, world: World, place: Path) -> None:
    """A Hugging Face checkpoint whose configuration is spoilt."""
    from tiny_models import CONFIGS

    from specmoe.traces.collect import CollectJob, collect, quieten

    quieten()
    model = _checkpoint(one_of(rng, CONFIGS), world.directory)
    shutil.copytree(model, place / "model")
    name = one_of(
        rng,
        (
            "config.json",
            "config.json",
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "specmoe.json",
            "model.safetensors",
        ),
    )
    if (model / name).exists():
        mutated(rng, model / name, place / "model" / name, world.others)
    (place / "text.txt").write_text("the cat sat on a mat and read of maps " * 20)
    collect(
        CollectJob(
            str(place / "model"), place / "t.parquet", text=(place / "text.txt",), window=16, sequences=1, device="cpu"
        )
    )


GROUPS: dict[str, Callable[[Random, World, Path], None]] = {
    "readers": readers,
    "foreign": foreign,
    "directories": directories,
    "settings": settings,
    "options": options,
    "files": files,
    "advice": advice,
    "checkpoints": checkpoints,
}
SHARES = {  # of 400 inputs, so that each group takes a fair part of the time: a reader takes 4 ms, a checkpoint 1.5 s
    "readers": 244, "foreign": 60, "settings": 28, "options": 36, "files": 28, "directories": 2, "advice": 1,
    "checkpoints": 1,
}  # fmt: skip


# Running


@contextmanager
def inside(place: Path) -> Iterator[None]:
    """Relative paths are meant from here."""
    before = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


def attempt(group: str, seed: int, world: World) -> Failure | None:
    """Run one case."""

    def hang(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, hang)
    with tempfile.TemporaryDirectory() as place:
        try:
            signal.alarm(SECONDS)
            GROUPS[group](np.random.default_rng(seed), world, Path(place))
        except SpecmoeError as error:
            return Failure(f"{group}:{seed}", "a message of several lines", str(error)) if "\n" in str(error) else None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = next(
                (f for f in reversed(traceback.extract_tb(error.__traceback__)) if "/specmoe/" in f.filename), last
            )
            brief = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:90]!r}"
            return Failure(f"{group}:{seed}", brief, traceback.format_exc())
        finally:
            signal.alarm(0)
    return None


def turns_of(groups: tuple[str, ...]) -> list[str]:
    """The groups of consecutive inputs: each as often as its share, spread evenly."""
    turns = [((turn + 0.5) / SHARES[group], group) for group in groups for turn in range(SHARES[group])]
    return [group for _, group in sorted(turns)]


def fuzz(
    world: World, seed: int, seconds: float, most: int = sys.maxsize, groups: tuple[str, ...] = tuple(GROUPS)
) -> tuple[int, list[Failure]]:
    """As many cases as time allows, and those that failed."""
    end, failures = time.monotonic() + seconds, []
    turns = turns_of(groups)
    for number in count():
        if number >= most or time.monotonic() > end:
            return number, failures
        failure = attempt(turns[number % len(turns)], seed + number, world)
        if failure is not None:
            failures.append(failure)
            print(f"{failure.case}: {failure.error}", flush=True)  # noqa: T201
    raise AssertionError


def main() -> int:
    """The command line."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        if len(sys.argv) > 1:
            cases = [argument.rsplit(":", 1) for argument in sys.argv[1:]]
            shown = [attempt(group, int(seed), world) for group, seed in cases]
            print("\n".join(failure.trace if failure else "clean" for failure in shown))  # noqa: T201
            return int(any(shown))
        seed = int(os.environ.get("FUZZ_SEED", time.time_ns() // 1000 % 10**9))
        inputs, failures = fuzz(world, seed, float(os.environ.get("FUZZ_SECONDS", "300")))
    for error, times in Counter(failure.error.split(":")[0] for failure in failures).most_common():
        print(f"{times:6} {error}")  # noqa: T201
    for failure in failures:
        print(f"again: PYTHONPATH=.:tests:tests/collect python tests/fuzz/fuzzer.py {failure.case}")  # noqa: T201
    turns = turns_of(tuple(GROUPS))
    for group, times in Counter(turns[number % len(turns)] for number in range(inputs)).items():
        print(f"{times:6} inputs of {group}")  # noqa: T201
    print(f"{inputs} inputs, {len(failures)} failures (FUZZ_SEED={seed})")  # noqa: T201
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())

"""How long a what-if of a thousand cells takes on two cores, and cell by cell: `python -m benchmarks.sweep`."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.grid import cells_of
from specmoe.sim.sweep.job import Asked, run_sweep
from specmoe.sim.sweep.question import read_grid
from specmoe.sim.sweep.workers import processes

TRACE = "switch-mini-128/decode/test"
LINK = "host_to_device.pinned.bandwidth"
WORKERS = 2
POLICIES = (
    "gpu-only",
    "oracle",
    "on-demand",
    "on-demand-lru",
    "on-demand-lfu",
    "static",
    "lookahead",
    "mixtral-offloading",
    "transition",
    "token-identity",
)
QUESTION = read_grid(
    {
        "trace": TRACE,
        "policy": list(POLICIES),
        "slots": [32, 64, 154, 227, 400],
        "format": "fp16",
        "set": {LINK: "6GB/s..60GB/s:20log"},
    }
)


def main() -> None:
    """Print a table and one JSON line."""
    cells = cells_of(QUESTION)
    with tempfile.TemporaryDirectory() as out:
        asked = Asked(cells, QUESTION, "python -m benchmarks.sweep")
        started = time.perf_counter()
        done = run_sweep(asked, Path(out), partial(processes, WORKERS))
        seconds = time.perf_counter() - started
    row = {
        "cells": len(cells),
        "steps_each": int(done.table.good["steps"].max()),
        "failed": done.table.manifest["failed"],
        "workers": WORKERS,
        "seconds": round(seconds, 1),
        "cells_per_s": round(len(cells) / seconds, 1),
        "one_by_one_s": round(one_by_one_s() * len(cells)),
    }
    sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")
    sys.stdout.write(json.dumps([row]) + "\n")


def one_by_one_s() -> float:
    """Seconds of a cell that is predicted, decided and simulated on its own, with its bounds: a mean over policies."""
    started = time.perf_counter()
    for name in POLICIES:
        Scenario(RunConfig(TRACE, format="fp16", slots=154)).run(name)
    return (time.perf_counter() - started) / len(POLICIES)


if __name__ == "__main__":
    main()

"""A sweep on a dask cluster: a real scheduler and two worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweep_cases import LINK, cell
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.errors import MissingExtraError
from specmoe.sim.sweep import workers
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.sim.sweep.job import Asked, rows_in_pieces, run_sweep
from specmoe.sim.sweep.workers import Workers, dask_workers

CELLS = [
    cell(name, {LINK: rate}, slots=slots, steps=10)
    for name in ("static", "transition")
    for slots in (20, 60)
    for rate in (3e9, 9e9)
]
CLI = (sys.executable, "-m")
QUIET = ("--no-dashboard", "--host", "127.0.0.1")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler that has two workers."""
    pytest.importorskip("distributed", reason="the extra specmoe[scale] is not installed")
    place = tmp_path_factory.mktemp("dask")
    told = place / "scheduler.json"
    with ExitStack() as exits:

        def start(*command: str) -> None:
            running = subprocess.Popen(
                [*CLI, *command], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            exits.callback(running.wait, 20)
            exits.callback(running.terminate)

        start("distributed.cli.dask_scheduler", "--port", "0", "--scheduler-file", str(told), *QUIET)
        for _ in range(2):
            start("distributed.cli.dask_worker", "--scheduler-file", str(told), "--nthreads", "1", "--no-nanny", *QUIET)
        until = time.monotonic() + 60
        while not told.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        address: str = json.loads(told.read_text())["address"]
        while True:
            with dask_workers(address) as cluster:
                if cluster.number == 2:
                    break
            assert time.monotonic() < until
        yield address


def test_two_workers_elsewhere_say_what_one_process_says(scheduler: str, tmp_path: Path) -> None:
    done = run_sweep(Asked(CELLS, {}, ""), tmp_path, lambda: dask_workers(scheduler))
    here = evaluate(CELLS)
    for name in ("cell", "policy", "slots", "latency_mean_ns", "oracle_ns", "hits", "timed_by"):
        assert done.table.rows[name].tolist() == [row[name] for row in here]
    assert (done.kept, done.computed) == (0, len(CELLS))


def test_pieces_of_a_trace_are_spread_and_added_up(scheduler: str, tmp_path: Path) -> None:
    cut = cell("lookahead", steps=None, pieces=3, batch=2, settings=None)
    done = run_sweep(Asked([cut], {}, ""), tmp_path, lambda: dask_workers(scheduler))
    ((_, row),) = rows_in_pieces(Workers(ThreadPoolExecutor(1), 1), [cut])
    found = done.table.rows.iloc[0]
    for name in ("cell", "slots", "latency_mean_ns", "latency_p99_ns", "hits", "demand_loads", "warm_up_steps"):
        assert found[name] == row[name], name
    assert any(warning.startswith("run in 3 pieces of whole sequences") for warning in found["warnings"])


def test_the_work_is_spread(scheduler: str) -> None:
    def process(number: int) -> int:
        time.sleep(0.1)
        return os.getpid() + 0 * number

    with dask_workers(scheduler) as cluster:
        found = [pid for _, pid in cluster.each(process, list(range(8)))]
    assert len(set(found)) == 2


def sweep(*more: str) -> Any:
    trace = "switch-mini-128/decode/test"
    return CliRunner().invoke(
        app, ["sweep", "--trace", trace, "--policy", "static", "--slots", "9,60", "--steps", "9", *more]
    )


def test_from_the_command_line(scheduler: str, tmp_path: Path) -> None:
    found = sweep("--dask", scheduler, "--out", str(tmp_path))
    assert found.exit_code == 0, found.output
    assert len(pd.read_parquet(tmp_path / "sweep.parquet")) == 2


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "tcp://nowhere"])
def test_a_scheduler_that_is_not_there(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dask's own patience is 30 s."""
    distributed = pytest.importorskip("distributed", reason="the extra specmoe[scale] is not installed")
    patience: list[float] = []
    client = distributed.Client

    def noted(*arguments: Any, timeout: float, **more: Any) -> Any:
        patience.append(timeout)
        return client(*arguments, timeout=timeout, **more)

    monkeypatch.setattr(distributed, "Client", noted)
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    found = sweep("--dask", address, "--out", str(tmp_path / "out"))
    assert patience == ([0.5] if address.endswith(":9") else [])  # what is no address is not tried
    assert found.exit_code == 1
    assert found.stderr.startswith(f"error: --dask {address}: ")
    assert found.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e '.\[scale\]'"), dask_workers("tcp://127.0.0.1:9"):
        pass

"""A sweep that is killed, or interrupted, for real: what is done is kept, and its workers end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sweep_cases import LINK, TRACE
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.sweep_table import load_sweep

SWEEP = ("--trace", TRACE, "--policy", "on-demand-lru", "--slots", "20,60,100", "--link", "priority", "--steps", "200")
ASKED = (*SWEEP, "--set", f"{LINK}=3GB/s..30GB/s:8")  # by the engine: slow enough to be killed


def start(out: Path) -> subprocess.Popen[str]:
    code = "from specmoe.cli import app; app()"
    command = [sys.executable, "-c", code, "sweep", *ASKED, "--out", str(out), "--workers", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def is_alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(what: Callable[[], object], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_it_continues(tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "out"
    parts = out / "parts"
    running = start(out)
    wait_for(lambda: list(parts.glob("*.parquet")))
    workers = children(running.pid)
    assert workers
    os.kill(running.pid, how)
    _, told = running.communicate(timeout=300)
    wait_for(lambda: not any(map(is_alive, workers)))
    if how == signal.SIGINT:
        assert running.returncode == 130
        assert told.endswith(f"of 24 cells are kept in {out}; run it again to continue\n")
        assert "Traceback" not in told
    assert not (out / "sweep.parquet").exists()
    assert not [path for path in parts.iterdir() if path.suffix == ".tmp"] or how == signal.SIGKILL
    kept = sum(len(pd.read_parquet(path)) for path in parts.glob("*.parquet"))
    again = CliRunner().invoke(app, ["sweep", *ASKED, "--out", str(out), "--workers", "1", "--json"])
    (found,) = json.loads(again.stdout)
    assert (found["kept"], found["computed"], found["failed"]) == (kept, 24 - kept, 0)
    assert 0 < kept < 24
    assert sorted(path.name for path in out.iterdir()) == ["sweep.json", "sweep.parquet"]
    assert len(load_sweep(out).good) == 24

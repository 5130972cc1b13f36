"""What the tests share: random but valid traces; see `random_traces`."""

from __future__ import annotations

import dataclasses
import gc
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from examples import load_profile
from random_traces import META, random_block

from specmoe.commands import console
from specmoe.sim.sweep import retiming, workers
from specmoe.traces import Block, TraceMeta, store, write_trace
from specmoe.traces.store import Trace, root

load_profile()


def obey_signals() -> None:
    """Let processes of tests obey what this one ignores, where `nohup` or a shell's `&` started it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # a handler, unlike ignoring, is not inherited


def once(read: Callable[[Path], Any], home: Path) -> Callable[[Path], Any]:
    """A reader of files that reads each one under `home` once."""
    kept = cache(read)
    return lambda path: (kept if path.is_relative_to(home) else read)(path)


def pytest_configure() -> None:
    """Build the tree of commands once per process, and read what is bundled once, since neither changes."""
    import typer.testing

    from specmoe.hwprofiles import catalogue
    from specmoe.sim import routing

    obey_signals()
    typer.testing._get_command = cache(typer.testing._get_command)  # type: ignore[attr-defined]
    for name in ("read_profile", "read_host", "read_shape"):
        setattr(catalogue, name, once(getattr(catalogue, name), Path(catalogue.__file__).parent))
    read, bundled = routing.read_valid, root().resolve()
    read_once = lru_cache(maxsize=4)(lambda path, domains: read(store.open(path, domains)))

    def read_valid(trace: Trace) -> Block:
        is_bundled = trace.path.resolve().is_relative_to(bundled)
        return read_once(trace.path, trace.domains) if is_bundled else read(trace)

    routing.read_valid = read_valid


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels before several processes need them, each of which would."""
    if getattr(session.config.option, "numprocesses", None) and find_spec("numba"):
        from sweep_cases import cell

        from specmoe.sim.decide import compiled
        from specmoe.sim.sweep.evaluate import evaluate

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "FEWEST_USES", 0)  # or so short a run is decided in Python
            evaluate([cell(steps=1)])


def pytest_collection_finish() -> None:
    """Let no search for garbage look through all tests and libraries again, and search less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def _no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command prints does not depend on how fast this machine is."""
    monkeypatch.setattr(console, "PERIOD", 3600.0)


@pytest.fixture(scope="module", autouse=True)
def _a_few_draws(request: pytest.FixtureRequest) -> Iterator[None]:
    """Timing all drawn machines takes longer than most runs: only tests of draws and of what docs show have all."""
    with pytest.MonkeyPatch.context() as patch:
        if not any(word in request.node.name for word in ("draws", "docs", "guide")):
            patch.setattr(retiming, "DRAWS", 20)
        yield


@contextmanager
def one_thread(number: int) -> Iterator[workers.Workers]:
    with ThreadPoolExecutor(1) as executor:
        yield workers.Workers(executor, number)


@pytest.fixture(autouse=True)
def _a_thread_for_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep's processes take seconds to start: only a test that is named for processes has some."""
    if "processes" not in request.node.name:
        monkeypatch.setattr(workers, "processes", one_thread)


@pytest.fixture(scope="session")
def make_block() -> Callable[..., Block]:
    """`make_block(n, meta, seed)`: see `random_block`."""
    return random_block


@pytest.fixture
def meta() -> TraceMeta:
    return META


@pytest.fixture
def make_trace(tmp_path: Path) -> Callable[..., Path]:
    """`make_trace(n, seed=0, name="t.parquet", **fields of the metadata)` writes a random trace and gives its path."""

    def make(n: int = 50, seed: int = 0, name: str = "t.parquet", **changes: Any) -> Path:
        changed = dataclasses.replace(META, **changes)
        write_trace(tmp_path / name, changed, [random_block(n, changed, seed)])
        return tmp_path / name

    return make

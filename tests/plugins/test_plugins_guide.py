"""The package that docs/guides/policy.md shows: installed as it stands there, and used in every way it names."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks, commands
from plug_in import hits, install
from test_docs_commands import PLUG_IN, run_commands

GUIDE = (ROOT / PLUG_IN).read_text()
SOURCE, PROJECT = blocks(GUIDE, "python")[0], tomllib.loads(blocks(GUIDE, "toml")[0])


@pytest.fixture
def farthest(site: Path) -> Path:
    """The guide's package, installed."""
    project = PROJECT["project"]
    (module,) = PROJECT["tool"]["setuptools"]["py-modules"]
    install(site, project["name"], project["entry-points"], {module: SOURCE}, project["version"])
    return site


def test_it_has_thirty_lines_at_most() -> None:
    assert len(SOURCE.splitlines()) <= 30
    assert ast.parse(SOURCE)


def test_what_the_guide_shows_is_what_happens(farthest: Path) -> None:
    assert len(commands(GUIDE)) >= 2
    run_commands(commands(GUIDE))


def test_below_the_cliff_it_beats_an_lru_and_not_belady(farthest: Path) -> None:
    assert hits("on-demand-lru") == 0 < hits("farthest-layer") < hits("belady")


def test_a_worker_process_finds_it(farthest: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(hits, "farthest-layer").result() == hits("farthest-layer")


def checks(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The repository's own tests, with the plug-ins there."""
    shell = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, env=shell, capture_output=True, text=True)


def test_the_contract_of_evictions_finds_it(farthest: Path) -> None:
    done = checks(farthest, "tests/decide/test_evictions.py", "tests/decide/test_properties.py", "-k", "farthest-layer")
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def test_the_contract_of_predictors_finds_one_that_peeks(site: Path) -> None:
    source = (
        "from specmoe.sim.speculate.predictors.heuristics import PreGated\n"
        "class Cheat(PreGated):\n    '''Says that it knows nothing of the future.'''\n    peeks = False\n"
    )
    install(site, "cheat", {"specmoe.predictors": {"cheat": "cheat:Cheat"}}, {"cheat": source})
    done = checks(site, "tests/speculate/test_predictor_contract.py", "-k", "cheat and no_peeking")
    assert done.returncode == 1, done.stdout
    assert "2 failed" in done.stdout

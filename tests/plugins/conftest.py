"""A place that plug-ins are found in, and tables that have not looked yet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from specmoe.plugins import Table
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.speculate.predictors import PREDICTORS


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on `sys.path`; before and after the test no table knows what is in it."""
    before = set(sys.modules)
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    tables: tuple[Table[object], ...] = (POLICIES, EVICTIONS, PREDICTORS)  # type: ignore[assignment]  # whatever they hold
    for table in tables:
        monkeypatch.setattr(table, "_plug_ins", None)
        for name, empty in (("_points", {}), ("_unusable", {}), ("_untold", [])):
            monkeypatch.setattr(table, name, empty)
    yield tmp_path / "site"
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]

"""Each experiment is simulated once for all tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from typer.testing import CliRunner

from specmoe.cli import app


@cache
def _printed(*options: str) -> str:
    result = CliRunner().invoke(app, ["reproduce", "isca24", *options])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="session")
def printed() -> Callable[[str], str]:
    """`printed(shape)`: what the command prints for people."""
    return lambda shape: _printed("--shape", shape)


@pytest.fixture(scope="session")
def found() -> Callable[[str], dict[str, Any]]:
    """`found(shape)`: what the command prints for programs."""
    return lambda shape: json.loads(_printed("--shape", shape, "--json"))[0]

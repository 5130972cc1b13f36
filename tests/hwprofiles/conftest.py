"""Profiles and shapes made of tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hw_tables import profile_table, put, shape_table, write

from specmoe.hwprofiles import HardwareProfile, ModelShape, load_profile, load_shape


@pytest.fixture(scope="session")
def make_profile(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., HardwareProfile]:
    """`make_profile({"dotted.name": table or None, ...})`: the profile by hand with some parts changed."""
    path = tmp_path_factory.mktemp("profiles") / "hand.toml"

    def make(changes: dict[str, Any] | None = None) -> HardwareProfile:
        table = profile_table()
        for name, value in (changes or {}).items():
            table = put(table, name, value)
        return load_profile(str(write(path, table)))

    return make


@pytest.fixture(scope="session")
def make_shape(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelShape]:
    """`make_shape({"dotted.name": value or None, ...})`: the shape by hand with some parts changed."""
    path = tmp_path_factory.mktemp("shapes") / "hand.toml"

    def make(changes: dict[str, Any] | None = None) -> ModelShape:
        table = shape_table()
        for name, value in (changes or {}).items():
            table = put(table, name, value)
        return load_shape(str(write(path, table)))

    return make


@pytest.fixture(scope="session")
def profile(make_profile: Callable[..., HardwareProfile]) -> HardwareProfile:
    return make_profile()


@pytest.fixture(scope="session")
def shape(make_shape: Callable[..., ModelShape]) -> ModelShape:
    return make_shape()

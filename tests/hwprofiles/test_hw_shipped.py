"""Every shipped profile and shape goes through every check of `hw_checks`; a new file is tested without a line here."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import hw_checks
import pytest

import specmoe
from specmoe.hwprofiles import load_profile, load_shape, profile_names, shape_names
from specmoe.hwprofiles.catalogue import host_names

ROOT = Path(str(files("specmoe.hwprofiles")))
SHIPPED_PROFILES = {"rtx3090", "rtx4090", "rtx5090", "a6000", "a100-sxm4-80gb"}
SHIPPED_SHAPES = {
    *(f"switch-base-{experts}" for experts in (8, 16, 32, 64, 128, 256)),
    "switch-large-128",
    "switch-xxl-128",
    "mixtral-8x7b",
    "qwen1.5-moe-a2.7b",
    "deepseek-moe-16b",
    "deepseek-v2-lite",
    "olmoe-1b-7b",
    "qwen3-30b-a3b",
    "gpt-oss-20b",
    "gpt-oss-120b",
}


def checks(kind: str) -> list[Any]:
    """Functions of `hw_checks` whose names begin so."""
    found = [check for name, check in vars(hw_checks).items() if name.startswith(f"check_{kind}")]
    assert found
    return [pytest.param(check, id=check.__name__.removeprefix("check_")) for check in found]


def test_what_is_shipped() -> None:
    assert set(profile_names()) >= SHIPPED_PROFILES
    assert set(shape_names()) >= SHIPPED_SHAPES


@pytest.mark.parametrize("name", profile_names())
@pytest.mark.parametrize("check", checks("file"))
def test_profile_files(check: Callable[..., None], name: str) -> None:
    check(ROOT / "profiles" / f"{name}.toml")


@pytest.mark.parametrize("name", host_names())
@pytest.mark.parametrize("check", checks("file"))
def test_host_files(check: Callable[..., None], name: str) -> None:
    check(ROOT / "hosts" / f"{name}.toml")


@pytest.mark.parametrize("name", profile_names())
@pytest.mark.parametrize("check", checks("profile"))
def test_profiles(check: Callable[..., None], name: str) -> None:
    check(load_profile(name))


@pytest.mark.parametrize("name", shape_names())
@pytest.mark.parametrize("check", checks("shape"))
def test_shapes(check: Callable[..., None], name: str) -> None:
    check(load_shape(name))


@pytest.mark.parametrize("name", profile_names())
@pytest.mark.parametrize("check", checks("costs"))
def test_shapes_on_profiles(check: Callable[..., None], name: str) -> None:
    profile = load_profile(name)
    for shape in shape_names():
        check(profile, load_shape(shape))


@pytest.mark.parametrize("name", profile_names())
def test_names_are_those_of_the_files(name: str) -> None:
    assert load_profile(name).name == name


def test_hashes_differ() -> None:
    assert len({load_profile(name).hash for name in profile_names()}) == len(profile_names())


@pytest.mark.parametrize("name", shape_names())
def test_shape_names_are_those_of_the_files(name: str) -> None:
    assert load_shape(name).name == name


def test_own_files_are_read_by_path() -> None:
    assert load_profile(str(ROOT / "profiles" / "rtx3090.toml")) == load_profile("rtx3090")
    assert load_shape(str(ROOT / "shapes" / "mixtral-8x7b.toml")) == load_shape("mixtral-8x7b")


def test_data_files_are_packaged() -> None:
    """Everything beside the code matches a pattern of package-data."""
    import tomllib

    project = tomllib.loads((Path(specmoe.__file__).parents[1] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["specmoe.hwprofiles"]
    packaged = {path for pattern in patterns for path in ROOT.glob(pattern)}
    beside = {path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert beside == packaged

"""What `specmoe status` finds, part by part, and how it says it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from specmoe import __version__
from specmoe import status as inventory
from specmoe.cli import app
from specmoe.hwprofiles.catalogue import load_profile, profile_names, shape_names
from specmoe.hwprofiles.expected_error import accuracies
from specmoe.hwprofiles.measure import usable
from specmoe.hwprofiles.measure.usable import Device, Usable, seen_by, usable_devices
from specmoe.status import next_steps
from specmoe.traces import store

ROOT = Path(__file__).parents[2]
H100 = Device("NVIDIA H100 80GB HBM3", 80 << 30, 70 << 30)
SHIPPED = [load_profile(name) for name in profile_names()]


# A GPU


def torch_with(devices: int = 1, cuda: str | None = "13.0", broken: bool = False) -> Any:
    """As much of torch as is asked."""

    def memory(index: int) -> tuple[int, int]:
        if broken:
            raise RuntimeError("CUDA error: out of order\nmore")
        return 5, 10 + index

    functions = {"is_available": lambda: devices > 0, "device_count": lambda: devices, "mem_get_info": memory}
    functions["get_device_name"] = lambda index: f"card {index}"
    return SimpleNamespace(__version__="9.9", version=SimpleNamespace(cuda=cuda), cuda=SimpleNamespace(**functions))


def test_devices_that_answer() -> None:
    assert seen_by(torch_with(2)) == Usable((Device("card 0", 10, 5), Device("card 1", 11, 5)), None)


@pytest.mark.parametrize(
    ("torch", "reason"),
    [
        (torch_with(0), "torch 9.9 finds no CUDA device, or no driver for it"),
        (torch_with(0, cuda=None), "torch 9.9 is built without CUDA"),
        (torch_with(broken=True), "a CUDA device does not work: CUDA error: out of order"),
    ],
)
def test_why_there_is_none(torch: Any, reason: str) -> None:
    assert seen_by(torch) == Usable((), reason)


def test_without_torch_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usable, "find_spec", lambda name: None)
    assert usable_devices() == Usable((), "torch is not installed: pip install -e '.[torch]'")


def test_a_torch_that_cannot_be_imported_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usable, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "torch", None)
    found = usable_devices()
    assert found.reason is not None
    assert found.reason.startswith("torch cannot be imported: ")


@pytest.mark.parametrize(
    ("device", "profile"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),  # measured on it
        ("NVIDIA GeForce RTX 3090", "rtx3090"),  # by its title
        ("NVIDIA RTX A6000", "a6000"),
        ("NVIDIA GeForce RTX 3090 Ti", "rtx3090ti"),
        ("NVIDIA", None),
    ],
)
def test_the_profile_of_a_device(device: str, profile: str | None) -> None:
    assert inventory.matching(device, SHIPPED) == profile


# Parts


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = {name: list(libraries) for name, (libraries, _) in inventory.EXTRAS.items()}
    plain = {name: [part.split(">")[0] for part in parts] for name, parts in project["optional-dependencies"].items()}
    assert told == {name: parts for name, parts in plain.items() if name not in ("dev", "docs")}
    assert list(inventory.REQUIRED) == [part.split(">")[0] for part in project["dependencies"]]


def test_a_library_that_is_not_there_has_no_version() -> None:
    found = inventory.Extra("x", "y", inventory.versions(("numpy", "no-such-library")))
    assert found.libraries["numpy"] is not None
    assert found.missing == ("no-such-library",)


def test_bundled_traces() -> None:
    found = {entry.name: entry for entry in inventory.bundled_traces()}
    assert tuple(found) == store.names()
    assert found["switch-mini-128/decode/test"] == inventory.TraceEntry(
        "switch-mini-128/decode/test", "bundled", "decode", "trained-here", 13215, 6, 128, 1
    )


def test_local_traces_here_and_one_level_below(make_trace: Callable[..., Path], tmp_path: Path) -> None:
    make_trace(20, name="mine.parquet")
    for depth in ("a", "a/b"):
        (tmp_path / depth).mkdir()
        make_trace(30, name=f"{depth}/deep.parquet")
    (tmp_path / "other.parquet").write_bytes(b"no Parquet")
    found = list(inventory.local_traces(tmp_path))
    assert [(entry.name, entry.where, entry.tokens) for entry in found] == [
        ("a/deep.parquet", "local", 30),
        ("mine.parquet", "local", 20),
    ]


def test_profiles_tell_evidence_and_calibration() -> None:
    h100 = inventory.profile_entry(load_profile("h100-sxm5-80gb"))
    assert (h100.evidence, h100.assumed, h100.calibration_met) == ("fitted", 0, True)
    rtx = inventory.profile_entry(load_profile("rtx3090"))
    assert (rtx.evidence, rtx.calibration_met) == ("assumed", None)
    assert 0 < rtx.assumed < rtx.numbers


def test_a_calibration_that_missed_its_target_is_told() -> None:
    profile = load_profile("h100-sxm5-80gb")
    assert profile.calibration is not None
    missed = dataclasses.replace(profile, calibration=dataclasses.replace(profile.calibration, met=False))
    assert inventory.profile_entry(missed).calibration_met is False


def test_predictors_with_their_accuracy(tmp_path: Path) -> None:
    found = {(entry.name, entry.phase): entry.top1 for entry in inventory.predictors(store.root())}
    assert len(found) == 8
    assert found["learned-hierarchical", "decode"] == 0.4935
    assert list(inventory.predictors(tmp_path)) == []


# What to do next


def found_with(devices: tuple[Device, ...] = (), **changes: Any) -> inventory.Inventory:
    profiles = tuple(map(inventory.profile_entry, SHIPPED))
    extras = (inventory.Extra("fast", "sweeps", {"numba": "1"}),)
    matches = tuple(inventory.matching(device.name, SHIPPED) for device in devices)
    made = inventory.Inventory(
        "1", "3", {}, extras, (), profiles, (), (), (), Usable(devices, None if devices else "none"), matches
    )
    return made._replace(**changes)


def test_next_without_a_gpu_is_advice_only() -> None:
    (step,) = next_steps(found_with())
    assert step.startswith("specmoe advise --model switch-base-128 --profile rtx3090 ")


def test_next_names_what_is_missing() -> None:
    missing = (inventory.Extra("fast", "sweeps", {"numba": None}),)
    missing += (inventory.Extra("hub", "data", {"datasets": None}),)
    assert any(step.startswith("pip install -e '.[fast,hub]'") for step in next_steps(found_with(extras=missing)))


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("NVIDIA H100 80GB HBM3", "specmoe validate switch-mini-128/decode/test --profile h100-sxm5-80gb"),
        ("NVIDIA GeForce RTX 3090", "specmoe profile measure"),
        ("some card", "specmoe profile measure"),
    ],
)
def test_next_with_a_gpu(name: str, step: str) -> None:
    assert next_steps(found_with((H100._replace(name=name),)))[-1].startswith(step)


# The command


def status(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["status", *arguments])


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "usable_devices", lambda: Usable((H100,), None))


def test_json_has_every_part(with_gpu: None, make_trace: Callable[..., Path], tmp_path: Path) -> None:
    make_trace(20)
    result = status(str(tmp_path), "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert found["version"] == __version__
    assert [extra["name"] for extra in found["extras"]] == list(inventory.EXTRAS)
    assert [trace["name"] for trace in found["traces"]] == [*store.names(), "t.parquet"]
    assert [profile["name"] for profile in found["profiles"]] == list(profile_names())
    assert found["shapes"] == list(shape_names())
    assert len(found["validations"]) == len(accuracies())
    assert {row["model"] for row in found["predictors"]} == {"switch-mini-16", "switch-mini-128"}
    assert found["gpu"] == {
        "usable": True,
        "reason": None,
        "devices": [{**H100._asdict(), "profile": "h100-sxm5-80gb"}],
    }
    assert found["next"]


def test_the_page_shows_every_part(with_gpu: None, tmp_path: Path) -> None:
    shown = status(str(tmp_path)).stdout
    for part in (
        f"specmoe {__version__}, Python 3",
        "numpy",
        "torch",
        "switch-mini-128/decode/test",
        "6 layers of 128, top 1",
        "met its target",
        "held out",
        "learned-fusion",
        f"{len(shape_names())} model shapes",
        "GPU: NVIDIA H100 80GB HBM3, 70.0 of 80.0 GiB free; profile h100-sxm5-80gb",
        "specmoe advise",
    ):
        assert part in shown


def test_the_page_says_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inventory, "usable_devices", lambda: Usable((), "no driver"))
    assert "GPU: none usable: no driver" in status(str(tmp_path)).stdout


def test_a_directory_that_is_not_there() -> None:
    result = status("no/such/place")
    assert (result.exit_code, result.stderr) == (1, "error: no/such/place: a directory expected\n")


def test_torch_is_not_loaded_where_it_is_not_installed(tmp_path: Path) -> None:
    code = (
        "import sys; from specmoe.hwprofiles.measure import usable; usable.find_spec = lambda name: None\n"
        "from pathlib import Path; from specmoe.status import inventory; inventory(Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules and 'simpy' not in sys.modules, 'slow'"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

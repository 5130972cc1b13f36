"""A profile from a spec sheet."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles import load_profile
from specmoe.hwprofiles.quantity import REQUIRED
from specmoe.hwprofiles.what_if import from_spec_sheet


def new(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["profile", "new", *map(str, arguments)], env={"COLUMNS": "200"})


def test_given_numbers_are_labelled_and_all_others_are_the_bases(tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    result = new("--base", "rtx4090", "--set", "device.vram=48GiB", "--ref", "data sheet, page 3", "--out", out)
    assert result.exit_code == 0, result.output
    mine, base = load_profile(str(out)), load_profile("rtx4090")
    vram = mine.quantities["device.vram"]
    assert (vram.value, vram.source, vram.ref) == (48 << 30, "published", "data sheet, page 3")
    assert mine.name == "mine"
    assert set(mine.assumed()) == set(mine.quantities) - {"device.vram"}
    assert mine["gemm.fp16.rate"] == base["gemm.fp16.rate"]
    assert mine.quantities["gemm.fp16.rate"].ref.startswith("not given: that of rtx4090: ")


def test_without_a_reference_a_given_number_is_assumed(tmp_path: Path) -> None:
    new("--base", "rtx4090", "--host", "laptop-x8", "--set", "device.vram=16GiB", "--out", tmp_path / "m.toml")
    mine = load_profile(str(tmp_path / "m.toml"))
    assert (mine.quantities["device.vram"].source, mine["link.lanes"]) == ("assumed", 8)


def test_a_given_bandwidth_replaces_a_measured_curve() -> None:
    base = load_profile("h100-sxm5-80gb")
    mine = from_spec_sheet("m", "t", {"host_to_device.pinned.bandwidth": 1e10}, None, base)
    assert mine["host_to_device.pinned.bandwidth"] == 1e10
    assert set(mine.points) == {
        *("host_to_device.pageable.points", "device_to_host.points", "device_copy.points"),
        *("allocation.points", "nvme.points", "dequantise.int8.points", "dequantise.int4.points"),
    }
    assert not mine.expert_curves and not mine.dense_curves and mine.calibration is None


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    result = new("--set", "device.vram=48GiB", "--out", tmp_path / "m.toml")
    assert result.exit_code == 1
    line = " ".join(result.output.split())
    assert all(name in line for name in REQUIRED if name != "device.vram")
    assert "nvme.bandwidth" in line and "--set each, or name a --base" in line
    assert not (tmp_path / "m.toml").exists()


@pytest.mark.parametrize(
    ("pair", "complaint"),
    [
        ("device.vran=48GiB", "device.vran: no such quantity: did you mean 'device.vram'?"),
        ("device.vram", "name=value expected"),
        ("device.vram=48", "device.vram is in bytes"),
        ("gemm.fp16.efficiency=1.5", "a share, at most 1, expected"),
    ],
)
def test_a_wrong_number_is_one_line(pair: str, complaint: str, tmp_path: Path) -> None:
    result = new("--base", "rtx4090", "--set", pair, "--out", tmp_path / "m.toml")
    assert result.exit_code == 1 and complaint in " ".join(result.output.split())


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"link\.bandwidth: no such quantity"):
        from_spec_sheet("m", "t", {"link.bandwidth": 1e9}, None, load_profile("rtx4090"))

"""`specmoe profile measure`, as a user runs it; on a machine without CUDA the host takes the device's place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from host_bench import QUICK, HostBench, encoder_decoder
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles import load_profile
from specmoe.hwprofiles.measure import cuda, findings, job
from specmoe.hwprofiles.measure.job import Progress


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["profile", "measure", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick run on the host, of a tiny shape whatever is asked, in which one thing is left out."""
    whole = job.measure

    def quick(shapes: Any, formats: Any, on_progress: Callable[[Progress], object], bench: Any, name: Any) -> Any:
        on_progress(Progress(0, 1, "something large", skipped=True))
        return whole([encoder_decoder()], formats, on_progress, bench, name, QUICK)

    monkeypatch.setattr(cuda, "cuda_bench", HostBench)
    monkeypatch.setattr(job, "measure", quick)


@pytest.mark.usefixtures("on_the_host")
def test_a_profile_in_words(tmp_path: Path) -> None:
    result = invoke("--out", tmp_path / "m.toml", "--format", "fp16")
    assert result.exit_code == 0, result.output
    for word in (
        "test-1gb",
        "host.graph.issue",
        "host_to_device.pinned.busy",
        "expert_curve 32 32 fp16",
        "dense_curve",
    ):
        assert word in result.stdout
    assert "not measured: something large" in result.stdout
    assert f"{tmp_path / 'm.toml'}: measured in" in result.stdout.replace("\n", "")
    profile = load_profile(str(tmp_path / "m.toml"))
    assert {curve.format for curve in profile.expert_curves} == {"fp16"}


@pytest.mark.usefixtures("on_the_host")
def test_a_profile_for_programs(tmp_path: Path) -> None:
    result = invoke("--out", tmp_path / "m.toml", "--format", "int8", "--format", "fp16", "--name", "mine", "--json")
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)
    profile = load_profile(str(tmp_path / "m.toml"))
    assert (told["name"], profile.name) == ("mine", "mine")
    assert told["quantities"] == {name: quantity.value for name, quantity in profile.quantities.items()}
    assert told["skipped"][0] == "something large"
    assert all("on the CPU: q4_0: torch has no product" in why for why in told["skipped"][1:])
    assert told["machine"]["device"] == "NVIDIA Test 1GB"
    assert isinstance(told["unstable"], list) and told["seconds"] >= 0


@pytest.mark.usefixtures("on_the_host")
def test_what_is_unstable_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from specmoe.hwprofiles.measure import bench as records

    monkeypatch.setattr(records, "unstable", lambda profile: ("host.graph.issue",))
    result = invoke("--out", tmp_path / "m.toml", "--format", "fp16")
    (row,) = [line for line in result.stdout.splitlines() if line.rstrip().endswith("unstable")]
    assert "host.graph.issue" in row
    assert "1 of them unstable: is the machine busy?" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "fp8"), "--format fp8: one of bf16, fp16, fp32, int4, int8 expected"),
        (("--shape", "mixtral"), "mixtral: no such model shape"),
        (("--shape", "deepseek-v2-lite"), "deepseek-v2-lite: latent attention is not measured or replayed"),
        (("--out", "{dir}/m.txt"), "m.txt: a file name that ends in .toml expected"),
        (("--out", "{dir}/absent/m.toml"), "m.toml: a file name in an existing directory expected"),
        (("--out", "{dir}/d.toml"), "d.toml: a file name in an existing directory expected"),
        ((), "no CUDA device: torch"),
    ],
)
@pytest.mark.parametrize("json_flag", [(), ("--json",)])
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
    json_flag: tuple[str, ...],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "d.toml").mkdir()
    told = [argument.format(dir=tmp_path) for argument in arguments]
    out = [] if "--out" in told else ["--out", str(tmp_path / "m.toml")]
    result = invoke(*told, *out, *json_flag)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert [path.name for path in tmp_path.iterdir()] == ["d.toml"]


def test_nothing_is_written_when_measuring_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise InputError("copies: no room")

    monkeypatch.setattr(cuda, "cuda_bench", HostBench)
    monkeypatch.setattr(job, "measure", fails)
    result = invoke("--out", tmp_path / "m.toml")
    assert (result.exit_code, result.stderr) == (1, "error: copies: no room\n")
    assert list(tmp_path.iterdir()) == []


def test_shapes_by_default_are_shipped() -> None:
    from specmoe.hwprofiles import load_shape

    assert [load_shape(name).name for name in findings.SHAPES] == ["switch-base-128", "mixtral-8x7b"]


def test_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = invoke("--out", tmp_path / "m.toml")
    assert (result.exit_code, result.stderr) == (1, "error: torch is not installed: pip install -e '.[torch]'\n")

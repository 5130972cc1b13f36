"""`specmoe validate`, `calibrate` and `checksums` from the outside, on a fake machine and on none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import fake_device
import pytest
import torch
from fake_device import FakeDevice, Ints
from fake_machine import NAME, TRACES, fake_machine, grid_file, machine_profile, prices
from typer.testing import CliRunner, Result

from specmoe.cli import app
from specmoe.hwprofiles.profile_file import read_profile, write_profile
from specmoe.sim.run import Scenario
from specmoe.validate import machine as here
from specmoe.validate.store import load

DECODE, ENCODE = TRACES["decode"], TRACES["encode"]
SMALL = """
[[group]]
shape = "switch-base-128"
phase = "decode"
format = "fp16"
batch = 2
steps = 6
cells.gpu-only = [768]
cells.on-demand = [40]
cells.on-demand-lru = [40]
cells.lookahead = [40, 80]
fit.gpu-only = [768]
fit.on-demand = [40]
fit.lookahead = [80]

[[group]]
shape = "switch-base-128"
phase = "encode"
format = "fp16"
batch = 1
steps = 2
cells.on-demand-lru = [80]
"""


def specmoe(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def answer(*arguments: object) -> Any:
    """What --json prints."""
    result = specmoe(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def complaint(*arguments: object) -> str:
    """The one line of an error, whose exit status is 1."""
    result = specmoe(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


class Home(NamedTuple):
    """What a validation on the fake machine needs and leaves behind."""

    directory: Path
    profile: Path
    grid: Path
    out: Path

    @property
    def steps(self) -> Path:
        return self.out / "fake.steps.parquet"


def pretend(patch: pytest.MonkeyPatch) -> None:
    """That the fake machine is this one."""
    patch.setattr(here, "this_machine", lambda mine, other=None: fake_machine())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """`this_machine` is the fake one."""
    pretend(monkeypatch)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time."""
    monkeypatch.setattr("specmoe.commands.validate._pictures", lambda *_: [])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    directory = tmp_path_factory.mktemp("home")
    write_profile(machine_profile(), directory / "fake.toml")
    return Home(directory, directory / "fake.toml", grid_file(directory, SMALL), directory / "a" / "out")


@pytest.fixture(scope="module")
def validated(home: Home) -> Result:
    """A validation with everything, into a directory that was not there."""
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch)
        return specmoe("validate", DECODE, ENCODE, *on(home), "--grid", home.grid, "--repeats", 2)


def on(home: Home, out: Path | None = None) -> tuple[object, ...]:
    return "--profile", home.profile, "--out", out or home.out


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


# validate, on the fake machine

PLOTS = ("predicted", "errors", "parts", "timeline")
FILES = ("json", "cells.parquet", "steps.parquet", *(f"{plot}.png" for plot in PLOTS), "timeline.json")


def test_validate_writes_everything_and_says_so(validated: Result, home: Home) -> None:
    assert validated.exit_code == 0, validated.output
    assert sorted(path.name for path in home.out.iterdir()) == sorted(f"fake.{ending}" for ending in FILES)
    assert all(str(home.out / f"fake.{ending}") in validated.stdout.replace("\n", "") for ending in FILES)
    assert "all targets met" in validated.stdout
    assert "held out: 3 cells, error of the mean step: median 0.00 %" in validated.stdout
    assert "fitted on: 3 cells" in validated.stdout
    assert "evidence of the simulation: published; semantics: event-atomic" in validated.stdout
    assert NAME in validated.stdout


def test_the_evidence_of_validate(validated: Result, home: Home) -> None:
    saved = load(home.out / "fake.json")
    told = saved.circumstances
    assert (told.device, told.profile, told.notes) == ({"device": NAME}, "fake", ())
    assert told.profile_hash == read_profile(home.profile).hash
    assert set(told.traces) == {DECODE, ENCODE}
    assert {"specmoe", "numpy"} <= set(told.versions)
    assert [cell.error for cell in saved.cells] == [0.0] * 6
    assert [cell.repeats for cell in saved.cells] == [2] * 6


def test_the_timeline_has_both_lanes(validated: Result, home: Home) -> None:
    raw = json.loads((home.out / "fake.timeline.json").read_text())
    text = json.dumps(raw)
    assert "measured" in text and "simulated" in text and "L0 E" in text


def test_validate_as_json(machine: None, home: Home, tmp_path: Path) -> None:
    (found,) = answer("validate", DECODE, *on(home, tmp_path), "--grid", home.grid, "--repeats", 2, "--name", "mine")
    assert found["held_out"]["cells"] == 2 and found["fit"]["cells"] == 3
    assert found["held_out"]["worst_abs_error"] == 0
    assert found["failed"] == []
    assert [Path(file).name for file in found["files"]] == [f"mine.{ending}" for ending in FILES]
    (note,) = load(tmp_path / "mine.json").circumstances.notes
    assert note == "1 cells of the grid left out: no trace of their phase"


def test_a_profile_of_another_machine(machine: None, no_pictures: None, home: Home, tmp_path: Path) -> None:
    named = ("--profile", "rtx3090", "--out", tmp_path / "out")
    arguments = ("validate", DECODE, *named, "--grid", home.grid, "--repeats", 2)
    assert "profile rtx3090 does not say which device it was measured on" in complaint(*arguments)
    assert not (tmp_path / "out").exists()
    answer(*arguments, "--force")
    (note,) = [note for note in load(tmp_path / "out" / "rtx3090.json").circumstances.notes if "forced" in note]
    assert NAME in note


def test_no_held_out_cell_is_no_error(machine: None, no_pictures: None, home: Home, tmp_path: Path) -> None:
    only = SMALL[: SMALL.index("\n[[group]]", 10)].replace("[40, 80]", "[80]")
    only = only.replace("cells.on-demand-lru = [40]\n", "")
    result = specmoe("validate", DECODE, *on(home, tmp_path), "--grid", grid_file(tmp_path, only), "--repeats", 2)
    assert result.exit_code == 0, result.output
    assert "FAILED: no cell was held out: nothing is shown" in result.stdout


# validate, without a device


def test_without_cuda_nothing_is_left_behind(no_cuda: None, home: Home, tmp_path: Path) -> None:
    out = tmp_path / "not" / "there"
    line = complaint("validate", DECODE, *on(home, out), "--grid", "quick")
    assert "no CUDA device: torch" in line and "a replay needs one" in line
    assert not out.parent.exists()


def test_a_directory_that_was_there_stays(no_cuda: None, home: Home, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    complaint("validate", DECODE, *on(home, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--grid", "quack"), "quack: no such grid, nor a .toml file: did you mean 'quick'?"),
        (("--profile", "h10"), "h10: no such"),
        (("--emulate", "rtx3091"), "rtx3091: no such"),
    ],
)
def test_unknown_names(arguments: tuple[str, str], line: str, machine: None, home: Home, tmp_path: Path) -> None:
    assert line in complaint("validate", DECODE, *on(home, tmp_path / "out"), *arguments)
    assert not (tmp_path / "out").exists()


def test_an_unknown_host_names_the_nearest(home: Home, tmp_path: Path) -> None:
    wrong = ("--profile", "rtx3090", "--host", "laptop-x88", "--out")
    line = "error: laptop-x88: no such host, nor a .toml file: did you mean 'laptop-x8'?\n"
    assert complaint("validate", DECODE, *wrong, tmp_path / "out") == line
    assert complaint("calibrate", "a.steps.parquet", DECODE, *wrong, tmp_path / "a.toml") == line


def test_a_wrong_name_is_found_before_the_first_run(no_cuda: None, home: Home, tmp_path: Path) -> None:
    """There would be none here."""
    arguments = ("validate", DECODE, *on(home, tmp_path / "out"), "--name", "a/b")
    assert "'a/b': a name without directories expected" in complaint(*arguments)


def test_an_unknown_policy_in_a_grid(machine: None, home: Home, tmp_path: Path) -> None:
    grid = grid_file(tmp_path, SMALL.replace("cells.lookahead", "cells.lookahaed"))
    assert "lookahaed: unknown field: did you mean 'lookahead'?" in complaint(
        "validate", DECODE, *on(home, tmp_path / "out"), "--grid", grid
    )


def test_an_unknown_trace(machine: None, home: Home, tmp_path: Path) -> None:
    assert "no-such" in complaint("validate", "no-such", *on(home, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_directory_should_be(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "a directory expected" in complaint("validate", DECODE, *on(home, tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


# validate --replayed


def test_replays_are_judged_again_without_a_device(
    validated: Result, no_cuda: None, home: Home, tmp_path: Path
) -> None:
    result = specmoe("validate", DECODE, ENCODE, *on(home, tmp_path), "--replayed", home.steps)
    assert result.exit_code == 0, result.output
    drawn = [ending for ending in FILES if not ending.startswith("timeline")]  # nothing was measured here
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"fake.{ending}" for ending in drawn)
    assert load(tmp_path / "fake.json").cells == load(home.out / "fake.json").cells
    assert load(tmp_path / "fake.json").circumstances.device == {"device": NAME}
    assert all((tmp_path / f"fake.{name}.png").stat().st_size > 5000 for name in ("predicted", "errors", "parts"))


def test_replays_are_judged_without_torch(
    validated: Result, no_torch: None, no_pictures: None, home: Home, tmp_path: Path
) -> None:
    result = specmoe("validate", DECODE, ENCODE, *on(home, tmp_path), "--replayed", home.steps)
    assert result.exit_code == 0, result.output
    assert set(load(tmp_path / "fake.json").circumstances.versions) == {"numpy", "simpy", "specmoe"}


def test_what_needs_torch_says_so(no_torch: None, home: Home, tmp_path: Path) -> None:
    for arguments in (("validate", DECODE, *on(home, tmp_path / "out")), ("checksums", DECODE)):
        assert "torch is not installed: pip install -e '.[torch]'" in complaint(*arguments)
    assert not (tmp_path / "out").exists()


def test_another_profile_by_the_same_replays(validated: Result, no_cuda: None, home: Home, tmp_path: Path) -> None:
    write_profile(machine_profile(sync=400_000), tmp_path / "slow.toml")
    arguments = ("--profile", tmp_path / "slow.toml", "--out", tmp_path / "out", "--replayed", home.steps)
    (found,) = answer("validate", DECODE, *arguments, "--name", "slow")
    assert found["held_out"]["median_abs_error"] > 0.1 and found["failed"]
    assert found["all"]["cells"] == 5
    assert {Path(file).name for file in found["files"]} == {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize("wrong", ["fake.cells.parquet", "fake.json", "none.steps.parquet"])
def test_replays_that_are_none(wrong: str, validated: Result, home: Home, tmp_path: Path) -> None:
    arguments = ("validate", DECODE, *on(home, tmp_path / "out"), "--replayed", home.out / wrong)
    assert wrong.split(".")[0] in complaint(*arguments)
    assert not (tmp_path / "out").exists()


def test_steps_that_were_changed_are_not_believed(validated: Result, home: Home, tmp_path: Path) -> None:
    for ending in ("json", "cells.parquet", "steps.parquet"):
        shutil.copy(home.out / f"fake.{ending}", tmp_path)
    with (tmp_path / "fake.steps.parquet").open("ab") as file:
        file.write(b"more")
    arguments = ("validate", DECODE, *on(home, tmp_path / "out"), "--replayed", tmp_path / "fake.steps.parquet")
    assert "missing, or not the one that fake.json belongs to" in complaint(*arguments)


# calibrate


def test_calibrate(validated: Result, home: Home, tmp_path: Path) -> None:
    result = specmoe("calibrate", home.steps, DECODE, ENCODE, "--profile", home.profile, "--out", tmp_path / "c.toml")
    assert result.exit_code == 0, result.output
    for word in (
        "launch_dense",
        "contention",
        "constants fitted on 3 cells",
        "warning: ",
        "held out: 3 cells",
        "all targets met",
    ):
        assert word in result.stdout, word
    mark = read_profile(tmp_path / "c.toml").calibration
    assert mark is not None and mark.met and mark.fit_cells == 3


def test_calibrate_as_json(validated: Result, home: Home, tmp_path: Path) -> None:
    arguments = (home.steps, DECODE, ENCODE, "--profile", home.profile, "--out", tmp_path / "c.toml")
    (found,) = answer("calibrate", *arguments)
    assert found["measured"]["host.graph.issue"] == found["calibrated"]["host.graph.issue"] == 40_000
    assert found["calibrated"]["link.contention"] == 1
    assert found["held_out"]["cells"] == 3 and found["failed"] == []
    assert read_profile(tmp_path / "c.toml").ns("host.graph.issue") == 40_000


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"steps": "no.steps.parquet"}, "no.steps.parquet: no such file: the *.steps.parquet of a `specmoe validate"),
        ({"trace": "no-such"}, "no-such"),
        ({"profile": "rtx3091"}, "rtx3091: no such"),
        ({"out": "no/where/c.toml"}, "there is no directory"),
    ],
)
def test_calibrate_with_unknown_names(
    changed: dict[str, str], line: str, validated: Result, home: Home, tmp_path: Path
) -> None:
    known: dict[str, object] = {"steps": home.steps, "trace": DECODE, "profile": home.profile}
    known["out"] = tmp_path / "c.toml"
    told = known | {name: tmp_path / value if name in ("steps", "out") else value for name, value in changed.items()}
    arguments = (told["steps"], told["trace"], ENCODE, "--profile", told["profile"], "--out", told["out"])
    assert line in complaint("calibrate", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_calibrate_needs_a_name(home: Home) -> None:
    assert specmoe("calibrate").exit_code == 1


# checksums


class Told(FakeDevice):
    """Knows what must come out, and computes something else so many times."""

    wrong = 0

    def truth(self) -> Ints:
        return fake_device.truth(self._work.table)

    def outputs(self) -> Ints:
        found = super().outputs()
        found[: self.wrong] += 1
        return found


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> type[Told]:
    """`checked_device` is a fake one."""

    class Mine(Told):
        pass

    def make(scenario: Scenario) -> Told:
        return Mine(prices(scenario))

    monkeypatch.setattr(here, "checked_device", make)
    return Mine


CHECKED = ("checksums", DECODE, "--policy", "on-demand", "--policy", "lookahead", "--steps", 3)


def test_checksums(checks: type[Told]) -> None:
    result = specmoe(*CHECKED)
    assert result.exit_code == 0, result.output
    assert "on-demand" in result.stdout and "lookahead" in result.stdout


def test_checksums_as_json(checks: type[Told]) -> None:
    rows = answer(*CHECKED, "--slots", 20, "--batch", 2)
    assert [(row["policy"], row["slots"], row["wrong"], row["problem"]) for row in rows] == [
        ("on-demand", 20, 0, ""),
        ("lookahead", 20, 0, ""),
    ]
    assert all(row["loads"] and row["uses"] for row in rows)


def test_checksums_of_all_policies(checks: type[Told]) -> None:
    from specmoe.sim.decide.policy import POLICIES

    rows = answer("checksums", DECODE, "--steps", 2, "--batch", 2, "--format", "fp16", "--home-format", "int8")
    assert [row["policy"] for row in rows] == list(POLICIES)
    assert not any(row["wrong"] for row in rows)
    refused = {row["policy"] for row in rows if row["problem"]}  # those whose decisions have the CPU compute experts
    assert {"cpu-experts", "n-cpu-moe", "fiddler"} <= refused <= {n for n, row in POLICIES.items() if row.uses_cpu}


def test_wrong_checksums_are_an_error(checks: type[Told]) -> None:
    checks.wrong = 2
    result = specmoe(*CHECKED, "--json")
    assert result.exit_code == 1
    assert [row["wrong"] for row in json.loads(result.stdout)] == [2, 2]
    assert "error: on-demand, lookahead: experts computed something else" in result.stderr


def test_checksums_without_cuda(no_cuda: None) -> None:
    assert "no CUDA device: torch" in complaint(*CHECKED)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--policy", "lookahaed"), "policy 'lookahaed': did you mean 'lookahead'"),
        (("--shape", "switch-base-9"), "switch-base-9: no such model shape"),
        (("--format", "fp17"), "fp17"),
        (("--home-format", "int9"), "int9"),
    ],
)
def test_checksums_of_unknown_names(arguments: tuple[str, str], line: str, checks: type[Told]) -> None:
    assert line in complaint("checksums", DECODE, *arguments)

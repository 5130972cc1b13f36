"""`specmoe pretrain` as a user meets it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from tiny_runs import CHECKPOINT, RECIPE, left_in
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.traces.pretrain_job import PRESETS


def pretrain(home: Path, out: Path, *options: str, preset: str = "switch-mini-16") -> tuple[int, str, str]:
    sets = [part for name, value in RECIPE.items() for part in ("--set", f"{name}={value}")]
    arguments = ["pretrain", "--preset", preset, "--out", str(out), "--device", "cpu"]
    tokenizer = ["--tokenizer", str(home / "tokenizer")]
    result = CliRunner().invoke(app, [*arguments, "--text", str(home / "text"), *tokenizer, *sets, *options])
    return result.exit_code, result.stdout, result.stderr


def test_text_to_checkpoint(home: Path, tmp_path: Path) -> None:
    status, printed, _ = pretrain(home, tmp_path / "out")
    assert status == 0
    assert re.fullmatch(r"\S+/out: held-out loss \d\.\d{3} nats a token \(unigram guess \d\.\d{3}\)\n", printed)
    assert left_in(tmp_path / "out") == CHECKPOINT | {"training.png"}


def test_json_is_the_card(home: Path, tmp_path: Path) -> None:
    options = ["--set", "steps=6", "--seed", "3", "--save-every", "4", "--json"]
    status, printed, _ = pretrain(home, tmp_path / "out", *options, preset="dense-mini")
    (card,) = json.loads(printed)
    assert status == 0
    assert card == json.loads((tmp_path / "out" / "specmoe.json").read_text())
    assert (card["preset"], card["recipe"]["steps"], card["seed"]) == ("dense-mini", 6, 3)


def test_a_finished_run_is_told_again(home: Path, tmp_path: Path) -> None:
    first, second = (pretrain(home, tmp_path / "out", "--set", "steps=4") for _ in range(2))
    assert first == second
    assert first[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "steps"], "--set steps: name=number expected"),
        (["--set", "steps=many"], "--set steps=many: name=number expected"),
        (["--set", "=3"], "'' is not a field of a preset"),
        (["--set", "colour=3"], "'colour' is not a field of a preset; they are experts,"),
        (["--set", "steps=0"], "steps=0: a whole number >= 1 expected"),
        (["--save-every", "0"], "--save-every 0: at least 1 expected"),
        (["--text", "nowhere.txt"], "nowhere.txt: no such file or directory"),
        (["--tokenizer", "nowhere"], "nowhere: no tokenizer.json"),
        (["--device", "toaster"], "--device toaster: auto, cpu or cuda expected"),
        (["--preset", "switch-huge"], "preset 'switch-huge': one of decoder-mini-64, decoder-mini-dense"),
    ],
)
def test_errors_are_one_line_and_status_1(options: list[str], message: str, home: Path, tmp_path: Path) -> None:
    assert_one_line(pretrain(home, tmp_path / "out", *options), message)
    assert list(tmp_path.iterdir()) == []


def assert_one_line(found: tuple[int, str, str], message: str) -> None:
    status, printed, complaint = found
    assert (status, printed) == (1, "")
    assert complaint.startswith("error: ")
    assert message in complaint
    assert complaint.count("\n") == 1


def test_an_output_that_cannot_be_written(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_one_line(pretrain(home, tmp_path / "file" / "out"), "file is not a directory that can be written")
    assert_one_line(pretrain(home, tmp_path / "file"), "file is not a directory that can be written")


def test_another_run_in_the_same_output(home: Path, tmp_path: Path) -> None:
    assert pretrain(home, tmp_path / "out", "--set", "steps=4")[0] == 0
    assert_one_line(pretrain(home, tmp_path / "out", "--set", "steps=5"), "of a run with another steps (4, not 5)")


def test_missing_torch_says_what_to_install(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("specmoe.traces.collect_model.version", version)
    for module in ("torch", "transformers", "specmoe.traces.pretrain_loop"):
        monkeypatch.setitem(sys.modules, module, None)
    assert_one_line(pretrain(home, tmp_path / "out"), "torch is not installed: pip install -e '.[torch]'")


def test_ctrl_c_is_no_traceback(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("specmoe.traces.pretrain_loop.Trainer.train", interrupted)
    status, printed, complaint = pretrain(home, tmp_path / "out")
    assert status == 130
    assert "Traceback" not in printed + complaint


def test_help_names_every_preset_and_option() -> None:
    result = CliRunner().invoke(app, ["pretrain", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert all(preset in result.stdout for preset in PRESETS)
    options = "preset text out tokenizer seed save-every device set json"
    assert all(f"--{option}" in result.stdout for option in options.split())


def test_help_loads_no_library() -> None:
    code = """
import sys
from typer.testing import CliRunner
from specmoe.cli import app
assert CliRunner().invoke(app, ["pretrain", "--help"]).exit_code == 0
print(*{name.partition(".")[0] for name in sys.modules})
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "transformers", "tokenizers", "numpy", "pyarrow", "matplotlib"} & set(done.stdout.split())

"""`specmoe train` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from learned_cases import write_learnable
from typer.testing import CliRunner

pytest.importorskip("torch")

from specmoe.cli import app

TINY = [part for pair in ("width=8", "hidden=16", "clusters=2", "heads=2") for part in ("--set", pair)]


def train(trace: Path | str, out: Path, *options: str, architecture: str = "contextual") -> tuple[int, str, str]:
    arguments = ["train", str(trace), "--architecture", architecture, "--out", str(out), "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--epochs", "1", *TINY, *options])
    return result.exit_code, result.stdout, result.stderr


def test_trace_to_checkpoint(trace: Path, tmp_path: Path) -> None:
    status, printed, _ = train(trace, tmp_path / "out", "--depth", "2")
    assert status == 0
    assert "top8" in printed
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert files == {"model.safetensors", "predictor.json", "metrics.json", "training.png"}
    card = json.loads((tmp_path / "out" / "predictor.json").read_text())
    assert (card["architecture"], card["phase"], card["model"], card["seed"]) == ("contextual", "decode", "tiny", 0)
    assert (card["config"]["depth"], card["config"]["features"]) == (2, ["token", "probs", "history"])


def test_json_is_the_metrics(trace: Path, tmp_path: Path) -> None:
    status, printed, _ = train(trace, tmp_path / "out", "--json", architecture="hierarchical")
    assert status == 0
    assert json.loads(printed) == [json.loads((tmp_path / "out" / "metrics.json").read_text())]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--depth", "4"], "depth 4: 1 to 3, the layers of this trace, expected"),
        (["--batch", "0"], "--batch 0: at least 1 expected"),
        (["--epochs", "0"], "--epochs 0: at least 1 expected"),
        (["--rate", "0"], "--rate 0: more than 0 expected"),
        (["--validation", "1"], "--validation 1: a share between 0 and 1 expected"),
        (["--validation", "0.001"], "--validation 0.001 of"),
        (["--features", "token,colour"], "feature 'colour': one of history, lookahead, probs, token expected"),
        (["--features", "token,lookahead"], "no look-ahead in this trace"),
        (["--set", "colour=1"], "'colour' is no size of a network; they are width, hidden,"),
        (["--set", "width"], "--set width: name=value expected"),
        (["--set", "width=0"], "width=0: a whole number >= 1 expected"),
        (["--set", "width=" + "9" * 400], "width: at most 65,536 expected"),
        (["--rate", "nan"], "--rate nan: a number from 0 to 1,000 expected"),
        (["--rate", "1e300"], "--rate 1e+300: a number from 0 to 1,000 expected"),
        (["--weight-decay", "-1"], "--weight-decay -1.0: a number from 0 to 1,000 expected"),
        (["--set", "dropout=1"], "dropout=1: a number >= 0 and < 1 expected"),
        (["--set", "clusters=9"], "clusters=9: at most 8 expected"),
        (["--validation-trace", "nowhere"], "nowhere: neither a file nor a bundled trace"),
        (["--device", "abacus"], "--device abacus: auto, cpu or cuda expected"),
    ],
)
def test_bad_options(options: list[str], message: str, trace: Path, tmp_path: Path) -> None:
    status, _, error = train(trace, tmp_path / "out", *options)
    assert (status, message in error, error.count("\n")) == (1, True, 1), error


def test_other_bad_input(trace: Path, tmp_path: Path) -> None:
    assert "architecture 'cnn': one of contextual," in train(trace, tmp_path / "out", architecture="cnn")[2]
    options = ["--set", "heads=3"]
    assert "hidden=16: a multiple of heads=3" in train(trace, tmp_path / "out", *options, architecture="transformer")[2]
    no_probs = write_learnable(tmp_path / "none.parquet", 100, has_probs=False)
    assert "train with" in train(no_probs, tmp_path / "out", "--features", "token,probs")[2]
    assert train(no_probs, tmp_path / "out")[0] == 0
    (tmp_path / "file").write_text("")
    assert "a directory expected" in train(trace, tmp_path / "file" / "out")[2]

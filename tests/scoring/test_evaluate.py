"""`evaluate` and `specmoe evaluate`: what is said of a predictor, and of bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from specmoe.analysis.figures.predictors import accuracy_figure, best, depth_figure, reliability_figure
from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.sim.speculate.predictors import PREDICTORS
from specmoe.sim.speculate.scoring.evaluate import (
    YARDSTICKS,
    Asked,
    Examination,
    asked_for,
    evaluate,
    expert_bytes,
    milliseconds_gpu,
    sample,
)
from specmoe.traces.store import train_beside

BUNDLED = "switch-mini-128/decode/test"
MakeTrace = Callable[..., Path]


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def answer(*arguments: object) -> Any:
    result = cli(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def complaint(*arguments: object) -> str:
    """The one line of an error, whose exit status is 1."""
    result = cli(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def pair(make_trace: MakeTrace) -> tuple[Path, Path]:
    """A trace and its train split."""
    return make_trace(60, 1, "test.parquet", d_model=8, d_ff=16), make_trace(90, 2, "train.parquet")


@pytest.fixture
def rows(pair: tuple[Path, Path]) -> list[dict[str, Any]]:
    trace, train = map(str, pair)
    return evaluate(trace, train)


def named(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in rows if row["predictor"] == name)


# What is said


def test_every_predictor_but_the_yardsticks_has_an_object(rows: list[dict[str, Any]]) -> None:
    assert sorted(row["predictor"] for row in rows) == sorted(set(PREDICTORS) - set(YARDSTICKS))


def test_json_of_all_is_a_list_of_objects_with_the_accuracies_or_an_error(pair: tuple[Path, Path]) -> None:
    trace, train = pair
    told = answer(trace, "--train", train)
    assert {row["predictor"] for row in told if "error" in row} == {n for n in PREDICTORS if n.startswith("learned-")}
    for row in told:
        shares = [row.get(name) for name in ("top1", "top2", "top4", "top8")]
        assert row["error"] if "error" in row else all(0 <= share <= 1 for share in shares)
        assert row["predictor"] in PREDICTORS


def test_objects_are_json_and_the_best_comes_first(rows: list[dict[str, Any]]) -> None:
    json.dumps(rows, allow_nan=False)
    tops = [row["top1"] for row in rows if "error" not in row]
    assert tops == sorted(tops, reverse=True)


def test_headlines_agree_with_their_parts(rows: list[dict[str, Any]]) -> None:
    for row in (row for row in rows if "error" not in row):
        assert row["top1"] <= row["top2"] <= row["top4"] <= row["top8"]
        assert row["top1"] == row["per_depth"]["1"]["top1"]
        within = row["per_layer"][1:]
        assert row["top1"] == pytest.approx(np.average([cell["top1"] for cell in within]))
        assert row["per_layer"][0] == row["wrapped"]
        low, high = row["top1_interval"]
        assert low <= row["top1"] <= high
        assert list(row["per_depth"]) == [str(depth) for depth in range(1, row["depth"] + 1)]


def test_those_that_peek_say_so(rows: list[dict[str, Any]]) -> None:
    assert named(rows, "pregated")["peeks"]
    assert named(rows, "pregated")["top1"] == 1
    assert named(rows, "pregated")["wrapped"]["top1"] == 0
    assert not named(rows, "frequency")["peeks"]


def test_costs(rows: list[dict[str, Any]]) -> None:
    row = named(rows, "pregated")
    assert row["milliseconds_cpu"] > 0
    assert row["prefetch_bytes_per_event"] == pytest.approx(row["prefetch_experts_per_event"] * 2 * 8 * 16 * 2)
    assert row["prefetch_experts_per_event"] == pytest.approx(2 * 2 / 3)  # top-2 of two layers in three
    assert named(rows, "frequency")["state_bytes"] > 0


def test_dimensions_that_nobody_knows_make_no_bytes(make_trace: MakeTrace) -> None:
    (row,) = evaluate(str(make_trace(30)), names=["frequency"])
    assert row["prefetch_bytes_per_event"] is None
    assert row["ceilings"] == {}


def test_lookahead_is_scored_as_deep_as_it_was_recorded(make_trace: MakeTrace) -> None:
    trace = str(make_trace(30, lookahead_depth=2))
    (row,) = evaluate(trace, names=["lookahead"], depth=3)
    assert row["depth"] == 2


def test_no_more_layers_ahead_than_there_are(make_trace: MakeTrace) -> None:
    assert Examination(str(make_trace(30, num_layers=2))).depth == 2


def test_encoding_has_no_wrapped_targets(make_trace: MakeTrace) -> None:
    (row,) = evaluate(str(make_trace(60, phase="encode")), names=["layer_minus_1"])
    assert row["wrapped"]["top1"] is None
    assert row["per_layer"][0] is None


def test_what_cannot_run_becomes_an_error_unless_it_was_named(make_trace: MakeTrace) -> None:
    trace = str(make_trace(30, has_lookahead=False))
    found = named(evaluate(trace), "lookahead")
    assert "0 recorded" in found["error"]
    assert "top1" not in found
    with pytest.raises(InputError, match="0 recorded"):
        evaluate(trace, names=["lookahead"])


def test_learning_from_what_is_scored_is_said(make_trace: MakeTrace) -> None:
    trace = str(make_trace(30))
    (row,) = evaluate(trace, trace, ["frequency"])
    assert row["warnings"][-1] == "learnt from the very trace that is scored"


def test_parameters_reach_those_that_know_them() -> None:
    asked = asked_for(["frequency", "layer_minus_1"], {"warm": False})
    assert [one.parameters for one in asked] == [{"warm": False}, {}]


def test_a_sample_is_the_first_rows() -> None:
    exam = Examination(BUNDLED)
    assert sample(exam.test).workload.num_steps == 600
    assert expert_bytes(exam.meta) == 2 * 256 * 512 * 2


def test_time_on_a_gpu_is_the_checkpoints(tmp_path: Path) -> None:
    told = {"running_time": {"cuda": {"fixed_ns": 40_000, "per_token_ns": 2_000}}}
    (tmp_path / "metrics.json").write_text(json.dumps(told))
    exam = Examination(BUNDLED)
    asked = Asked("learned-transformer", {"checkpoint": str(tmp_path)})
    assert milliseconds_gpu(asked, exam.test) == pytest.approx(0.042)
    assert milliseconds_gpu(Asked("frequency", {}), exam.test) is None
    assert asked.label == f"learned-transformer {tmp_path.name}"


def test_time_on_a_gpu_is_not_extrapolated() -> None:
    asked = Asked("learned-transformer", {})
    assert milliseconds_gpu(asked, Examination(BUNDLED).test) is not None
    assert milliseconds_gpu(asked, Examination(BUNDLED.replace("decode", "encode")).test) is None


@pytest.mark.parametrize(("name", "top8"), [("none", 0), ("all", 1 / 2)])
def test_yardsticks_are_scored_if_they_are_named(pair: tuple[Path, Path], name: str, top8: float) -> None:
    (row,) = answer(pair[0], "--predictor", name)
    assert row["top8"] == pytest.approx(top8, abs=0.15)
    assert row["depth"] == 1


def test_the_train_split_beside_a_bundled_trace() -> None:
    assert train_beside(BUNDLED) == "switch-mini-128/decode/train"
    assert train_beside("here/test.parquet") is None


# The command


def test_one_predictor_is_one_object_and_more_are_a_list(pair: tuple[Path, Path]) -> None:
    trace, train = pair
    (one,) = answer(trace, "--train", train, "--predictor", "frequency")
    assert (one["predictor"], one["train"], one["phase"]) == ("frequency", str(train), "decode")
    two = answer(trace, "--predictor", "frequency,layer_minus_1", "--depth", 1)
    assert {row["predictor"] for row in two} == {"frequency", "layer_minus_1"}
    assert {row["depth"] for row in two} == {1}


def test_set_changes_a_keyword(pair: tuple[Path, Path]) -> None:
    trace, train = pair
    (cold,) = answer(trace, "--train", train, "--predictor", "frequency", "--set", "predictor.warm=false")
    assert cold["parameters"] == {"warm": False}
    assert cold["state_bytes"] == 0


def test_the_table_tells_all_and_what_is_possible(pair: tuple[Path, Path]) -> None:
    trace, train = pair
    result = cli(trace, "--train", train)
    assert result.exit_code == 0, result.output
    for word in ("frequency", "pregated *", "chance: top-1 6.2 %", "two experts", "biased low", "60 tokens"):
        assert word in result.output


def test_files_and_figures(pair: tuple[Path, Path], tmp_path: Path) -> None:
    trace, train = pair
    out = tmp_path / "new" / "out"
    rows = answer(trace, "--train", train, "--out", out)
    written = json.loads((out / "evaluate.json").read_text())
    assert written["predictors"] == rows
    assert len(written["ceilings"]["expert"]["per_layer"]) == 2
    assert {path.name for path in out.iterdir()} == {
        "evaluate.json", "accuracy.png", "depth.png", "reliability.png"
    }  # fmt: skip
    for png in out.glob("*.png"):
        assert png.read_bytes().startswith(b"\x89PNG")


def test_two_runs_differ_in_the_time_measured_only(pair: tuple[Path, Path], tmp_path: Path) -> None:
    trace, train = pair
    written = []
    for name in ("one", "other"):
        answer(trace, "--train", train, "--out", tmp_path / name)
        text = (tmp_path / name / "evaluate.json").read_text()
        written.append([line for line in text.splitlines() if '"milliseconds_cpu": ' not in line])
    assert written[0] == written[1]
    for png in (tmp_path / "one").glob("*.png"):
        assert png.read_bytes() == (tmp_path / "other" / png.name).read_bytes()
    assert "Two runs differ only in milliseconds_cpu" in " ".join(cli("--help").output.replace("│", " ").split())


def test_bad_input_is_one_line(pair: tuple[Path, Path], make_trace: MakeTrace, tmp_path: Path) -> None:
    trace, _ = pair
    other = make_trace(30, name="other.parquet", num_layers=2)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "neither a file nor a bundled trace" in complaint("nowhere")
    assert "did you mean 'none'?" in complaint(trace, "--predictor", "nonsense")
    assert "num_layers 2: 3 expected" in complaint(trace, "--train", other)
    assert "1 to 3 layers expected" in complaint(trace, "--depth", 4)
    assert "1 to 3 layers expected" in complaint(trace, "--depth", 0)
    assert "predictor.<keyword> expected" in complaint(trace, "--set", "prefetch.limit=2")
    assert "predictor.warmth" in complaint(trace, "--set", "predictor.warmth=2")
    assert "not the card of a trained predictor" in complaint(trace, "--checkpoint", empty)
    assert "guesses nothing" in complaint(trace, "--predictor", "oracle")
    assert "directory expected" in complaint(trace, "--predictor", "none", "--out", trace)


def test_a_checkpoint_of_an_unknown_architecture(make_trace: MakeTrace, tmp_path: Path) -> None:
    (tmp_path / "predictor.json").write_text('{"config": {"architecture": "abacus"}}')
    assert "architecture 'abacus'" in complaint(make_trace(), "--checkpoint", tmp_path)


# Figures


def test_the_best_are_shown_and_those_that_peek_last(rows: list[dict[str, Any]]) -> None:
    peeking = [row["peeks"] for row in best(rows)]
    assert peeking == sorted(peeking)
    tops = [row["top1"] for row in best(rows) if not row["peeks"]]
    assert tops == sorted(tops, reverse=True)


def test_lines_are_what_was_scored(rows: list[dict[str, Any]]) -> None:
    first = best(rows)[0]
    lines = {line.get_label(): line for line in accuracy_figure(rows).axes[0].lines}
    assert lines[first["label"]].get_ydata().tolist() == [100 * cell["top1"] for cell in first["per_layer"][1:]]
    assert set(lines["chance"].get_ydata()) == {100 / 16}
    lines = {line.get_label(): line for line in depth_figure(rows).axes[0].lines}
    assert lines[first["label"]].get_ydata()[0] == 100 * first["top1"]


@pytest.mark.parametrize("draw", [accuracy_figure, depth_figure, reliability_figure])
def test_nobody_to_show_is_an_empty_figure(draw: Any) -> None:
    assert draw([{"predictor": "lookahead", "error": "none recorded"}]).axes


def test_two_runs_differ_in_what_is_measured_and_in_nothing_else(pair: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ("evaluate", str(pair[0]), "--train", str(pair[1]), "--predictor", "frequency,transition,pregated")
    for name in ("one", "two"):
        result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
    one, two = (json.loads((tmp_path / name / "evaluate.json").read_text()) for name in ("one", "two"))
    for row in (*one["predictors"], *two["predictors"]):
        assert row.pop("milliseconds_cpu") > 0
    assert one == two

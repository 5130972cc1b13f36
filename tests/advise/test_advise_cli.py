"""`specmoe advise` from the outside, on real routing, few steps."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from specmoe.cli import app
from specmoe.commands.advise import parse_rate
from specmoe.errors import InputError
from specmoe.sim.claims import is_yardstick
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.run import Scenario
from specmoe.sim.sweep import retiming
from specmoe.summary import summary

SWITCH = ("--model", "switch-base-128", "--profile", "h100-sxm5-80gb")
DRAWN = ("--model", "switch-base-64", "--profile", "h100-sxm5-80gb", "--vram", "2GiB", "--steps", "30")
SMALL = (*SWITCH, "--vram", "4GiB", "--steps", "60")


def advise(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["advise", *arguments])


def answer(*arguments: str) -> Any:
    result = advise(*arguments, "--json")
    assert result.exit_code == 0, result.output
    (printed,) = json.loads(result.stdout)
    return printed


def complaint(*arguments: str) -> str:
    result = advise(*arguments)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_readme_shows_what_advise_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retiming, "DRAWS", 200)  # as users have them
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (command,) = re.findall(r"^ +specmoe (advise .+)$", text, re.MULTILINE)
    result = advise(*command.split()[1:])
    assert result.exit_code == 0, result.output
    block = text.split("It prints five lines:\n\n", 1)[1].split("\nMore questions", 1)[0]
    assert " ".join(result.stdout.split()) == " ".join(block.split())


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return answer(*SMALL, "--target", "900tok/s")


def test_the_best_is_what_simulate_says_of_it(found: dict[str, Any]) -> None:
    best = found["best"]
    spec = RunConfig(
        "switch-mini-128/decode/test",
        profile="h100-sxm5-80gb",
        format=best["format"],
        slots=best["slots"],
        steps=found["steps"] + found["warm_up_steps"],
        settings=tuple(best["settings"].items()),
    )
    row = summary(Scenario(spec).run(best["policy"]).result)
    assert row["latency_mean_ns"] == best["latency_mean_ns"]
    assert row["tokens_per_second"] == pytest.approx(best["tokens_per_second"])
    assert row["oracle_ns"] == best["oracle_ns"]
    assert row["evidence"] == found["evidence"] == "fitted"


def test_the_best_is_level_with_the_fastest_and_no_yardstick(found: dict[str, Any]) -> None:
    rates = {row["policy"]: row["tokens_per_second"] for row in found["ranking"]}
    assert found["best"]["tokens_per_second"] >= 0.99 * max(rates.values())
    assert not any(is_yardstick(POLICIES[name]) for name in rates)
    assert found["best"]["format"] == "fp32"
    assert found["best"]["vram_peak_bytes"] <= 4 << 30


def test_the_error_is_the_machines_own(found: dict[str, Any]) -> None:
    expected = found["expected"]
    assert expected["validated"]
    assert 0 < expected["error"] < 0.05
    assert expected["low"] < found["best"]["tokens_per_second"] < expected["high"]


def test_levers_are_measured_against_the_best(found: dict[str, Any]) -> None:
    assert {lever["kind"] for lever in found["levers"]} == {"vram", "link", "predictor", "format", "batch"}
    for lever in found["levers"]:
        assert lever["gain"] == pytest.approx(lever["rate"] / found["best"]["tokens_per_second"] - 1)
    gains = [lever["gain"] for lever in found["levers"]]
    assert gains == sorted(gains, reverse=True)


def test_a_faster_link_keeps_the_decisions_and_shortens_the_step(found: dict[str, Any]) -> None:
    (link,) = (lever for lever in found["levers"] if lever["kind"] == "link")
    assert link["best"]["scales"] == {"host_to_device.pinned.bandwidth": 2}
    assert link["best"]["slots"] == found["best"]["slots"]
    assert found["best"]["floor_ns"] / 1e6 < link["step_ms"] < found["best"]["latency_mean_ns"] / 1e6


def test_ways_to_the_target_reach_it(found: dict[str, Any]) -> None:
    assert not found["target"]["reached"]
    assert found["target"]["ways"]
    assert all(way["rate"] >= 900 for way in found["target"]["ways"])


def test_five_lines_are_printed() -> None:
    result = advise(*DRAWN)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == answer(*DRAWN)["lines"]
    assert result.stdout.count("\n") == 5


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    answer("--model", "switch-base-8", "--profile", "rtx4090", "--vram", "2GiB", "--steps", "5")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_trace_gets_an_answer_that_says_so() -> None:
    got = answer("--model", "mixtral-8x7b", "--profile", "rtx4090", "--vram", "16GiB", "--steps", "10")
    assert (got["trace"], got["trace_kind"]) == ("", "synthetic")
    assert got["lines"][0].startswith("Best, on drawn routing: ")
    low, high = got["extremes"]
    assert low <= got["best"]["tokens_per_second"] <= high
    assert low < high
    assert not got["expected"]["validated"]
    assert any("synthetic" in warning for warning in got["warnings"])


def test_a_trace_of_ones_own(make_trace: Callable[..., Path]) -> None:
    mine = make_trace(200, num_layers=32, num_experts=8, top_k=2, candidates=4)
    got = answer(
        *("--model", "mixtral-8x7b", "--profile", "rtx4090", "--vram", "16GiB", "--steps", "10", "--trace", str(mine))
    )
    assert got["trace"] == str(mine)
    assert got["extremes"] == []
    assert str(mine) in got["lines"][4]


def test_fewer_bits_are_chosen_only_if_allowed() -> None:
    got = answer(*DRAWN, "--format", "fp32", "--format", "int8")
    assert got["best"]["format"] == "int8"
    assert all(lever["best"]["format"] == "int4" for lever in got["levers"] if lever["kind"] == "format")


def test_a_compressed_home_is_chosen_only_if_allowed() -> None:
    got = answer(*DRAWN, "--format", "fp16", "--home-format", "int4")
    assert (got["best"]["format"], got["best"]["home_format"]) == ("fp16", "int4")


def test_where_all_fits_nothing_is_offloaded() -> None:
    got = answer(*SWITCH, "--vram", "60GiB", "--steps", "10")
    assert got["best"]["policy"] == "gpu-only"
    assert got["best"]["tokens_per_second"] == pytest.approx(1e9 / got["best"]["floor_ns"], rel=1e-6)
    assert {lever["kind"] for lever in got["levers"]} <= {"format", "batch"}


def test_without_a_model_it_is_the_traces_own(make_trace: Callable[..., Path]) -> None:
    trace = str(make_trace(60, model="google/switch-base-8", num_layers=6, num_experts=8, top_k=1))
    asked = ("--profile", "rtx3090", "--vram", "2GiB", "--trace", trace, "--steps", "20")
    assert answer(*asked) == answer(*asked, "--model", "switch-base-8")
    said = f"{trace} is timed with the shape switch-base-8 of its model, google/switch-base-8"
    assert said in " ".join(advise(*asked).stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--vram", "8GiB", "--profile", "rtx3090"), "--model expected"),
        (("--vram", "8GiB", "--profile", "rtx3090", "--trace", "switch-mini-128/decode/test"), "--model expected"),
        (("--vram", "8GiB", "--model", "nonesuch", "--profile", "rtx3090"), "nonesuch: no such model shape"),
        (("--vram", "8GiB", "--model", "switch-base-8", "--profile", "x"), "x: no such profile"),
        ((*SWITCH, "--vram", "100MiB"), "leaves no expert slot in 0.10 GiB of VRAM: at least 1."),
        ((*SWITCH, "--vram", "lots"), "--vram lots: bytes such as 8GiB expected"),
        ((*SWITCH, "--vram", "0"), "--vram 0: VRAM is in bytes: e.g. 8GiB"),
        ((*SMALL, "--target", "fast"), "--target fast: a throughput such as 20tok/s expected"),
        ((*SMALL, "--target", "0tok/s"), "--target 0tok/s: a finite number from"),
        ((*SMALL, "--batch", "0"), "--batch 0: at least 1 expected"),
        ((*SWITCH, "--vram", "8GiB", "--steps", "0"), "--steps 0: at least 1 expected"),
        ((*SWITCH, "--vram", "8GiB", "--warm-up", "-1"), "--warm-up -1: at least 0 expected"),
        ((*SWITCH, "--vram", "8GiB", "--warm-up", "99999"), "warm-up of 99999 steps: the run has "),
        ((*SMALL, "--format", "fp8"), "--format fp8: one of bf16, fp16, fp32"),
        ((*SMALL, "--home-format", "fp8"), "--home-format fp8: one of bf16, fp16, fp32"),
        (
            (*SMALL, "--format", "bf16", "--home-format", "int8"),
            "int8 at home is expanded to fp16: --format fp16 expected",
        ),
        ((*SMALL, "--trace", "nonesuch"), "nonesuch: neither a file nor a bundled trace"),
        ((*SMALL, "--train", "nonesuch"), "nonesuch: neither a file nor a bundled trace"),
        (
            (
                "--model",
                "mixtral-8x7b",
                "--profile",
                "rtx3090",
                "--vram",
                "16GiB",
                "--trace",
                "switch-mini-128/decode/test",
            ),
            "6 layers of 128 experts, top 1: mixtral-8x7b has 32 of 8, top 2; a trace of such a model expected",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    assert said in complaint(*arguments)


@pytest.mark.parametrize("text", ["2e1tok/s", "20tok/s", " 20.0 tokens/s", "20 T/S"])
def test_rates_are_read(text: str) -> None:
    assert parse_rate(text) == 20


@pytest.mark.parametrize("text", ["", "20", "-3tok/s", "20ms", "tok/s", "1e3", "nan", "1e400tok/s"])
def test_other_rates_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"20tok/s|from"):
        parse_rate(text)


def test_advice_for_a_card_in_a_host_with_a_cpu_names_flags_and_levers() -> None:
    got = answer("--model", "gpt-oss-20b", "--profile", "rtx3090", "--vram", "8GiB", "--format", "mxfp4")
    on_cpu = {one["policy"]: one for one in got["ranking"]}
    assert {"cpu-experts", "n-cpu-moe", "llama-fit", "ktransformers", "law-split"} <= set(on_cpu)
    assert on_cpu["n-cpu-moe"]["tokens_per_second"] > on_cpu["cpu-experts"]["tokens_per_second"]
    layers = 24 - on_cpu["n-cpu-moe"]["slots"] // 32
    assert f"in llama.cpp -ngl 99 --n-cpu-moe {layers}: " in got["lines"][0]
    assert {"vram", "link", "memory"} <= {lever["kind"] for lever in got["levers"]}
    assert all(words in got["lines"][2] for words in ("host memory twice as fast", "a link twice as fast"))

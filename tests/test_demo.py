"""The demo: its settings and sentence by hand, what it writes, and that README shows what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.commands.summaries import table_rows
from specmoe.sim import demo
from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.summary import summary
from specmoe.uncertainty import EMPTY, real_lead

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(autouse=True)
def few_draws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What README shows has them all."""
    if "readme" not in request.node.name:
        monkeypatch.setattr(demo, "DRAWS", 20)


def row(policy: str, mean: int, stall: int, hits: float) -> dict[str, Any]:
    return {
        "yardstick": False,
        "expected_error": 0.1,
        "policy": policy,
        "latency_mean_ns": mean,
        "stall_ns": stall,
        "steps": 10,
        "hit_rate": hits,
        "oracle_ns": 750_000,
    }


def reason(*rows: dict[str, Any]) -> str:
    lead = real_lead(rows)
    assert lead is not None
    return demo.reason(rows, lead)


def test_by_hand_slots_are_half_of_what_is_left() -> None:
    scenario = demo.scenario_of(RunConfig(demo.TRACE, format="fp16", steps=1), 4 << 30)
    expert = 2 * 768 * 3072 * 2  # two matrices of switch-base in fp16, bytes
    assert scenario.slots == (2 << 30) // expert == 227
    budget = scenario.run("on-demand").result.manifest.budget
    assert budget["slot_bytes"] == (4 << 30) // expert * expert and 0 <= budget["free_bytes"] < expert
    assert scenario.run("on-demand", 64).result.manifest.budget["slot_bytes"] == 64 * expert


def test_by_hand_cliff() -> None:
    assert demo.cliff_slots() == 5


def test_the_original_setting_forces_offloading() -> None:
    original, half = demo.settings()
    scenario = Scenario(RunConfig(demo.TRACE, format=original.format, slots=1, steps=1))
    assert original.expert_bytes < 2 * scenario.num_keys * scenario.expert_bytes  # both stacks' experts do not fit
    assert (half.format, half.expert_bytes) == ("fp16", 4 << 30)


def test_by_hand_reason() -> None:
    told = reason(row("a", 1_000_000, 2_000_000, 0.8), row("b", 1_250_000, 5_000_000, 0.6))
    assert told == (
        "a wins, 25 % faster than b: 80 % hits against 60 %, so compute waits 0.20 ms a step for the link instead of "
        "0.50. Perfect knowledge would take 25 % less."
    )


def test_a_near_tie_is_called_one() -> None:
    told = reason(row("a", 1_000_000, 0, 1), row("b", 1_009_000, 0, 1))
    assert told == (
        "a and b are level: 1.000 to 1.009 ms a step, within ±10 %, the expected error of such a comparison. "
        "Perfect knowledge would take 25 % less."
    )


def test_the_winner_is_the_fastest_that_could_be_built() -> None:
    answer = demo.Demo(40).answer(demo.settings()[1])
    assert [found["policy"] for found in answer.summaries] == list(demo.COMPARED)
    fastest = {found["policy"]: found["latency_mean_ns"] for found in answer.summaries}
    yardsticks = {found["policy"] for found in answer.summaries if found["yardstick"]}
    assert yardsticks == {"gpu-only", "belady", "oracle", "pregated", "pregated-lru"}
    real = {name: mean for name, mean in fastest.items() if name not in yardsticks}
    assert answer.reason.startswith(answer.best)
    assert real[answer.best] == min(real.values())
    assert min(fastest.values()) < min(real.values())


def test_command_writes_pictures_and_timeline(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    result = CliRunner().invoke(app, ["demo", "--out", str(out), "--steps", "20", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [len(setting["policies"]) for setting in told] == [len(demo.COMPARED)] * 2
    pictures = {"latency.png", "memory.png", "bandwidth.png"}
    assert {file.name for file in out.iterdir()} == pictures | {"timeline.json", "report.html"}
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in ("latency.png", "memory.png"))
    assert json.loads((out / "timeline.json").read_text())["traceEvents"]
    page = (out / "report.html").read_text()
    assert "is fastest" in page and 'href="timeline.json"' in page and "specmoe demo --out" in page
    both = 2 * len(demo.COMPARED) + (len(demo.BUDGETS_GIB) - 1) * len(demo.SWEPT)  # one budget is that of a setting
    assert f"{both} cells, fastest first" in page


def test_out_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "f"), "--steps", "1"])
    assert result.exit_code == 1
    assert "\n" not in result.stderr.strip()


@pytest.fixture(scope="module")
def shown() -> demo.Answer:
    return demo.Demo(1500).answer(demo.settings()[1])


def test_a_row_is_that_of_the_engines_run() -> None:
    setting = demo.settings()[1]
    answer = demo.Demo(60).answer(setting)
    for row in answer.summaries[4:7]:
        run = answer.scenario.run(row["policy"])
        own = summary(run.result)
        of_machine = {name: value for name, value in own.items() if name not in EMPTY and name != "timed_by"}
        assert {name: row[name] for name in of_machine} == of_machine


def test_readme_shows_what_the_demo_says(shown: demo.Answer) -> None:
    text = " ".join(README.read_text().split())
    assert " ".join(shown.reason.split()) in text
    for row in table_rows(shown.summaries):
        assert " ".join(row.values()) in text

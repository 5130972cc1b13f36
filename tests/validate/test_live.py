"""A real model with its experts in slots writes what it writes with all of them resident, and decides as foretold."""

import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from specmoe import traces
from specmoe.cli import app
from specmoe.commands import console
from specmoe.errors import InputError
from specmoe.sim import budget
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.policy import policy
from specmoe.sim.foretold import LiveCosts, foretold, issue_ns
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.timeline import LANES
from specmoe.traces.workload import build

pytest.importorskip("transformers")

import torch

from specmoe.hwprofiles.measure.layers import expand
from specmoe.traces.collect_model import Checkpoint, load_checkpoint
from specmoe.validate import generation
from specmoe.validate.experts import Home, round_experts, views_of
from specmoe.validate.generation import fitted, peak_line, room_of
from specmoe.validate.live import PHASES, Generated, Offloaded
from specmoe.validate.record import verdict_of
from specmoe.validate.writing import Ask, write
from tests.learned.learned_cases import drawn_network

PROMPT = "It is a truth universally acknowledged, that a single man in possession of a good fortune"
TOKENS = 12
ASK = Ask(PROMPT, TOKENS)


def model() -> Checkpoint:
    """The bundled model, in the memory of the host."""
    return load_checkpoint("switch-mini-16", device="cpu", dtype="float32", capacity=None, random_init=False, seed=0)


@cache
def resident() -> list[int]:
    return write(model(), ASK).ids


@cache
def without_experts() -> Offloaded:
    return Offloaded(model())


@cache
def offloaded(name: str, slots: int) -> Generated:
    return without_experts().generate(ASK, policy(name), slots)


@pytest.mark.parametrize("slots", [2, 8])
@pytest.mark.parametrize("name", ["on-demand", "on-demand-lru", "lookahead", "adaptive", "learned", "gpu-only"])
def test_text_is_that_of_the_resident_model(name: str, slots: int) -> None:
    assert offloaded(name, slots).ids == resident()
    assert len(resident()) > 4


@pytest.mark.parametrize("name", ["on-demand-lru", "lookahead", "adaptive", "learned"])
def test_decisions_are_those_of_the_simulator_on_the_recorded_routing(name: str) -> None:
    made = offloaded(name, 8)
    for phase, (meta, block) in made.traces.items():
        workload, chosen = build(block, meta), policy(name)
        predictor = make_predictor(chosen.predictor, {"depth": chosen.prefetch.depth if chosen.prefetch else 1})
        offline = decide(workload, predictor.predict(Routed(workload, block)), chosen, 8)
        for online, other in zip(made.tables[phase].uses, offline.uses, strict=True):
            assert np.array_equal(online, other)


def test_a_network_that_sees_the_look_ahead_is_given_it(tmp_path: Path) -> None:
    for phase in PHASES:
        drawn_network("fusion", without_experts().meta(phase, depth=1), tmp_path / phase)
    made = without_experts().generate(ASK, policy("learned-fusion", {"predictor.checkpoint": str(tmp_path)}), 8)
    meta, block = made.traces["decode"]
    offline = make_predictor("learned-fusion", {"checkpoint": str(tmp_path / "decode")})
    workload = build(block, meta)
    table = decide(workload, offline.predict(Routed(workload, block)), policy("learned-fusion"), 8)
    assert np.array_equal(made.tables["decode"].uses.load, table.uses.load) and meta.has_lookahead
    assert made.ids == resident()


def test_experts_on_the_cpu_are_refused() -> None:
    with pytest.raises(InputError, match="policy lru-cpu: experts on the CPU"):
        without_experts().generate(ASK, policy("lru-cpu"), 8)


def test_the_command_compares_with_the_resident_model_and_says_so_last() -> None:
    options = ["--prompt", PROMPT, "--slots", "8", "--max-new-tokens", "12", "--device", "cpu", "--compare"]
    options += ["--policy", "on-demand-lru,lookahead"]
    result = CliRunner().invoke(app, ["generate", "--model", "switch-mini-16", *options])
    assert result.exit_code == 0
    assert all(name in result.output for name in ("on-demand-lru", "lookahead", "all resident"))
    assert result.output.rstrip().splitlines()[-1] == f"The texts are the same: {len(resident())} tokens."


def test_a_comparison_foretells_the_steps_and_the_decisions(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    options = ["--prompt", PROMPT, "--slots", "4,8", "--max-new-tokens", "12", "--no-repeat", "2", "--compare"]
    options += ["--policy", "none,layer_minus_1", "--record", str(record), "--json"]
    result = CliRunner().invoke(app, ["generate", "--model", "switch-mini-16", *options])
    assert result.exit_code == 0, result.output
    rows, kept = json.loads(result.stdout), json.loads(record.read_text())
    assert kept["rows"] == rows and kept["manifest"]["options"]["model"] == "switch-mini-16"
    assert [(row["policy"], row["slots"]) for row in rows] == [
        ("on-demand", 4),
        ("on-demand", 8),
        ("layer-minus-1", 4),
        ("layer-minus-1", 8),
        ("all resident", None),
    ]
    for row in rows[:-1]:
        assert row["same_text"] and row["as_foretold"]
        assert row["error"] == pytest.approx(row["foretold_ms"] / row["step_ms"] - 1)


def test_the_resident_models_speed_is_not_that_of_a_processs_first_text(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    def counted(checkpoint: Checkpoint, ask: Ask) -> object:
        lengths.append(ask.tokens)
        return write(checkpoint, ask)

    monkeypatch.setattr(generation, "write", counted)
    options = ["--prompt", PROMPT, "--slots", "8", "--max-new-tokens", "12", "--device", "cpu", "--compare"]
    result = CliRunner().invoke(app, ["generate", "--model", "switch-mini-16", *options])
    assert result.exit_code == 0, result.output
    assert lengths == [generation.LEAST_TOKENS, 12]


def test_a_resident_step_is_foretold_by_hand() -> None:
    table, leads = offloaded("gpu-only", 8).tables["decode"], (100, 300)
    costs = LiveCosts(leads, (0, 0), 50, 0, sync=0, launch=10, expert=4, issue=5, issue_next=3, copy=1000)
    assert not len(table.loads.key)
    plain = foretold(costs, table, decide_ns=7, warm_up=3)
    assert plain.step_ns == sum(leads) + 50 + 2 * (7 + 10)
    assert (plain.code_ns, plain.decide_ns, plain.issue_ns, plain.launch_ns) == (sum(leads) + 50, 2 * 7, 0, 2 * 10)


def test_a_step_of_long_loads_is_foretold_by_hand() -> None:
    """The compute stream has nothing to do but to wait: only the host's way to a step's first routing comes on top."""
    table, leads = offloaded("on-demand", 8).tables["decode"], (100, 300)
    assert table.demand_loads == len(table.uses.key) == 2 * table.num_steps
    costs = LiveCosts(leads, (0, 0), 50, 0, sync=0, launch=10, expert=4, issue=5, issue_next=3, copy=1000)
    decided, launched, landed = 7, 7 + 5 + 10, 7 + 5 + 1000
    plain = foretold(costs, table, decided, warm_up=3)
    assert plain.step_ns == leads[0] + 2 * (landed + 4)
    assert plain.stall_ns == 2 * (landed - launched)
    assert foretold(costs._replace(expand=20), table, decided, warm_up=3).step_ns == plain.step_ns + 2 * 20


def test_an_events_first_load_and_its_next_ones_are_issued_at_their_own_costs() -> None:
    table = offloaded("lookahead", 8).tables["decode"]
    loads_of = np.unique(table.loads.event, return_counts=True)[1]
    costs = LiveCosts((0, 0), (0, 0), 0, 0, 0, launch=0, expert=0, issue=500, issue_next=20, copy=0)
    assert loads_of.max() > 1
    assert issue_ns(costs, table) == round(sum(500 + 20 * (count - 1) for count in loads_of) / loads_of.sum())


def test_what_the_command_writes_is_what_ran(tmp_path: Path) -> None:
    text, trace, timeline = (tmp_path / name for name in ("text.txt", "routing.parquet", "timeline.json"))
    text.write_text(PROMPT)
    options = ["--text", str(text), "--slots", "8", "--max-new-tokens", str(TOKENS), "--policy", "on-demand-lru"]
    options += ["--trace", str(trace), "--timeline", str(timeline), "--json"]
    result = CliRunner().invoke(app, ["generate", "--model", "switch-mini-16", *options])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    tables = offloaded("on-demand-lru", 8).tables.values()
    assert (row["hits"], row["demand_loads"]) == (
        sum(table.hits for table in tables),
        sum(table.demand_loads for table in tables),
    )
    _, block = offloaded("on-demand-lru", 8).traces["decode"]
    assert np.array_equal(traces.open(trace).experts[:], block.experts)
    spans = [event for event in json.loads(timeline.read_text())["traceEvents"] if event["ph"] == "X"]
    assert len([span for span in spans if span["tid"] == LANES.index("copy") + 1]) == row["demand_loads"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "a text to continue expected"),
        (["--prompt", "a", "--text", "b"], "either --prompt or --text"),
        (["--prompt", "a", "--max-new-tokens", "0"], "--max-new-tokens: at least one"),
        (["--prompt", "a", "--policy", ","], "--policy: at least one"),
        (
            ["--prompt", "a", "--policy", "belady"],
            "--policy belady: not asked while a model runs: one of gpu",
        ),
        (["--prompt", "a", "--policy", "learned-fusion"], "learned-fusion: no network for encode of switch-mini-16"),
        (["--prompt", "a", "--policy", "learned", "--networks", "n"], "and name it by --networks NETWORKS"),
        (["--prompt", "a", "--vram", "8GiB"], "either --slots or --vram"),
        (["--prompt", "a", "--format", "q4_k"], "--format q4_k: one of bf16"),
    ],
)
def test_bad_input_is_one_line(options: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, ["generate", "--model", "switch-mini-16", "--slots", "8", *options])
    assert result.exit_code == 1 and complaint in result.stderr and len(result.stderr.splitlines()) == 1


def test_without_torch_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "specmoe.validate.generation", None)  # which imports torch
    result = CliRunner().invoke(app, ["generate", "--model", "switch-mini-16", "--prompt", "x", "--slots", "8"])
    assert (result.exit_code, result.stderr) == (1, "error: torch is not installed: pip install -e '.[torch]'\n")


def test_vram_holds_what_stays_a_cache_a_reserve_and_slots_with_room_for_what_arrives(tmp_path: Path) -> None:
    """By hand: in int8 a slot is an expert in fp16, and beside it its int8 weights with a scale of 2 bytes for 64."""
    room, expert = room_of(model(), "int8"), 2 * 64 * 192
    slot, cache = 2 * expert + expert + 2 * expert // 64, room.shape.kv_bytes(20)
    ask = budget.Ask(room.dense_bytes + cache + 1000 + 7 * slot, context=20, assumed_reserve=1000)
    assert fitted(room, ask).slots == 7
    assert fitted(room, replace(ask, vram=ask.vram - 1)).slots == 6
    with pytest.raises(InputError, match="--vram: no slot is left beside 20 tokens"):
        fitted(room, replace(ask, vram=ask.vram - 7 * slot + slot - 1))


def test_the_cache_counts_in_the_format_in_which_a_model_computes() -> None:
    """By hand: 4 layers of 2 attentions keep a key and a value of 96 numbers of each of 6 tokens, 4 bytes in fp32."""
    options = ["--model", "switch-mini-16", "--prompt", "The law", "--max-new-tokens", "4", "--vram", "1100MiB"]
    result = CliRunner().invoke(app, ["generate", *options, "--format", "fp32"])
    assert result.exit_code == 0 and 6 * 4 * 2 * 2 * 96 * 4 == 36 << 10
    printed = " ".join(result.stdout.split())
    assert "MiB weights that stay, 36 KiB KV cache of 6 tokens in f32, 1 GiB reserve (assumed), " in printed


def test_memory_beyond_the_budget_is_said() -> None:
    assert peak_line(3 << 30, 3 << 30) == "The GPU's allocator gave out at most 3 GiB: within --vram."
    assert peak_line((3 << 30) + (1 << 19), 3 << 30).endswith("3.0005 GiB: 0.5 MiB more than --vram.")


def test_a_home_in_int4_holds_what_rounding_a_models_experts_gives() -> None:
    layer = model().model.half().get_decoder().block[1].layer[-1].mlp.experts
    home, views = Home([layer], "int4", pinned=False), views_of(layer)[3]
    before = torch.cat([view.reshape(-1) for view in views])
    out = torch.empty_like(before)
    expand(home[3], "int4", before.numel(), out.view(torch.uint8))
    round_experts(layer, "int4")
    assert torch.equal(torch.cat([view.reshape(-1) for view in views]), out)
    assert not torch.equal(before, out)


def test_texts_with_rounded_experts_in_vram_are_those_of_the_model_rounded_alike(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    options = ["--prompt", PROMPT, "--max-new-tokens", "8", "--no-repeat", "2", "--format", "int4", "--compare"]
    options += ["--vram", "1100MiB", "--record", str(record)]
    result = CliRunner().invoke(app, ["generate", "--model", "switch-mini-16", *options])
    assert result.exit_code == 0, result.output
    assert "1 GiB reserve (assumed)" in result.stdout and result.stdout.rstrip().endswith(
        "The texts are the same: 8 tokens."
    )
    assert json.loads(record.read_text())["manifest"]["options"]["format"] == "int4"


def test_an_interrupted_command_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, trace, timeline = list[str](), tmp_path / "trace.parquet", tmp_path / "timeline.json"

    def piece(text: str) -> None:
        pieces.append(text)
        if len(pieces) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(console, "pieces", lambda: piece)
    options = ["--prompt", PROMPT, "--slots", "4", "--trace", str(trace), "--timeline", str(timeline)]
    result = CliRunner().invoke(app, ["generate", "--model", "switch-mini-16", *options])
    assert result.exit_code == 130 and "lookahead" in result.stdout
    assert len(traces.open(trace)) == 6
    assert json.loads(timeline.read_text())["traceEvents"]
    pieces.clear()
    result = CliRunner().invoke(app, ["generate", "--model", "switch-mini-16", *options, "--compare"])
    assert result.exit_code != 0 and "texts" not in result.stdout, (
        "half of the resident text is nothing to compare with"
    )


def test_a_verdict_names_the_first_token_that_differs() -> None:
    assert verdict_of([1, 2, 3], [1, 5, 3]) == "The texts differ from token 2 on."
    assert verdict_of([1, 2], [1, 2, 3]) == "The texts differ from token 3 on."


def test_a_saved_plan_is_followed() -> None:
    made = offloaded("lookahead", 8)
    again = without_experts().generate(ASK, policy("on-demand"), 2, plans=made.tables)
    assert again.ids == resident()
    assert all(again.tables[phase].prefetch_loads == made.tables[phase].prefetch_loads for phase in made.tables)

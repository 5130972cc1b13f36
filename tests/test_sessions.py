"""Sessions: a prefill and the decode steps after it, one after the other, through the same slots."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predictor_contract import check_no_peeking
from random_traces import META, random_block
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.hwprofiles import load_shape
from specmoe.hwprofiles.shape import Stack
from specmoe.hwprofiles.shape_file import shape_toml
from specmoe.results import RunResult, latencies
from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.sim.sweep.retiming import timings
from specmoe.traces import write_trace
from specmoe.traces.arranged import sessions
from specmoe.traces.schema import Block
from specmoe.traces.workload import build

DECODE = dataclasses.replace(META, phase="decode", origin="imported")


def rows(lengths: dict[int, range], seed: int = 0) -> Block:
    """Sequences by number, with their positions."""
    block = random_block(sum(map(len, lengths.values())), META, seed)
    return block._replace(
        sequence=np.repeat(list(lengths), [len(each) for each in lengths.values()]).astype(np.int32),
        position=np.concatenate([np.array(each) for each in lengths.values()]).astype(np.int32),
    )


PROMPTS, REST = rows({0: range(3), 1: range(9), 4: range(2)}), rows({0: range(3, 5), 4: range(2, 3)}, 1)


def test_a_session_is_its_prefill_in_one_step_and_then_its_decode_steps() -> None:
    block, prefill = sessions(PROMPTS, REST, "prompts")
    assert block.sequence.tolist() == [0] * 5 + [4] * 3
    assert block.position.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    workload = build(block, DECODE, prefill=prefill)
    assert workload.step_tokens.tolist() == [3, 1, 1, 2, 1]
    assert workload.phases == ["encode", "decode", "decode", "encode", "decode"]
    assert workload.since(2).phases == ["decode", "encode", "decode"]


@pytest.mark.parametrize("name", ["previous_step", "transition-2", "token_identity", "lookahead"])
def test_no_peeking_within_a_prefill(name: str) -> None:
    block, prefill = sessions(PROMPTS, REST, "prompts")
    routed = Routed(build(block, DECODE, prefill=prefill), block)
    for step, layer in ((0, 1), (1, 0), (3, 1)):
        check_no_peeking(partial(make_predictor, name), routed, None, step, layer, 200)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Traces of prompts and rest, and the shape of a decoder-only model of as many layers and experts."""
    directory = tmp_path_factory.mktemp("session")
    for name, block, phase in (("prompts", PROMPTS, "encode"), ("rest", REST, "decode")):
        write_trace(directory / f"{name}.parquet", dataclasses.replace(DECODE, phase=phase), [block])
    olmoe = load_shape("olmoe-1b-7b")
    small = dataclasses.replace(
        olmoe,
        name="small",
        experts=dataclasses.replace(olmoe.experts, number=META.num_experts, top_k=META.top_k),
        decoder=Stack(META.num_layers, 0, 1),
    )
    (directory / "small.toml").write_text(shape_toml(small))
    return {path.stem: str(path) for path in directory.iterdir()}


def simulated(files: dict[str, str], trace: str, *words: str, out: Path) -> tuple[dict[str, Any], RunResult]:
    common = ("--shape", files["small"], "--warm-up", "0", "--out", str(out), "--json")
    result = CliRunner().invoke(app, ["simulate", files[trace], *common, *words])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    return row, RunResult.load(out / f"{row['policy']}.parquet")


def test_prefill_and_decode_are_reported_apart(files: dict[str, str], tmp_path: Path) -> None:
    """With every expert resident a decode step takes as long in a session as it does alone."""
    row, session = simulated(files, "rest", "--prefill", files["prompts"], "--policy", "gpu-only", out=tmp_path)
    _, alone = simulated(files, "rest", "--policy", "gpu-only", out=tmp_path / "alone")
    steps = latencies(session)
    assert steps[[1, 2, 4]].tolist() == latencies(alone).tolist()
    assert (row["phase"], row["steps"], row["tokens"]) == ("session", 5, 8)
    assert row["first_token_ns"] == round(steps[[0, 3]].mean())
    assert row["decode_tokens_per_second"] == pytest.approx(3 / (steps[[1, 2, 4]].sum() / 1e9))


def test_the_retimer_times_sessions_as_the_engine_does(files: dict[str, str]) -> None:
    """A prefill and a decode step of as many tokens are timed apart."""
    pytest.importorskip("numba")
    config = RunConfig(files["rest"], shape=files["small"], slots=20, warm_up=0, prefill=files["prompts"])
    scenario = Scenario(config)
    run, chosen = scenario.run("on-demand-lru"), scenario.policy("on-demand-lru")
    (own,) = timings(run.decisions, [scenario], chosen)
    assert own.run_ns == run.timing.step_end[-1]


def test_one_cache_serves_both(files: dict[str, str], tmp_path: Path) -> None:
    """With a slot for each expert every expert is loaded once, whichever phase needs it first."""
    words = ("--policy", "on-demand-lru", "--slots", str(META.num_layers * META.num_experts))
    row, _ = simulated(files, "rest", "--prefill", files["prompts"], *words, out=tmp_path)
    block, _ = sessions(PROMPTS, REST, "prompts")
    used = block.experts[:, :, : META.top_k] + META.num_experts * np.arange(META.num_layers)[:, None]
    assert row["demand_loads"] == len(np.unique(used[block.experts[:, :, : META.top_k] >= 0]))


@pytest.mark.parametrize(
    ("trace", "words", "message"),
    [
        ("rest", ("--prefill", "{rest}"), "a trace of encode expected, and"),
        ("prompts", ("--prefill", "{prompts}"), "of decode"),
        ("rest", ("--prefill", "{prompts}", "--batch", "2"), "--batch 2: not simulated with --prefill"),
        (
            "rest",
            ("--prefill", "switch-mini-128/encode/test"),
            "layers, experts, top-k, candidates and look-ahead as in",
        ),
        ("rest", ("--prefill", "{prompts}", "--shape", "switch-base-16"), "switch-base-16 has an encoder with experts"),
    ],
)
def test_what_is_no_session_is_refused(files: dict[str, str], trace: str, words: tuple[str, ...], message: str) -> None:
    given = [word.format(**files) for word in words]
    shape = () if "--shape" in given else ("--shape", files["small"])
    result = CliRunner().invoke(app, ["simulate", files[trace], "--policy", "on-demand-lru", *shape, *given])
    assert result.exit_code == 1 and message in result.stderr and result.stderr.count("\n") == 1


def test_a_sequence_without_a_prefill_is_named(files: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "short.parquet"
    write_trace(path, dataclasses.replace(DECODE, phase="encode"), [rows({0: range(3)})])
    words = ["simulate", files["rest"], "--policy", "on-demand-lru", "--shape", files["small"], "--prefill", str(path)]
    assert "no sequence 4: a prefill for each sequence" in CliRunner().invoke(app, words).stderr

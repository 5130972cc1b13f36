"""The predictors that come with the package are what their cards and metrics say, and are worth their bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import specmoe.traces
from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.learned.checkpoint import load_checkpoint
from specmoe.sim.speculate.learned.config import ARCHITECTURES
from specmoe.sim.speculate.learned.data import columns_of
from specmoe.sim.speculate.learned.inputs import Tables
from specmoe.sim.speculate.learned.training import evaluate
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.predictors import make_predictor, shipped_times
from specmoe.sim.speculate.scoring.accuracy import accuracy, tally
from specmoe.summary import summary
from specmoe.traces import store
from specmoe.traces.schema import Block
from specmoe.traces.workload import build

MODEL = "switch-mini-128"
HOME = store.root() / MODEL / "predictors"
PHASES = ("decode", "encode")
SLICE_ERROR = 0.02  # of a slice of a thousand rows from the whole
CARD = {"architecture", "model", "phase", "trace", "trace_hash", "validation", "seed", "config", "versions", "date"}

every_one = pytest.mark.parametrize(("phase", "architecture"), [(p, a) for p in PHASES for a in ARCHITECTURES])


def some_sequences(name: str, one_in: int) -> Routed:
    """Every so many-th sequence of a bundled trace."""
    trace = specmoe.traces.open(f"{MODEL}/decode/{name}")
    block = trace.read()
    kept = np.unique(block.sequence, return_inverse=True)[1] % one_in == 0
    block = Block._make(column[kept] for column in block)
    return Routed(build(block, trace.meta), block)


def test_all_together_are_small() -> None:
    assert sum(file.stat().st_size for file in HOME.rglob("*") if file.is_file()) <= 8 * 2**20


@every_one
def test_cards_are_complete(phase: str, architecture: str) -> None:
    card = json.loads((HOME / phase / architecture / "predictor.json").read_text())
    assert set(card) >= CARD
    assert (card["architecture"], card["model"], card["phase"]) == (architecture, MODEL, phase)
    assert (card["trace"], card["validation"]) == (f"{MODEL}/{phase}/train", f"{MODEL}/{phase}/validation")
    assert (card["config"]["layers"], card["config"]["experts"], card["config"]["depth"]) == (6, 128, 3)
    assert len(card["temperatures"]) == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_those_for_decoding_were_trained_on_the_very_trace_that_is_bundled(architecture: str) -> None:
    card = json.loads((HOME / "decode" / architecture / "predictor.json").read_text())
    trace = store.path_of(f"{MODEL}/decode/train").read_bytes()
    assert card["trace_hash"] == hashlib.sha256(trace).hexdigest()[:16]


@every_one
def test_metrics_are_found_again_on_a_slice_of_the_validation_split(phase: str, architecture: str) -> None:
    trained = load_checkpoint(HOME / phase / architecture)
    told = json.loads((HOME / phase / architecture / "metrics.json").read_text())["validation"]["within_step"]
    block = specmoe.traces.open(f"{MODEL}/{phase}/validation").read()
    tables = Tables.of(columns_of(block, trained.config, trained.vocabulary), torch.device("cpu"))
    rows = torch.arange(0, len(block.token), len(block.token) // 1000)
    found = evaluate(trained.net, tables, rows, trained.config, trained.card["temperatures"])["within_step"]
    assert found["depth1"]["top1"] == pytest.approx(told["depth1"]["top1"], abs=SLICE_ERROR)


def test_on_held_out_text_networks_beat_what_they_are_given() -> None:
    """The blend beats the look-ahead in it; attention over tokens and layers beats a table of tokens."""
    test, train = some_sequences("test", 8), some_sequences("train", 2)
    top1 = {}
    for name in ("learned-fusion", "lookahead", "learned-transformer", "token_identity"):
        predictor = make_predictor(name)
        predictor.fit(train)
        counted = tally(predictor.guess(test), test)
        top1[name] = accuracy(counted, ~counted.wrapped)["top1"]
    assert top1["learned-fusion"] > top1["lookahead"] + 0.01
    assert top1["learned-transformer"] > top1["token_identity"] + 0.05


# In whole runs


def run(trace: str = f"{MODEL}/decode/test", name: str = "learned-fusion", steps: int = 60, **overrides: Any) -> Any:
    spec = RunConfig(trace, slots=154, steps=steps, format="fp16").having(overrides)
    return summary(Scenario(spec).run(name).result)


def test_a_network_drives_a_run_and_the_run_says_whose_time_it_was_charged() -> None:
    found, without = run(), run(name="on-demand-lru")
    time = shipped_times()["learned-fusion", "cpu"]
    assert found["prefetch_loads"] > 0
    assert found["demand_loads"] < without["demand_loads"]
    assert found["predict_ns"] == time.ns(1)
    assert (found["parameters"]["predict_on"], found["parameters"]["predict_ref"]) == ("host", time.ref)
    assert found["assumed"] == without["assumed"]


def test_on_the_gpu_its_time_is_the_compute_streams() -> None:
    free, slow = (run(**{"predictor.device": "cuda"}, **extra) for extra in ({"assumed_predict_ns": 0}, {}))
    time = shipped_times()["learned-fusion", "cuda"]
    assert (slow["parameters"]["predict_on"], slow["parameters"]["predict_ref"]) == ("gpu", time.ref)
    assert slow["compute_ns"] - free["compute_ns"] == slow["steps"] * 6 * time.ns(1)
    assert slow["host_ns"] == free["host_ns"]
    assert slow["prefetch_loads"] == free["prefetch_loads"]


def test_a_checkpoint_of_ones_own_is_charged_its_own_time(trained: Callable[..., Path], tmp_path: Path) -> None:
    """What was measured when it was trained, and not what the package measured of others."""
    checkpoint = trained("contextual")
    own = json.loads((checkpoint / "metrics.json").read_text())["running_time"]["cpu"]
    trace = str(checkpoint.parent / "trace.parquet")
    own_layers = (("predictor.checkpoint", str(checkpoint)),)
    spec = RunConfig(trace, slots=8, steps=30, settings=own_layers, truncated=True)
    found = summary(Scenario(spec).run("learned-contextual").result)
    assert found["predict_ns"] == own["fixed_ns"] + own["per_token_ns"] > 0
    assert found["parameters"]["predict_ref"] == f"measured: {checkpoint / 'metrics.json'}"

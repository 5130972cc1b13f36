"""Training: it learns what can be learnt, and a run that was stopped ends like one that was not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learned_cases import SIZES, learnable, routed, write_learnable

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from specmoe.errors import InputError  # noqa: E402
from specmoe.sim.speculate.learned.checkpoint import STATE  # noqa: E402
from specmoe.sim.speculate.learned.config import ARCHITECTURES  # noqa: E402
from specmoe.sim.speculate.learned.job import TrainJob, train  # noqa: E402
from specmoe.sim.speculate.learned.predictor import Learned  # noqa: E402
from specmoe.sim.speculate.learned.training import Recipe, Run, schedule  # noqa: E402

SHORT = Recipe(epochs=3, batch=16, rate=1e-2)


class KilledError(Exception):
    """A run is killed."""


def job(trace: Path, out: Path, architecture: str = "contextual", recipe: Recipe = SHORT) -> TrainJob:
    return TrainJob(str(trace), architecture, out, recipe, sizes=SIZES | {"dropout": 0.1}, device="cpu")


def weights(out: Path) -> dict[str, list[float]]:
    return {name: value.tolist() for name, value in load_file(out / "model.safetensors").items()}


@pytest.mark.parametrize("phase", ["decode", "encode"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_function_of_the_layer_above_is_learnt(
    architecture: str, phase: str, trained: Callable[[str, str], Path]
) -> None:
    block, meta = learnable(300, seed=7, phase=phase, has_lookahead=True)
    predictor = Learned(2, architecture, str(trained(architecture, phase)))
    guess = predictor.guess(routed(block, meta))
    assert (guess.experts[:, :2, 0, 0] == block.experts[:, 1:, 0]).mean() > 0.95
    assert (guess.experts[:, 0, 1, 0] == block.experts[:, 2, 0]).mean() > 0.95
    assert guess.confidence[:, :2, 0, 0].mean() > 0.8
    assert predictor.state_bytes > 1000


@pytest.mark.parametrize("architecture", ["hierarchical", "fusion"])
def test_a_killed_run_goes_on(architecture: str, trace: Path, tmp_path: Path) -> None:
    whole = train(job(trace, tmp_path / "whole", architecture))

    def kill(run: Run) -> None:
        if len(run.history) == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train(job(trace, tmp_path / "parts", architecture), kill)
    done: list[int] = []
    rest = train(
        replace(job(trace, tmp_path / "parts", architecture), resume=True), lambda run: done.append(len(run.history))
    )
    assert done == [3]
    assert rest["validation"] == whole["validation"]
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert not (tmp_path / "parts" / STATE).exists()


def test_another_run_is_not_gone_on_with(trace: Path, tmp_path: Path) -> None:
    def kill(run: Run) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        train(job(trace, tmp_path / "out"), kill)
    with pytest.raises(InputError, match=r"of a run with another rate \(0.01, not 0.02\): train without --resume"):
        train(replace(job(trace, tmp_path / "out", recipe=SHORT._replace(rate=0.02)), resume=True))
    (tmp_path / "out" / STATE).write_bytes(b"torn")
    with pytest.raises(InputError, match="damaged"):
        train(replace(job(trace, tmp_path / "out"), resume=True))


def test_seeds_decide_the_weights(trace: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        train(job(trace, tmp_path / name, recipe=SHORT._replace(seed=seed, epochs=1)))
    assert weights(tmp_path / "one") == weights(tmp_path / "two") != weights(tmp_path / "three")


def test_it_stops_when_validation_gets_no_better(tmp_path: Path) -> None:
    noise = write_learnable(tmp_path / "noise.parquet", 300, num_layers=1)  # nothing to be learnt across tokens
    recipe = Recipe(epochs=60, batch=4, rate=3e-2, patience=2)
    metrics = train(replace(job(noise, tmp_path / "out", recipe=recipe), depth=1))
    assert len(metrics["epochs"]) == metrics["best_epoch"] + 2 < 60
    losses = [epoch["validation_loss"] for epoch in metrics["epochs"]]
    assert min(losses) == losses[metrics["best_epoch"] - 1]


def test_a_trace_of_its_own_validates(trace: Path, tmp_path: Path) -> None:
    other = write_learnable(tmp_path / "other.parquet", 200, seed=5)
    metrics = train(replace(job(trace, tmp_path / "out"), validation_trace=str(other)))
    assert metrics["validation"]["tokens"] == 200
    card = json.loads((tmp_path / "out" / "predictor.json").read_text())
    assert card["validation"] == str(other)
    assert len(card["temperatures"]) == 3 and np.isfinite(card["temperatures"]).all()


def test_the_rate_rises_and_falls() -> None:
    rates = [schedule(done / 100) for done in range(101)]
    assert max(rates) == pytest.approx(1)
    assert rates.index(max(rates)) == 5
    assert rates[-1] == pytest.approx(0.02)

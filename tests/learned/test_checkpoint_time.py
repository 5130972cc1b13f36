"""What a network takes is measured when it has been trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from learned_cases import learnable

pytest.importorskip("torch")

import torch

from specmoe.sim.speculate.learned import timing
from specmoe.sim.speculate.learned.config import ARCHITECTURES
from specmoe.sim.speculate.learned.timing import LENGTH, REPEATS, ROWS, one_thread, running_times, sample
from specmoe.sim.speculate.predictors import running_time

Trained = Callable[..., Path]
PHASES = ("decode", "encode")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_metrics_tell_the_time_and_simulations_read_it(architecture: str, phase: str, trained: Trained) -> None:
    checkpoint = trained(architecture, phase)
    told = json.loads((checkpoint / "metrics.json").read_text())["running_time"]
    assert list(told) == ["cpu"]
    assert sorted(told["cpu"]) == ["fixed_ns", "per_token_ns"]
    assert 10_000 < sum(told["cpu"].values()) < 50_000_000
    read = running_time(f"learned-{architecture}", {"checkpoint": str(checkpoint)})
    assert read is not None
    assert read[:2] == (told["cpu"]["fixed_ns"], told["cpu"]["per_token_ns"])


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("rows", [7, 1000])
def test_few_rows_do_for_a_sample(phase: str, rows: int) -> None:
    block, meta = learnable(1000, phase=phase)
    held = np.arange(1000 - rows, 1000)
    found = sample(block, held, meta.phase)
    assert found.token.tolist() == np.resize(block.token[held], ROWS).tolist()
    assert np.unique(found.sequence, return_counts=True)[1].tolist() == [LENGTH[phase]] * (ROWS // LENGTH[phase])
    assert found.position.tolist() == list(range(LENGTH[phase])) * (ROWS // LENGTH[phase])


def test_measuring_takes_few_passes(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """One workload of one token a step and one of many."""
    checkpoint, passes = trained("fusion"), list[torch.Tensor]()
    plain = timing.answer
    monkeypatch.setattr(timing, "answer", lambda net, seen: passes.append(seen.token) or plain(net, seen))
    block, meta = learnable(400, has_lookahead=True)
    rows = sample(block, np.arange(400), "decode")
    found = running_times(checkpoint, "fusion", meta, rows, torch.device("cpu"))
    assert set(found) == {"cpu"}
    assert 0 < len(passes) <= 2 * REPEATS * (timing.EVENTS + timing.WARMUP)


def test_one_thread_is_for_the_measurement_only() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), one_thread():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before

"""Loss, accuracy and temperature of logits that are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from learned_cases import LEARNABLE, learnable

torch = pytest.importorskip("torch")

from specmoe.sim.speculate.learned.config import config_for  # noqa: E402
from specmoe.sim.speculate.learned.data import columns_of  # noqa: E402
from specmoe.sim.speculate.learned.inputs import Inputs, Tables  # noqa: E402
from specmoe.sim.speculate.learned.training import best_temperatures, calibrated, evaluate, loss_of  # noqa: E402

CONFIG = config_for(LEARNABLE, "contextual", 2, None, {})


class Sure(torch.nn.Module):  # type: ignore[misc, name-defined]
    """The layer's expert plus 3 at depth 1, which is right of layer 0 and of no other; nothing at depth 2."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, seen: Inputs) -> torch.Tensor:
        said = torch.nn.functional.one_hot((seen.experts[:, :, 0] + 3) % 8, 8) * self.logit
        return torch.stack([said, torch.zeros_like(said)], 2)


def tables(n: int = 400) -> Tables:
    block, _ = learnable(n)
    return Tables.of(columns_of(block, CONFIG, np.zeros(0, np.int32)), torch.device("cpu"))


def test_accuracy_by_layer_and_depth() -> None:
    found = evaluate(Sure(5.0), tables(), torch.arange(400), CONFIG)
    assert [layer and layer["top1"] for layer in found["by_layer"]["depth1"]][:2] == [1.0, 0.0]
    assert found["within_step"]["depth1"]["top1"] == pytest.approx(0.5, abs=1e-3)
    assert found["tokens"] == 400


def test_loss_counts_a_depth_by_its_inverse_and_what_is_dropped_not_at_all() -> None:
    logits = torch.zeros(1, 1, 2, 4)
    logits[..., 0, 1] = 2.0
    sure = float(torch.logsumexp(logits[0, 0, 0], 0) - 2)
    assert loss_of(logits, torch.tensor([[[[1], [3]]]])).item() == pytest.approx((sure + np.log(4) / 2) / 1.5)
    assert loss_of(logits, torch.tensor([[[[1], [4]]]])).item() == pytest.approx(sure)


def test_each_depth_has_its_temperature() -> None:
    config = dataclasses.replace(CONFIG, phase="encode")
    held = Tables.of(columns_of(learnable(400)[0], config, np.zeros(0, np.int32)), torch.device("cpu"))
    # Half of what is said is right: then the best probability is a half, and its logit log 7.
    first, _ = best_temperatures(Sure(float(np.log(7)) * 1.5), held, torch.arange(400), config)
    assert first == pytest.approx(1.5, rel=0.05)
    logits = torch.ones(1, 1, 2, 3)
    assert calibrated(logits, [2.0, 4.0])[0, 0, :, 0].tolist() == [0.5, 0.25]

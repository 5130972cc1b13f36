"""Every predictor of the table keeps to the contract; a new one is found here without being named."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from predictor_contract import changed_after, check_fitted_once, check_no_peeking, check_well_formed
from random_traces import META
from tiny_routed import tiny_routed

from specmoe.errors import InputError
from specmoe.sim.speculate.predictor import Predictor, Routed
from specmoe.sim.speculate.predictors import PREDICTORS, make_predictor
from specmoe.traces.arranged import verified
from specmoe.traces.workload import build

# Learned predictors need a checkpoint; their own tests put them through the same checks.
NAMES = [name for name in PREDICTORS if not name.startswith("learned-")]
every_predictor = pytest.mark.parametrize("name", NAMES)
phases = pytest.mark.parametrize("phase", ["decode", "encode"])
DEPTHS = (1, 3)


def maker(name: str, depth: int) -> Callable[[], Predictor]:
    return partial(make_predictor, name, {"depth": depth})


def routed_of(seed: int, batch: int, **changes: Any) -> Routed:
    return tiny_routed(16, batch, seed, num_experts=6, candidates=3, lookahead_depth=3, **changes)


@every_predictor
@phases
def test_no_peeking(name: str, phase: Any) -> None:
    if make_predictor(name).peeks:
        pytest.skip("says itself that it peeks")
    for depth, batch, seed in product(DEPTHS, (1, 4), range(2)):
        rng = np.random.default_rng([depth, batch, seed])
        routed, train = (routed_of(seed + i, batch, phase=phase) for i in (0, 100))
        step, layer = rng.integers(routed.workload.num_steps), rng.integers(routed.workload.meta.num_layers)
        for known in (None, train):
            check_no_peeking(maker(name, depth), routed, known, int(step), int(layer), seed + 200)


@pytest.mark.parametrize("name", ["previous_step", "transition-2", "adaptive", "token_identity", "activation_match"])
def test_no_peeking_into_a_window_of_drafted_tokens(name: str) -> None:
    """Rows of a window are about the same step: what comes before each is the last kept token before the window."""
    block, kept = verified(tiny_routed(24, mean_length=12).block, 2, [0.5])
    routed = Routed(build(block, META, 2, window=3), block)
    assert not kept.all()
    for step, layer in ((1, 0), (2, 1)):
        check_no_peeking(maker(name, 2), routed, None, step, layer, 200)


@phases
def test_the_check_can_fail(phase: Any) -> None:
    with pytest.raises(AssertionError):
        check_no_peeking(maker("pregated", 1), routed_of(0, 4, phase=phase), None, 1, 0, 99)


def test_a_change_starts_right_after_the_event_and_spares_the_steps_own_ids() -> None:
    routed = routed_of(0, 1, phase="encode")
    other = changed_after(routed, 1, 1, 99)
    second = routed.block.sequence == 1
    assert (routed.block.token == other.block.token)[routed.block.sequence <= 1].all()
    assert (routed.block.experts == other.block.experts)[second, :2].all()
    assert (routed.block.experts != other.block.experts)[second, 2].any()


@every_predictor
@phases
def test_predictions_are_well_formed(name: str, phase: Any) -> None:
    for layers, depth, (batch, has_probs) in product((1, 2, 4), DEPTHS, ((1, True), (3, False))):
        changes = {"phase": phase, "num_layers": layers, "has_probs": has_probs}
        routed, train = (routed_of(seed, batch, **changes) for seed in (0, 1))
        check_well_formed(maker(name, depth), routed)
        check_well_formed(maker(name, depth), routed, train)
        check_fitted_once(maker(name, depth), routed, train)


@every_predictor
@phases
def test_dropped_tokens_are_no_candidates(name: str, phase: Any) -> None:
    routed = routed_of(0, 2, phase=phase, top_k=1, dropless=False)
    experts = routed.block.experts.copy()
    experts[::3, :, 0] = -1
    block = routed.block._replace(experts=experts)
    dropped = Routed(build(block, routed.workload.meta, 2), block)
    check_well_formed(maker(name, 3), dropped, dropped)


@every_predictor
def test_the_first_steps_alone(name: str) -> None:
    routed = routed_of(0, 2)
    block = routed.block
    check_well_formed(maker(name, 3), Routed(build(block, routed.workload.meta, 2, steps=2), block), routed)


@every_predictor
def test_depth_must_be_positive(name: str) -> None:
    with pytest.raises(InputError, match="at least 1 layer"):
        make_predictor(name, {"depth": 0})


def test_unknown_names_and_keywords_name_what_there_is() -> None:
    with pytest.raises(
        InputError, match=r"predictor 'guesswork': one of activation_match, .*previous_step, .* expected"
    ):
        make_predictor("guesswork")
    with pytest.raises(InputError, match=r"predictor adaptive has no optimism: one of depth, .*threshold"):
        make_predictor("adaptive", {"optimism": 1})


ONLINE = ["previous_step", "frequency", "transition", "transition-2", "adaptive", "activation_match", "token_identity"]


@pytest.mark.parametrize("name", ONLINE)
def test_one_fitted_to_another_model_says_so(name: str) -> None:
    predictor = make_predictor(name)
    predictor.fit(routed_of(0, 1))
    with pytest.raises(InputError, match="fitted to 3 layers of 6 experts: 2 of 6 expected"):
        predictor.guess(routed_of(0, 1, num_layers=2))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("frequency", {"half_life": 0}),
        ("frequency", {"reset": "daily"}),
        ("adaptive", {"threshold": 1.5}),
        ("adaptive", {"history": 0}),
        ("activation_match", {"capacity": 0}),
        ("noisy_oracle", {"assumed_precision": 1.1}),
    ],
)
def test_impossible_keywords(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}.*expected"):
        make_predictor(name, wrong)

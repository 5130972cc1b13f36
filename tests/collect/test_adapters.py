"""Adapters and recorders: what is recorded is what the model does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS, DECODER_ONLY, FOUR_MOE_LAYERS, MOE_LAYERS, tiny_config, tiny_model
from transformers import AutoModelForSeq2SeqLM

from specmoe.errors import ModelError
from specmoe.traces.adapters import ADAPTERS, Choice, MoeLayer, adapter_for, candidates, with_drops
from specmoe.traces.collect_run import Recorder, Routing

IDS = torch.tensor([[5, 9, 17, 4, 20, 11], [7, 7, 6, 12, 3, 8]])
ALL = torch.ones(IDS.numel(), dtype=torch.bool)


def chosen(ids: list[list[int]], scores: list[list[float]], dropped: list[bool] | None = None) -> Choice:
    ranks = torch.tensor(scores)
    return Choice(torch.tensor(ids), torch.tensor(dropped or [False] * len(ids)), ranks, ranks.softmax(-1))


def run_stack(model: Any, phase: str) -> None:
    """One pass of a stack over IDS; a Switch decoder attends to its own encoder."""
    with torch.inference_mode():
        if not model.config.is_encoder_decoder:
            model.get_decoder()(input_ids=IDS, use_cache=False)
        elif phase == "encode":
            model.get_encoder()(input_ids=IDS, attention_mask=torch.ones_like(IDS))
        else:
            hidden = model.get_encoder()(input_ids=IDS).last_hidden_state
            model.get_decoder()(input_ids=IDS, encoder_hidden_states=hidden, use_cache=False)


def record(model: Any, phase: Any = "decode", width: int = 8, depth: int = 1) -> Routing:
    adapter = adapter_for(model.config.model_type)
    with Recorder(adapter, adapter.layers(model, phase), width, depth) as recorder:
        run_stack(model, phase)
    return recorder.take(ALL)


def seen_by_experts(model: Any, phase: Any) -> list[Any]:
    """The expert ids that really reached the expert modules of each layer, [tokens, k] or a one-hot dispatch."""
    adapter = adapter_for(model.config.model_type)
    modules = {id(layer.router): layer for layer in adapter.layers(model, phase)}
    parents = [m for m in model.modules() if any(id(child) in modules for child in m.children())]
    seen: list[Any] = []
    hooks = [m.experts.register_forward_pre_hook(lambda _, args: seen.append(args[1])) for m in parents]
    run_stack(model, phase)
    for hook in hooks:
        hook.remove()
    return seen


def test_candidates_by_hand() -> None:
    choice = chosen([[2, 0]], [[0.1, 0.9, 0.5, 0.9, 0.2]])
    assert candidates(choice, 5).tolist() == [[2, 0, 1, 3, 4]]
    assert candidates(choice, 3).tolist() == [[2, 0, 1]]


def test_candidates_ties_go_to_the_lower_id() -> None:
    choice = chosen([[3]], [[1.0, 1.0, 0.0, 1.0]])
    assert candidates(choice, 4).tolist() == [[3, 0, 1, 2]]


def test_chosen_experts_are_best_first_whatever_order_the_router_gives() -> None:
    assert candidates(chosen([[0, 3]], [[0.2, 0.1, 0.0, 0.7]]), 2).tolist() == [[3, 0]]


def test_drops_by_hand() -> None:
    choice = chosen([[1], [1]], [[0.0, 1.0, 0.5], [0.0, 1.0, 0.5]], [False, True])
    ids = candidates(choice, 3)
    moved, probs = with_drops(ids, choice.probs.gather(-1, ids), choice)
    assert moved.tolist() == [[1, 2, 0], [-1, 1, 2]]
    assert probs[1, 0] == 0
    assert probs[1, 1] == probs[0, 0]


def test_drops_when_only_the_chosen_are_kept() -> None:
    choice = chosen([[1]], [[0.0, 1.0]], [True])
    ids, probs = with_drops(candidates(choice, 1), choice.probs[:, 1:], choice)
    assert (ids.tolist(), probs.tolist()) == ([[-1]], [[0.0]])


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_shapes_and_ranges(model_type: str) -> None:
    routing = record(tiny_model(model_type), width=5)
    tokens, layers = IDS.numel(), MOE_LAYERS[model_type]
    assert routing.experts.shape == routing.probs.shape == (tokens, layers, 5)
    assert routing.lookahead.shape == (tokens, layers, 1, 5)
    assert routing.experts.dtype == routing.lookahead.dtype == np.int16
    assert routing.probs.dtype == np.float16
    assert routing.experts.min() >= 0
    assert routing.experts.max() < 8
    assert (routing.lookahead[:, -1] == -1).all()
    assert (routing.lookahead[:, :-1] >= 0).all()
    assert all(len(set(row)) == 5 for row in routing.experts.reshape(-1, 5).tolist())
    assert (routing.probs > 0).all()
    assert (routing.probs <= 1).all()


@pytest.mark.parametrize("model_type", DECODER_ONLY)
def test_what_is_recorded_is_what_reaches_the_experts(model_type: str) -> None:
    model = tiny_model(model_type)
    routing = record(model)
    for layer, ids in enumerate(seen_by_experts(model, "decode")):
        k = ids.shape[-1]
        assert np.array_equal(np.sort(routing.experts[:, layer, :k]), ids.sort(-1).values.numpy())


@pytest.mark.parametrize("phase", ["encode", "decode"])
def test_what_is_recorded_is_what_reaches_the_experts_of_switch(phase: str) -> None:
    model = tiny_model("switch_transformers")
    routing = record(model, phase)
    for layer, dispatch in enumerate(seen_by_experts(model, phase)):
        assert np.array_equal(routing.experts[:, layer, 0], dispatch.flatten(0, -2).argmax(-1).numpy())


@pytest.mark.parametrize("model_type", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss"])
def test_candidates_follow_output_router_logits(model_type: str) -> None:
    model = tiny_model(model_type)
    routing = record(model)
    with torch.inference_mode():
        logits = model(input_ids=IDS, output_router_logits=True, use_cache=False).router_logits
    assert len(logits) == routing.experts.shape[1]
    for layer, values in enumerate(logits):
        probs = values.flatten(0, -2).softmax(-1)
        best = probs.sort(dim=-1, descending=True, stable=True)
        assert np.array_equal(routing.experts[:, layer], best.indices.numpy())
        assert np.array_equal(routing.probs[:, layer], best.values.half().numpy())


def test_switch_candidates_follow_output_router_logits() -> None:
    model = tiny_model("switch_transformers")
    with torch.inference_mode():
        out = model(input_ids=IDS, decoder_input_ids=IDS, output_router_logits=True, use_cache=False)
    for phase, logits in (("encode", out.encoder_router_logits), ("decode", out.decoder_router_logits)):
        routing = record(model, phase)
        for layer, values in enumerate(logits):
            best = values.flatten(0, -2).softmax(-1).sort(dim=-1, descending=True, stable=True)
            assert np.array_equal(routing.experts[:, layer], best.indices.numpy())


PHASES = [("encode", "switch_transformers"), *(("decode", model_type) for model_type in CONFIGS)]


@pytest.mark.parametrize(("phase", "model_type"), PHASES)
def test_lookahead_is_the_later_layers_routers_on_this_layers_input(phase: Any, model_type: str) -> None:
    model = tiny_model(model_type, **FOUR_MOE_LAYERS[model_type])
    routing = record(model, phase, depth=3)
    layers = adapter_for(model_type).layers(model, phase)
    inputs: list[Any] = []
    hooks = [layer.norm.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for layer in layers]
    run_stack(model, phase)
    for hook in hooks:
        hook.remove()
    assert len(layers) == len(inputs) == 4
    for layer, hidden in enumerate(inputs):
        for depth, following in enumerate(layers[layer + 1 :][:3], start=1):
            by_hand = best_by_hand(following, hidden)
            first_k = routing.lookahead[:, layer, depth - 1, : by_hand.shape[1]]
            assert np.array_equal(np.sort(first_k), np.sort(by_hand))
        assert (routing.lookahead[:, layer, len(layers) - 1 - layer :] == -1).all()


@pytest.mark.parametrize(("phase", "model_type"), PHASES)
def test_more_depths_leave_the_nearer_ones_alone(phase: Any, model_type: str) -> None:
    model = tiny_model(model_type)
    one, many = record(model, phase), record(model, phase, depth=9)
    assert many.lookahead.shape == (IDS.numel(), MOE_LAYERS[model_type], 9, 8)
    assert np.array_equal(many.lookahead[:, :, :1], one.lookahead)
    assert (many.lookahead[:, :, MOE_LAYERS[model_type] - 1 :] == -1).all()
    assert np.array_equal(many.experts, one.experts)
    assert np.array_equal(many.probs, one.probs)


def best_by_hand(layer: MoeLayer, hidden: Any) -> Any:
    """The chosen ones, [n, k]. Root mean square norm, then a matrix product: no module of the model is called."""
    router: Any = layer.router
    hidden = hidden.flatten(0, -2)
    epsilon: Any = layer.norm.variance_epsilon
    normed = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + epsilon) * layer.norm.weight
    weight = router.classifier.weight if hasattr(router, "classifier") else router.weight
    scores = normed @ weight.T + getattr(router, "bias", 0)
    if hasattr(router, "e_score_correction_bias"):
        return best_of_groups(scores.sigmoid() + router.e_score_correction_bias, members=2).numpy()
    if getattr(router, "topk_method", "") == "group_limited_greedy":
        return best_of_groups(scores.softmax(-1), members=1).numpy()
    return scores.topk(getattr(router, "top_k", 1)).indices.numpy()


def best_of_groups(scores: Any, members: int) -> Any:
    """DeepSeek: of 4 groups of 2 experts, 2 stay, by the sum of their `members` best; the 2 best experts in them."""
    kept = scores.view(-1, 4, 2).topk(members).values.sum(-1).topk(2).indices
    allowed = torch.zeros(len(scores), 4, dtype=torch.bool).scatter_(1, kept, True).repeat_interleave(2, dim=1)
    return scores.masked_fill(~allowed, -torch.inf).topk(2).indices


def test_lookahead_leaves_the_pass_itself_alone() -> None:
    model = tiny_model("mixtral")
    with torch.inference_mode():
        before = model(input_ids=IDS).logits
        record(model)
        adapter = adapter_for("mixtral")
        with Recorder(adapter, adapter.layers(model, "decode"), 4):
            during = model(input_ids=IDS).logits
        after = model(input_ids=IDS).logits
    assert torch.equal(before, during)
    assert torch.equal(before, after)


def test_a_patched_router_is_believed() -> None:
    model = tiny_model("switch_transformers")
    router: Any = adapter_for("switch_transformers").layers(model, "encode")[0].router
    original = router.forward

    def always_three(hidden: Any) -> Any:
        dispatch, prob, logits = original(hidden)
        return torch.nn.functional.one_hot(torch.full(dispatch.shape[:-1], 3), 8), prob, logits

    router.forward = always_three
    routing = record(model, "encode")
    assert (routing.experts[:, 0, 0] == 3).all()
    assert (routing.experts[:, 1, 0] != 3).any()


def test_deepseek_v3_probabilities_are_sigmoids_without_the_bias() -> None:
    model = tiny_model("deepseek_v3")
    routing = record(model, width=8)
    router: Any = adapter_for("deepseek_v3").layers(model, "decode")[0].router
    logits: list[Any] = []
    hook = router.register_forward_hook(lambda _, args, output: logits.append(output[0]))
    run_stack(model, "decode")
    hook.remove()
    expected = logits[0].sigmoid().half().numpy()
    assert np.array_equal(np.take_along_axis(expected, routing.experts[:, 0].astype(int), 1), routing.probs[:, 0])
    assert (np.diff(routing.probs[:, 0, 2:].astype(float)) <= 0).all()
    assert (np.diff(routing.probs[:, 0].astype(float)) > 0).any()  # bias and groups chose others than the greatest


def test_layers_are_found_by_looking() -> None:
    model = tiny_model("switch_transformers", num_layers=5, num_sparse_encoder_layers=3)
    sparse = [block.is_sparse for block in model.encoder.block]
    assert len(ADAPTERS["switch_transformers"].layers(model, "encode")) == sum(sparse)


def test_no_router_is_a_model_error() -> None:
    config = tiny_config("switch_transformers")
    config.decoder_sparse_step = 0
    model = AutoModelForSeq2SeqLM.from_config(config)
    assert ADAPTERS["switch_transformers"].layers(model, "encode")
    with pytest.raises(ModelError, match="decode phase has a router"):
        ADAPTERS["switch_transformers"].layers(model, "decode")


def test_unknown_class_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'t5'.*switch_transformers.*gpt_oss"):
        adapter_for("t5")


def test_numbers_that_are_not_finite_are_refused() -> None:
    model = tiny_model("mixtral")
    router: Any = adapter_for("mixtral").layers(model, "decode")[0].router
    router.weight.data[0] = torch.inf
    with pytest.raises(ModelError, match="not finite"):
        record(model)

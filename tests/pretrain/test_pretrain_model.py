"""The grouped feed-forward part against the library's, and its losses in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_runs import VOCABULARY, small_batch, small_preset
from torch import Tensor
from transformers import SwitchTransformersForConditionalGeneration
from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersSparseMLP

from specmoe.traces.pretrain_job import PRESETS, Preset
from specmoe.traces.pretrain_model import GroupedSparseMLP, build, configure, library_state, sparse_layers

QUIET: dict[str, float] = {"dropout": 0, "expert_dropout": 0, "jitter": 0}
AMPLE: dict[str, float] = {"capacity_factor": 4}  # room for all tokens in each of 4 experts


def pair(preset: Preset, seed: int = 0) -> tuple[GroupedSparseMLP, Any]:
    """A grouped layer and a layer of the library with the same weights and no limit."""
    torch.manual_seed(seed)
    library: Any = SwitchTransformersSparseMLP(configure(preset, VOCABULARY))
    library.router.expert_capacity = 10**6
    grouped = GroupedSparseMLP(library, preset)
    grouped.classifier.data.normal_()
    library.router.classifier.weight.data.copy_(grouped.classifier)
    return grouped, library


def routed(logits: Tensor, **changes: float) -> GroupedSparseMLP:
    """A layer in training whose routers gave these logits [tokens, 4], after its forward pass."""
    grouped, _ = pair(small_preset(**QUIET | AMPLE | changes))
    grouped.classifier.data = torch.eye(4, 16)
    grouped.train()(torch.nn.functional.pad(logits.float(), (0, 12))[None])
    return grouped


def one_hot(*experts: int, scale: float = 1.0) -> Tensor:
    return scale * torch.nn.functional.one_hot(torch.tensor(experts), 4)


@pytest.mark.parametrize("shape", [(2, 32), (1, 1), (3, 7)])
def test_with_room_for_all_it_is_the_librarys_layer(shape: tuple[int, int]) -> None:
    grouped, library = pair(small_preset(**AMPLE))
    hidden = torch.randn(*shape, 16)
    torch.testing.assert_close(grouped.eval()(hidden), library.eval()(hidden))
    assert grouped.dropped == 0


def test_gradients_are_the_librarys_too() -> None:
    grouped, library = pair(small_preset(**AMPLE))
    hidden, direction = torch.randn(2, 2, 32, 16)
    for layer in (grouped.eval(), library.eval()):
        (layer(hidden) * direction).sum().backward()
    experts = [library.experts[f"expert_{i}"] for i in range(4)]
    torch.testing.assert_close(grouped.classifier.grad, library.router.classifier.weight.grad)
    torch.testing.assert_close(grouped.wi.grad, torch.stack([expert.wi.weight.grad.T for expert in experts]))
    torch.testing.assert_close(grouped.wo.grad, torch.stack([expert.wo.weight.grad.T for expert in experts]))


@pytest.mark.parametrize("loss", ["output", "balance", "router_z"])
def test_what_each_loss_moves(loss: str) -> None:
    grouped, _ = pair(small_preset())
    output = grouped.train()(torch.randn(2, 32, 16))
    {"output": output.square().sum(), "balance": grouped.balance, "router_z": grouped.router_z}[loss].backward()
    moved = {name for name, p in grouped.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == ({"classifier", "wi", "wo"} if loss == "output" else {"classifier"})


def test_tokens_beyond_the_capacity_come_out_as_zero() -> None:
    grouped, library = pair(small_preset(**QUIET, capacity_factor=1))
    hidden = torch.randn(1, 32, 16).abs()
    for router in (grouped.classifier, library.router.classifier.weight):
        router.data = torch.zeros(4, 16)
        router.data[2] = 1
    output = grouped.train()(hidden)
    assert (output[0, 8:] == 0).all()  # 32 tokens to one of 4 experts, which takes 8
    torch.testing.assert_close(output[0, :8], library.eval()(hidden)[0, :8])
    assert grouped.dropped == 0.75
    assert grouped.load.tolist() == [0, 0, 1, 0]
    grouped.eval()(hidden)
    assert grouped.dropped == 0.5  # twice the room when measuring


def test_earlier_tokens_go_first() -> None:
    layer = routed(one_hot(*[1, 0] * 12), capacity_factor=1)  # 24 tokens, 6 places each
    assert layer.dropped == 0.5
    expert = torch.tensor([1, 0, 1, 1, 0])
    assert layer._places(expert, 2).tolist() == [2, 0, 3, 8, 1]  # the place after all 8 is for the dropped


def test_an_expert_has_at_least_four_places() -> None:
    assert routed(one_hot(0, 0, 0, 0, 1), capacity_factor=0.1).dropped == 0


def test_balance_is_1_when_even() -> None:
    even = routed(one_hot(0, 1, 2, 3))
    assert even.balance.item() == pytest.approx(1)
    assert even.load.tolist() == [0.25] * 4


@pytest.mark.parametrize("scale", [0.5, 3.0, 20.0])
def test_balance_when_one_expert_gets_all(scale: float) -> None:
    p = math.exp(scale) / (math.exp(scale) + 3)
    assert routed(one_hot(1, 1, 1, 1, 1, scale=scale)).balance.item() == pytest.approx(4 * p)


def test_balance_in_closed_form() -> None:
    p, q = (value / (math.e + 3) for value in (math.e, 1))
    layer = routed(one_hot(0, 0, 0, 2))
    assert layer.load.tolist() == [0.75, 0, 0.25, 0]
    assert layer.balance.item() == pytest.approx(4 * (0.75 * (3 * p + q) / 4 + 0.25 * (3 * q + p) / 4))


def test_z_loss_of_zero_logits() -> None:
    assert routed(torch.zeros(6, 4)).router_z.item() == pytest.approx(math.log(4) ** 2)


def test_z_loss_in_closed_form() -> None:
    expected = (math.log(math.e + 3) ** 2 + math.log(4) ** 2) / 2
    assert routed(torch.cat([one_hot(1), torch.zeros(1, 4)])).router_z.item() == pytest.approx(expected)


def test_balance_is_each_layers_own() -> None:
    """Two layers with one expert each, but not the same: taken together they would look half as bad."""
    losses = [routed(one_hot(expert, expert, scale=50.0)).balance.item() for expert in (0, 1)]
    together = routed(one_hot(0, 0, 1, 1, scale=50.0)).balance.item()
    assert losses == pytest.approx([4, 4])
    assert together == pytest.approx(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_routers_stay_in_float32_under_autocast(dtype: torch.dtype) -> None:
    grouped, _ = pair(small_preset(**AMPLE))
    grouped.eval()
    hidden = torch.randn(2, 32, 16).to(dtype)
    grouped(hidden.float())
    exact = (grouped.balance, grouped.router_z, grouped.load)
    with torch.autocast("cpu", torch.bfloat16):
        output = grouped(hidden)
    assert all(map(torch.equal, exact, (grouped.balance, grouped.router_z, grouped.load)))
    assert {value.dtype for value in exact} == {torch.float32}
    assert output.dtype == dtype


def test_jitter_and_dropout_are_for_training_only() -> None:
    grouped, _ = pair(small_preset(jitter=0.5))
    hidden = torch.randn(2, 32, 16)
    assert torch.equal(grouped.eval()(hidden), grouped(hidden))
    assert not torch.equal(grouped.train()(hidden), grouped(hidden))


def test_one_expert_is_a_dense_layer() -> None:
    grouped, _ = pair(small_preset("dense-mini", experts=1, **QUIET))
    hidden = torch.randn(2, 32, 16)
    expert = torch.relu(hidden @ grouped.wi[0]) @ grouped.wo[0]
    torch.testing.assert_close(grouped.train()(hidden), expert)
    assert (grouped._route(hidden[0])[0] == 1).all()
    assert (grouped.dropped, grouped.balance) == (0, 1)
    assert PRESETS["dense-mini"].experts == 1


def test_dense_mini_is_as_active_as_switch_mini_128() -> None:
    shape = ("d_model", "d_ff", "d_kv", "heads", "layers", "vocabulary")
    dense, sparse = PRESETS["dense-mini"], PRESETS["switch-mini-128"]
    assert [getattr(dense, name) for name in shape] == [getattr(sparse, name) for name in shape]


@pytest.mark.parametrize(("layers", "sparse"), [(2, [1]), (4, [1, 3]), (5, [1, 3]), (12, [1, 3, 5, 7, 9, 11])])
def test_only_sparse_layers_are_replaced(layers: int, sparse: list[int]) -> None:
    model: Any = build(small_preset(layers=layers), VOCABULARY)
    for stack in (model.encoder, model.decoder):
        grouped = [i for i, block in enumerate(stack.block) if isinstance(block.layer[-1].mlp, GroupedSparseMLP)]
        assert grouped == sparse
    assert len(sparse_layers(model)) == 2 * len(sparse)


def test_layers_are_found_by_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 layers of which 5 shall be sparse: the library makes 6."""
    config: Any = configure(small_preset(layers=12), VOCABULARY).to_dict() | {"num_sparse_encoder_layers": 5}
    del config["encoder_sparse_step"]
    config = type(configure(small_preset(), VOCABULARY))(**config)
    monkeypatch.setattr("specmoe.traces.pretrain_model.configure", lambda preset, vocabulary: config)
    model: Any = build(small_preset(layers=12), VOCABULARY)
    assert config.num_sparse_encoder_layers == 5
    assert len(sparse_layers(model.encoder)) == 6
    assert not any(isinstance(module, SwitchTransformersSparseMLP) for module in model.modules())


def test_embeddings_are_padded_to_a_multiple_of_128() -> None:
    assert [configure(small_preset(), n).vocab_size for n in (1, 128, 129, 8292)] == [128, 128, 256, 8320]


def test_routers_start_small() -> None:
    model = build(small_preset(router_init=0.06, experts=64, d_model=64), VOCABULARY)
    for layer in sparse_layers(model):
        assert layer.classifier.std().item() == pytest.approx(0.06, rel=0.1)


def test_the_librarys_model_with_the_same_parameters_has_the_same_loss() -> None:
    torch.manual_seed(0)
    model: Any = build(small_preset(layers=4, **AMPLE), VOCABULARY).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()  # what is saved is float16
    library: Any = SwitchTransformersForConditionalGeneration(configure(small_preset(layers=4), VOCABULARY)).eval()
    for module in library.modules():
        if hasattr(module, "expert_capacity"):
            module.expert_capacity = 10**6
    state = library_state(model)
    unmatched = library.load_state_dict(state, strict=False)
    assert unmatched.unexpected_keys == []
    assert set(unmatched.missing_keys) == set(library._tied_weights_keys)
    inputs, targets = (torch.from_numpy(ids).long() for ids in small_batch())
    batch = {"input_ids": inputs, "labels": targets}
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).loss, library(**batch).loss)
    assert {value.dtype for value in state.values()} == {torch.float16}

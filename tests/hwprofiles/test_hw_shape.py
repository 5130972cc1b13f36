"""What models are made of: counts by hand, published totals, bytes, and shapes that contradict themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from hw_tables import put, shape_table, to_toml
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError
from specmoe.hwprofiles import ModelShape, Phase, load_shape
from specmoe.hwprofiles.shape import (
    BITS,
    FORMATS,
    Attention,
    Format,
    Stack,
    bytes_of,
    can_fill,
    compute_format,
    is_compressed,
    is_expandable,
    require_can_fill,
)

Maker = Callable[..., ModelShape]

# Total parameters in 10^9 as published: model cards, and the Switch paper's table 9 for the two largest.
PUBLISHED_TOTALS = {
    "switch-base-8": 0.62,
    "switch-base-128": 7.4,
    "switch-base-256": 14.7,
    "switch-large-128": 26.3,
    "switch-xxl-128": 395,
    "mixtral-8x7b": 46.7,
    "qwen1.5-moe-a2.7b": 14.3,
    "deepseek-moe-16b": 16.4,
    "deepseek-v2-lite": 15.7,
    "olmoe-1b-7b": 6.9,
    "qwen3-30b-a3b": 30.5,
    "gpt-oss-20b": 20.9,
    "gpt-oss-120b": 116.8,
    "qwen3-235b-a22b": 235,
    "qwen2-57b-a14b": 57.4,
    "mixtral-8x22b": 140.6,
    "phi-3.5-moe": 41.9,
    "glm-4.5-air": 106,
    "granite-3.0-3b-a800m": 3.3,
    "llama-4-scout": 109,  # its vision encoder, which the shape does not have, included
    "qwen3-next-80b-a3b": 80,
    "qwen3.6-35b-a3b": 35,
}
PUBLISHED_EXPERTS = {
    "switch-base-64": 4_718_592,
    "switch-large-128": 8_388_608,
    "mixtral-8x7b": 176_160_768,
    "gpt-oss-20b": 24_891_840,
    "qwen3-30b-a3b": 4_718_592,
    "olmoe-1b-7b": 6_291_456,
}


@pytest.mark.parametrize(("name", "billions"), PUBLISHED_TOTALS.items())
def test_published_totals(name: str, billions: float) -> None:
    assert load_shape(name).total_parameters / 1e9 == pytest.approx(billions, rel=0.012)


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED_EXPERTS.items())
def test_published_experts(name: str, parameters: int) -> None:
    assert load_shape(name).expert_parameters == parameters


def test_expert_bytes_of_the_pregated_paper() -> None:
    assert load_shape("switch-base-64").expert_bytes() == 18_874_368
    assert load_shape("switch-large-128").expert_bytes() == 33_554_432
    assert load_shape("switch-base-128").expert_bytes("fp16") == 9_437_184


def test_mxfp4_costs_what_int4_costs_here() -> None:
    shape = load_shape("gpt-oss-20b")
    weights = 3 * 2880 * 2880
    assert bytes_of(weights, "int4") == weights * 4 // 8 + weights // 32
    assert shape.format == "int4"


@pytest.mark.parametrize(("name", "moe"), [("switch-base-8", 6), ("switch-large-128", 12), ("deepseek-moe-16b", 27)])
def test_moe_layers(name: str, moe: int) -> None:
    shape = load_shape(name)
    assert shape.stack("decode").moe_layers == shape.stack("encode").moe_layers == moe


# By hand: 8 -> 16 -> 8, attention of 2 heads of 4, dense layers of width 32, 4 layers of which 1 and 3 are sparse


def test_counts_by_hand(shape: ModelShape) -> None:
    assert shape.expert_parameters == 2 * 8 * 16 == 256
    assert shape.router_parameters == 8 * 4
    assert shape.attention_parameters("encode") == 4 * 8 * 8 == 256
    assert shape.attention_parameters("decode") == 2 * 256
    assert shape.dense_layer_parameters("encode") == 256 + 2 * 8 * 32 == 768
    assert [shape.dense_parameters("decode", layer) for layer in (0, 1, -1)] == [(512 + 512) + 512] * 3
    assert shape.head_parameters == 400
    assert shape.resident_parameters == 2 * (768 + 256 + 32) + 2 * (1024 + 512 + 32) + 400
    assert shape.routed_experts == 16
    assert shape.total_parameters == shape.resident_parameters + 16 * 256


def test_untied_embeddings_count_twice(make_shape: Maker, shape: ModelShape) -> None:
    assert make_shape({"tied": False}).total_parameters == shape.total_parameters + 400


def test_gates_biases_and_shared_experts(make_shape: Maker) -> None:
    gated = make_shape({"experts.gated": True, "experts.biased": True, "experts.shared_d_ff": 5})
    assert gated.expert_parameters == 3 * 8 * 16 + 2 * 16 + 8
    assert gated.shared_parameters == 3 * 8 * 5
    assert gated.dense_parameters("encode") == (256 + 3 * 8 * 32) + 256 + 3 * 8 * 5
    assert make_shape({"experts.biased": True}).expert_parameters == 256 + 16 + 8


def test_one_stack_serves_both_phases(make_shape: Maker) -> None:
    shape = make_shape({"encoder": None})
    assert shape.stack("encode") is shape.stack("decode")
    assert shape.attentions("decode") == 1
    assert shape.routed_experts == 8


def test_grouped_queries_by_hand() -> None:
    attention = Attention(heads=4, kv_heads=2, head_dim=3)
    assert attention.parameters(10) == 10 * 12 + 2 * 10 * 6 + 12 * 10
    assert attention.cached == 2 * 6
    assert attention.flops_per_position == 2 * (12 + 12)


def test_latent_attention_by_hand() -> None:
    attention = Attention(heads=4, kv_heads=4, head_dim=3, latent=5, rope=2)
    query, down, up, output = 10 * 4 * 5, 10 * 7, 5 * 4 * 6, 12 * 10
    assert attention.parameters(10) == query + down + up + output
    assert attention.cached == 7
    assert attention.flops_per_position == 2 * (4 * 5 + 4 * 3)


@given(st.integers(0, 4), st.integers(1, 4), st.integers(1, 6))
def test_every_layer_is_dense_or_sparse(first: int, every: int, moe: int) -> None:
    stack = Stack(first + (moe - 1) * every + 1, first, every, 1)
    assert stack.moe_layers == moe
    assert sum(stack.dense_before(layer) + 1 for layer in range(moe)) == stack.layers
    assert stack.dense_before(-1) == stack.dense_before(moe - 1)


# Formats


@pytest.mark.parametrize(
    ("held", "size"),
    [
        ("fp32", 4000),
        ("fp16", 2000),
        ("bf16", 2000),
        ("int8", 1032),
        ("int4", 532),
        ("q8_0", 1063),
        ("q6_k", 821),
        ("q5_k", 688),
        ("q4_k", 563),
        ("q4_0", 563),
        ("mxfp4", 532),
        ("iq4_xs", 532),
        ("iq3_xxs", 383),
    ],
)
def test_bytes_by_hand(held: Format, size: int) -> None:
    assert bytes_of(1000, held) == size  # 16 groups of 64, the last of them not full


@given(st.integers(64, 10**9), st.sampled_from(FORMATS), st.sampled_from(FORMATS))
def test_more_bits_take_more_bytes(parameters: int, one: Format, other: Format) -> None:
    if BITS[one] < BITS[other]:
        assert bytes_of(parameters, one) <= bytes_of(parameters, other)
    assert bytes_of(parameters + 1, one) >= bytes_of(parameters, one)


@pytest.mark.parametrize("held", FORMATS)
def test_what_is_compressed_is_computed_in_fp16(held: Format) -> None:
    assert is_compressed(held) == (held not in ("fp32", "fp16", "bf16"))
    assert is_expandable(held) == (held in ("int8", "int4"))
    assert compute_format(held) == ("fp16" if is_compressed(held) else held)


# What is refused


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("name", None, "name: missing"),
        ("source", None, "source: missing"),
        ("source", 3, "source: 3: a text expected"),
        ("d_model", None, "d_model: missing"),
        ("d_model", 8.0, "d_model: 8.0: a whole number expected"),
        ("d_model", True, "d_model: True: a whole number expected"),
        ("d_model", -8, "d_model: -8: 0 or more expected"),
        ("d_model", 0, "d_model: 0: more than 0 expected"),
        ("vocab", 0, "vocab: 0: more than 0 expected"),
        ("tied", "yes", "tied: 'yes': true or false expected"),
        ("format", "fp32x", "format: 'fp32x': did you mean 'fp32'?"),
        ("format", "double", "format: 'double': one of bf16, fp16, fp32, int4, int8, iq3_xxs"),
        ("dmodel", 8, "dmodel: unknown field: did you mean 'd_model'?"),
        ("attention", None, "attention: missing"),
        ("attention", 3, "attention: 3: a table expected"),
        ("attention.heads", 0, "attention.heads: 0: more than 0 expected"),
        ("attention.kv_heads", None, "attention.kv_heads: missing"),
        ("attention.latnt", 1, "attention.latnt: unknown field: did you mean 'latent'?"),
        ("experts.top_k", 0, "experts.top_k: 0: 1 .. 4 expected"),
        ("experts.top_k", 5, "experts.top_k: 5: 1 .. 4 expected"),
        ("experts.d_ff", 0, "experts.d_ff: 0: more than 0 expected"),
        ("experts.gated", 1, "experts.gated: 1: true or false expected"),
        ("decoder", None, "decoder: missing"),
        ("decoder.layers", 10**8, "decoder.layers: 100000000: at most 10000 expected"),
        ("decoder.moe_every", 0, "decoder.moe_every: 0: 1 or more expected"),
        ("decoder.first_moe", 4, "decoder.first_moe: 4: a layer, 0 .. 3, expected"),
        ("decoder.moe_every", 3, "decoder.moe_every: 3: a spacing whose last MoE layer is the last layer expected"),
        ("encoder.dense_d_ff", 0, "encoder.dense_d_ff: 0: the width of the dense layers expected"),
        ("encoder.layers", None, "encoder.layers: missing"),
    ],
)
def test_bad_fields_are_named(tmp_path: Path, name: str, value: object, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(to_toml(put(shape_table(), name, value)))
    with pytest.raises(InputError) as caught:
        load_shape(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_an_unknown_name() -> None:
    with pytest.raises(
        InputError, match=r"mixtral: no such model shape, nor a .toml file: did you mean 'mixtral-8x7b'"
    ):
        load_shape("mixtral")


@pytest.mark.parametrize("phase", ["encode", "decode"])
def test_layers_are_counted_by_the_list(shape: ModelShape, phase: Phase) -> None:
    with pytest.raises(IndexError):
        shape.dense_parameters(phase, 2)


@pytest.mark.parametrize("held", FORMATS)
@pytest.mark.parametrize("home", FORMATS)
def test_slots_are_filled_from_the_same_format_or_by_expanding(home: Format, held: Format) -> None:
    fits = home == held or (home in ("int8", "int4") and held == "fp16")
    assert can_fill(home, held) == fits
    with nullcontext() if fits else pytest.raises(InputError, match=f"^{home} at home is .* expected, not {held}$"):
        require_can_fill(home, held)
    require_can_fill(None, held)

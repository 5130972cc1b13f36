"""Shapes made from models' own files: configurations of public models, GGUF files as their own package writes them."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles import ModelShape, load_shape, shape_names
from specmoe.hwprofiles.gguf_file import TYPES, shape_from
from specmoe.hwprofiles.model_config import CLASSES
from specmoe.hwprofiles.shape_file import read_shape, shape_toml
from specmoe.traces.adapters import ADAPTERS

RECORDINGS = Path(__file__).parents[1] / "recordings"
BF16 = {"torch_dtype": "bfloat16", "tie_word_embeddings": False, "rms_norm_eps": 1e-5}


def decoder(kind: str, d_model: int, layers: int, heads: int, vocab: int, top_k: int, **others: Any) -> dict[str, Any]:
    sizes = {"hidden_size": d_model, "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": vocab}
    return {"model_type": kind, **sizes, "num_experts_per_tok": top_k, **BF16, **others}


LATENT = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
MIXTRAL = decoder("mixtral", 4096, 32, 32, 32000, 2, num_key_value_heads=8, num_local_experts=8)
MIXTRAL |= {"intermediate_size": 14336, "sliding_window": None, "rope_theta": 1e6}
SWITCH = {"model_type": "switch_transformers", "d_model": 768, "d_ff": 3072, "d_kv": 64, "num_heads": 12}
SWITCH |= {"num_layers": 12, "num_decoder_layers": 12, "num_sparse_encoder_layers": 6, "num_sparse_decoder_layers": 6}
SWITCH |= {"num_experts": 8, "vocab_size": 32128, "feed_forward_proj": "relu"}
GLM = {"head_dim": 128, "num_key_value_heads": 8, "n_shared_experts": 1, "num_nextn_predict_layers": 1}
PUBLIC = {
    "mixtral-8x7b": MIXTRAL,
    "switch-base-8": SWITCH,
    "qwen1.5-moe-a2.7b": decoder("qwen2_moe", 2048, 24, 16, 151936, 4, num_key_value_heads=16, num_experts=60)
    | {"intermediate_size": 5632, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632}
    | {"decoder_sparse_step": 1, "sliding_window": 32768, "use_sliding_window": False},
    "qwen3-30b-a3b": decoder("qwen3_moe", 2048, 48, 32, 151936, 8, num_key_value_heads=4, num_experts=128)
    | {"head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768, "mlp_only_layers": []},
    "olmoe-1b-7b": decoder("olmoe", 2048, 16, 16, 50304, 8, num_key_value_heads=16, num_experts=64)
    | {"intermediate_size": 1024},
    "deepseek-v2-lite": decoder("deepseek_v2", 2048, 27, 16, 102400, 6, n_routed_experts=64, n_shared_experts=2)
    | {**LATENT, "q_lora_rank": None, "first_k_dense_replace": 1, "moe_layer_freq": 1}
    | {"intermediate_size": 10944, "moe_intermediate_size": 1408},
    "glm-4.5-air": decoder("glm4_moe", 4096, 46, 96, 151552, 8, n_routed_experts=128, first_k_dense_replace=1)
    | {**GLM, "intermediate_size": 10944, "moe_intermediate_size": 1408},
    "gpt-oss-20b": decoder("gpt_oss", 2880, 24, 64, 201088, 4, num_key_value_heads=8, num_local_experts=32)
    | {"head_dim": 64, "intermediate_size": 2880, "sliding_window": 128}
    | {"layer_types": ["sliding_attention", "full_attention"] * 12, "quantization_config": {"quant_method": "mxfp4"}},
    "qwen3-next-80b-a3b": decoder("qwen3_next", 2048, 48, 16, 151936, 10, num_key_value_heads=2, num_experts=512)
    | {"head_dim": 256, "linear_num_key_heads": 16, "linear_num_value_heads": 32, "full_attention_interval": 4}
    | {"linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4}
    | {"intermediate_size": 5120, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512},
}
LARGE = {
    671: decoder("deepseek_v3", 7168, 61, 128, 129280, 8, num_key_value_heads=128, n_routed_experts=256)
    | {**LATENT, "q_lora_rank": 1536, "first_k_dense_replace": 3, "moe_layer_freq": 1, "n_shared_experts": 1}
    | {"intermediate_size": 18432, "moe_intermediate_size": 2048, "quantization_config": {"quant_method": "fp8"}},
    355: decoder("glm4_moe", 5120, 92, 96, 151552, 8, n_routed_experts=160, first_k_dense_replace=3)
    | {**GLM, "intermediate_size": 12288, "moe_intermediate_size": 1536},
}


def of(directory: Path, config: dict[str, Any]) -> ModelShape:
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    return shape_from(path)


def sizes(shape: ModelShape) -> dict[str, Any]:
    """All of a shape but texts and its format."""
    fields = dataclasses.asdict(shape)
    if fields["cache"]:
        del fields["cache"]["source"]
    return {name: value for name, value in fields.items() if name not in ("name", "source", "format", "in_file")}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_configuration_gives_the_shipped_shape(tmp_path: Path, name: str) -> None:
    shape, shipped = of(tmp_path, PUBLIC[name]), load_shape(name)
    assert sizes(shape) == sizes(shipped)
    assert shape.name == tmp_path.name
    assert (
        (shape.format, shipped.format) == ("mxfp4", "int4") if name == "gpt-oss-20b" else shape.format == shipped.format
    )


@pytest.mark.parametrize("billions", LARGE)
def test_a_large_configuration_has_the_published_parameters(tmp_path: Path, billions: int) -> None:
    shape = of(tmp_path, LARGE[billions])
    assert shape.total_parameters / 1e9 == pytest.approx(billions, rel=0.012)
    assert ("fp8 counted as int8" in shape.source) == (shape.format == "int8") == (billions == 671)


def test_every_class_that_is_recorded_can_be_read() -> None:
    assert set(ADAPTERS) <= set(CLASSES)


@pytest.mark.parametrize("name", shape_names())
def test_a_written_shape_reads_as_it_was(tmp_path: Path, name: str) -> None:
    path = tmp_path / "shape.toml"
    path.write_text(shape_toml(load_shape(name)))
    assert read_shape(path) == load_shape(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "jamba"}, "model_type: 'jamba', no class that is known here: "),
        ({"model_type": "mixtrl"}, "model_type: 'mixtrl', no class that is known here: did you mean 'mixtral'?"),
        ({"model_type": None}, "model_type: a Hugging Face config.json with the class of a model expected"),
        ({"hidden_size": None}, "hidden_size: missing: a whole number expected"),
        ({"hidden_size": "4096"}, "hidden_size: int expected, not str"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: 1000000000: a whole number from 1 to 10,000 expected"),
        ({"sliding_window": 4096}, "sliding_window: 4096 in every layer: null, or layer_types, expected"),
        (
            {"mlp_only_layers": [3]},
            "first_k_dense_replace, moe_layer_freq, decoder_sparse_step, mlp_only_layers: 0 1 2",
        ),
        ({"torch_dtype": "int9"}, "torch_dtype: 'int9': one of bfloat16, float16, float32 expected"),
        ({"quantization_config": {"quant_method": "hqq"}}, "quantization_config.quant_method: 'hqq' of ? bits: one of"),
        ({"num_experts_per_tok": 9}, "experts.top_k: 9: 1 .. 8 expected"),
    ],
)
def test_what_a_shape_cannot_say_is_named_in_a_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        of(tmp_path, MIXTRAL | changes)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: {message}")
    assert "\n" not in str(caught.value)


def test_a_configuration_nested_5000_fold_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "mixtral", "a": ' + "[" * 5000 + "]" * 5000 + "}")
    with pytest.raises(InputError, match=r"config.json: not a Hugging Face config.json \(nested too deeply\)$"):
        shape_from(path)


# GGUF


Tensors = dict[str, tuple[tuple[int, ...], str]]  # sizes, the slowest first, and type of each tensor


def write_header(path: Path, architecture: str, fields: dict[str, int], tensors: Tensors) -> Path:
    """A file as the gguf package writes it, with what readers must skip: a long text, lists of texts and of numbers."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_chat_template("x" * 70_000)
    writer.add_token_list([f"token {number}" for number in range(512)])
    writer.add_token_scores([0.5] * 20_000)
    for name, size in fields.items():
        writer.add_uint32(f"{architecture}.{name}", size)
    for name, (shape, kind) in tensors.items():
        held = gguf.GGMLQuantizationType[kind]
        block, size = gguf.GGML_QUANT_SIZES[held]
        packed = (*shape[:-1], shape[-1] // block * size)
        writer.add_tensor(name, np.zeros(packed, np.uint8), raw_dtype=held)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def feed_forward(name: str, d_ff: int, kind: str, *experts: int, down: str = "") -> Tensors:
    wide, narrow = (*experts, d_ff, 256), (*experts, 256, d_ff)
    names = {part: name.format(part) for part in ("gate", "up", "down")}
    return {names["gate"]: (wide, kind), names["up"]: (wide, kind), names["down"]: (narrow, down or kind)}


def write_gguf(path: Path, experts: int = 4, expert_type: str = "Q4_K", **fields: int) -> Path:
    """A model of 3 layers, the first dense; the down projections of the last layer are Q6_K, as in a medium file."""
    sizes = {"block_count": 3, "expert_count": experts, "expert_used_count": 2, "attention.head_count": 2}
    sizes |= {"attention.head_count_kv": 1, "attention.key_length": 192, "attention.kv_lora_rank": 32}
    sizes |= {"rope.dimension_count": 64, "attention.q_lora_rank": 16}
    tensors: Tensors = dict.fromkeys(("token_embd.weight", "output.weight"), ((512, 256), "Q6_K"))
    tensors |= feed_forward("blk.0.ffn_{}.weight", 768, "Q4_K")
    for layer, down in ((1, expert_type), (2, "Q6_K")):
        tensors |= feed_forward(f"blk.{layer}.ffn_{{}}_exps.weight", 512, expert_type, experts, down=down)
        tensors |= feed_forward(f"blk.{layer}.ffn_{{}}_shexp.weight", 512, "Q8_0")
    return write_header(path, "deepseek2", sizes | fields, tensors)


def test_an_old_file_has_a_tensor_for_each_expert(tmp_path: Path) -> None:
    sizes = {"block_count": 2, "expert_count": 3, "expert_used_count": 2, "attention.head_count": 4}
    tensors: Tensors = {"token_embd.weight": ((512, 256), "F16")}
    for layer in range(2):
        for expert in range(3):
            tensors |= feed_forward(f"blk.{layer}.ffn_{{}}.{expert}.weight", 512, "Q4_0")
    shape = shape_from(write_header(tmp_path / "old.gguf", "llama", sizes, tensors))
    assert dataclasses.astuple(shape.experts) == (3, 2, 512, True, False, 0)
    assert dataclasses.astuple(shape.attention) == (4, 4, 64, 0, 0, 0)
    assert (shape.format, shape.tied, shape.expert_bytes()) == ("q4_0", True, 3 * 512 * 256 // 32 * 18)


def test_windows_and_biases_of_gpt_oss(tmp_path: Path) -> None:
    sizes = {"block_count": 2, "expert_count": 4, "expert_used_count": 2, "attention.head_count": 4}
    sizes |= {"attention.head_count_kv": 2, "attention.key_length": 32, "attention.sliding_window": 128}
    tensors: Tensors = {"token_embd.weight": ((512, 256), "BF16"), "output.weight": ((512, 256), "BF16")}
    for layer in range(2):
        tensors |= feed_forward(f"blk.{layer}.ffn_{{}}_exps.weight", 512, "MXFP4", 4)
        tensors |= {f"blk.{layer}.ffn_down_exps.bias": ((4, 256), "F32")}
    shape = shape_from(write_header(tmp_path / "oss.gguf", "gpt-oss", sizes, tensors))
    assert (shape.format, shape.experts.biased, shape.experts.gated) == ("mxfp4", True, True)
    assert shape.cache is not None and (shape.cache.full_every, shape.cache.window) == (2, 128)
    assert shape.expert_bytes() == 3 * 512 * 256 // 32 * 17 + 256 * 4


def test_a_gguf_file_gives_sizes_and_the_bytes_of_its_experts(tmp_path: Path) -> None:
    shape = shape_from(write_gguf(tmp_path / "tiny-Q4_K_M.gguf"))
    assert (shape.name, shape.format, shape.d_model, shape.vocab, shape.tied) == (
        "tiny-Q4_K_M",
        "q4_k",
        256,
        512,
        False,
    )
    assert dataclasses.astuple(shape.experts) == (4, 2, 512, True, False, 512)
    assert dataclasses.astuple(shape.decoder) == (3, 1, 1, 768)
    assert dataclasses.astuple(shape.attention) == (2, 2, 128, 32, 64, 16)
    block = 256 * 512 // 256
    assert shape.in_file and shape.in_file.expert_bytes == (3 * block * 144, 2 * block * 144 + block * 210)
    assert shape.expert_bytes() == shape.expert_bytes("q4_k") == (6 * 144 - 144 + 210) * block // 2
    assert shape.expert_bytes("fp16") == 2 * shape.expert_parameters
    assert shape.in_file.dense_format == "q8_0"


def test_only_the_header_is_read_and_parts_of_a_split_file_count(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf").read_bytes()
    split = tmp_path / "tiny-00001-of-00002.gguf"
    split.write_bytes(whole[: whole.rindex(b"shexp") + 100])
    with pytest.raises(InputError, match=r"tiny-00002-of-00002.gguf: not a GGUF file \(No such file"):
        shape_from(split)
    (tmp_path / "tiny-00002-of-00002.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    assert sizes(shape_from(split)) == sizes(shape_from(tmp_path / "whole.gguf"))


def test_the_golden_header_reads_as_it_did(tmp_path: Path) -> None:
    """Written by gguf 0.19 and cut behind the list of tensors; it needs no package."""
    shape = shape_from(RECORDINGS / "tiny-Q4_K_M.gguf")
    assert (shape.format, shape.in_file and shape.in_file.expert_bytes) == ("q4_k", (221184, 255 * 1024 - 6144))


def test_sizes_of_types_are_those_of_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf")
    known = {kind.value: (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {number: kind[:3] for number, kind in TYPES.items()} == {number: known[number] for number in TYPES}


HEAD = b"GGUF" + struct.pack("<I", 3)
LYING = {
    "no GGUF": (b"PK\x03\x04" + bytes(60), "does not begin with GGUF"),
    "old": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1: 2 or 3"),
    "short": (HEAD, "ends early: 8 more bytes announced"),
    "tensors": (HEAD + struct.pack("<QQ", 2**60, 0), "1152921504606846976 tensors: at most 262144 expected"),
    "fields": (HEAD + struct.pack("<QQ", 0, 2**60), "1152921504606846976 fields: at most 65536 expected"),
    "text": (HEAD + struct.pack("<QQQ", 0, 1, 2**40), "ends early: 1099511627776 more bytes announced"),
    "list": (HEAD + struct.pack("<QQQ1sIIQ", 0, 1, 1, b"a", 9, 4, 2**40), "1099511627776 items of a list: at most"),
    "numbers": (
        HEAD + struct.pack("<QQQ1sIIQ", 0, 1, 1, b"a", 9, 4, 2**21),
        "ends early: 8388608 more bytes announced",
    ),
    "texts": (HEAD + struct.pack("<QQQ1sIIQ", 0, 1, 1, b"a", 9, 8, 2**21), "ends early: 8 more bytes announced"),
    "nested": (HEAD + struct.pack("<QQQ1sIIQ", 0, 1, 1, b"a", 9, 9, 5000), "type 9 of a value is not known here"),
    "dimensions": (HEAD + struct.pack("<QQQ1sI", 1, 0, 1, b"a", 2**31), "2147483648 dimensions of a tensor: at most 4"),
    "type": (HEAD + struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"a", 1, 256, 99, 0), "a: type 99 of a tensor is not known"),
    "size": (HEAD + struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"a", 1, 100, 12, 0), "a: [100] in blocks of 256 is no size"),
}


@pytest.mark.parametrize("name", LYING)
def test_a_header_that_lies_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    content, message = LYING[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        shape_from(path)
    assert str(caught.value).startswith(f"{path}: not a GGUF file ({message}")


def test_a_gguf_model_that_a_shape_cannot_say_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "other.gguf", expert_count=8)
    with pytest.raises(InputError, match=r"blk.1.ffn_gate_exps.weight: 4 experts: 8 expected"):
        shape_from(path)
    with pytest.raises(InputError, match="experts are Q2_K, whose kernels are not simulated"):
        shape_from(write_gguf(tmp_path / "two.gguf", expert_type="Q2_K"))
    with pytest.raises(InputError, match=r"deepseek2.expert_count: 0 in 3 layers: a model with experts expected"):
        shape_from(write_gguf(tmp_path / "dense.gguf", expert_count=0))
    path.write_bytes(path.read_bytes().replace(b"deepseek2", b"deepseek9"))
    with pytest.raises(
        InputError, match=r"general.architecture: 'deepseek9', not known here: did you mean 'deepseek2'"
    ):
        shape_from(path)


# As a user runs it


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, ["shape", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def test_shipped_shapes_are_listed_and_shown() -> None:
    rows = run("list", "--json")
    assert tuple(row["name"] for row in rows) == shape_names()
    (row,) = [row for row in rows if row["name"] == "switch-base-64"]
    assert (row["moe_layers"], row["experts"], row["expert_mib"]) == ("6 + 6", 64, 18.0)
    (facts,) = run("show", "switch-base-64", "--json")
    assert facts["expert_bytes"]["fp32"] == 18_874_368
    assert facts["expert_parameters"] == 4_718_592
    assert facts["decoder"] == {"layers": 12, "first_moe": 1, "moe_every": 2, "dense_d_ff": 3072}
    assert "config.json" in facts["source"]
    assert "18874368" in run("show", "switch-base-64")


def test_a_shape_from_a_file_serves_as_a_model(tmp_path: Path) -> None:
    config, out = tmp_path / "config.json", tmp_path / "my.toml"
    config.write_text(json.dumps(PUBLIC["olmoe-1b-7b"]))
    (row,) = run("from", config, "--name", "my-olmoe", "--out", out, "--json")
    assert (row["name"], row["experts"], row["file"]) == ("my-olmoe", 64, str(out))
    assert sizes(load_shape(str(out))) == sizes(load_shape("olmoe-1b-7b"))


def test_a_file_of_mixed_bytes_keeps_them(tmp_path: Path) -> None:
    shape = shape_from(write_gguf(tmp_path / "tiny.gguf"))
    out = tmp_path / "tiny.toml"
    out.write_text(shape_toml(shape))
    assert read_shape(out) == shape
    out.write_text(shape_toml(shape).replace("expert_bytes = [", "expert_bytes = [1, "))
    with pytest.raises(InputError, match=r"in_file.expert_bytes: 3 numbers: 2 MoE layers expected"):
        read_shape(out)
    out.write_text(shape_toml(shape).replace("expert_bytes = [", "expert_bytes = [99999999999999999999, "))
    with pytest.raises(InputError, match=r"in_file.expert_bytes: a list of whole numbers from 1 to 1099511627776"):
        read_shape(out)
    out.write_text(shape_toml(shape).replace("number = 4", "number = 1000000000"))
    with pytest.raises(InputError, match=r"experts.number: 2000000000 in all layers: at most 1048576 expected"):
        read_shape(out)

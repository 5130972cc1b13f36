"""Tiny randomly initialised models of every class that has an adapter, and a tokenizer for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from specmoe.traces import Block, Trace
from specmoe.traces.collect import CollectJob
from specmoe.traces.collect_model import load_checkpoint

Collected = Callable[..., dict[Any, Trace]]

SENTENCE = "the cat sat on a mat and read of maps while rain fell over hills far away so nobody came"
WORDS = SENTENCE.split()
PROSE = " ".join(WORDS * 30)
CODE = " ".join(WORDS[::-1] * 30)

_SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2}
_SMALL |= {"vocab_size": 64, "intermediate_size": 24, "initializer_range": 0.5, "eos_token_id": 1, "bos_token_id": 2}
_MLA = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
_DEEPSEEK = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "first_k_dense_replace": 1}
_DEEPSEEK |= {"n_group": 4, "topk_group": 2}

CONFIGS: dict[str, dict[str, Any]] = {
    "switch_transformers": {
        "vocab_size": 64,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 24,
        "num_heads": 2,
        "num_layers": 4,
        "num_sparse_encoder_layers": 2,
        "num_decoder_layers": 4,
        "num_sparse_decoder_layers": 2,
        "num_experts": 8,
        "decoder_start_token_id": 0,
    },
    "mixtral": {**_SMALL, "num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen2_moe": {
        **_SMALL,
        "num_experts": 8,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8,
    },
    "qwen3_moe": {
        **_SMALL,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
        "head_dim": 8,
        "mlp_only_layers": [1],
    },
    "olmoe": {**_SMALL, "num_experts": 8, "num_experts_per_tok": 2},
    "deepseek_v2": {**_SMALL, **_MLA, **_DEEPSEEK, "topk_method": "group_limited_greedy"},
    "deepseek_v3": {**_SMALL, **_MLA, **_DEEPSEEK},
    "gpt_oss": {**_SMALL, "num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 8},
}
DECODER_ONLY = [name for name in CONFIGS if name != "switch_transformers"]
MOE_LAYERS = dict.fromkeys(DECODER_ONLY, 3) | {"deepseek_v2": 2, "deepseek_v3": 2, "qwen3_moe": 2}
MOE_LAYERS |= {"switch_transformers": 2}
# Changes to a configuration that give four MoE layers in each phase, wherever its dense layers are.
FOUR_MOE_LAYERS = {name: {"num_hidden_layers": 4 if MOE_LAYERS[name] == 3 else 5} for name in DECODER_ONLY}
FOUR_MOE_LAYERS["switch_transformers"] = {"num_layers": 8, "num_sparse_encoder_layers": 4}
FOUR_MOE_LAYERS["switch_transformers"] |= {"num_decoder_layers": 8, "num_sparse_decoder_layers": 4}


def tiny_config(model_type: str, **changes: Any) -> Any:
    return AutoConfig.for_model(model_type, **CONFIGS[model_type] | changes)


def tiny_model(model_type: str, seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    config = tiny_config(model_type, **changes)
    model = (AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM).from_config(config).eval()
    for name, values in (*model.named_parameters(), *model.named_buffers()):
        if "e_score_correction_bias" in name:  # zero at initialisation, which would test nothing
            values.data.uniform_(0, 0.5)
    return model


def tiny_tokenizer(sentinels: int = 20, begin: bool = False) -> PreTrainedTokenizerFast:
    names = ["<pad>", "</s>", "<s>", "<unk>", *WORDS]
    names += [f"<extra_id_{i}>" for i in range(sentinels)]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )


def save_tiny(directory: Path, model_type: str, sentinels: int = 20, begin: bool = False, **changes: Any) -> Path:
    """A checkpoint directory that says its weights are random."""
    tiny_model(model_type, **changes).save_pretrained(directory)
    tiny_tokenizer(sentinels, begin).save_pretrained(directory)
    (directory / "specmoe.json").write_text(json.dumps({"kind": "random"}))
    return directory


def write_text(directory: Path) -> Path:
    """A directory of two text domains of four documents each."""
    directory.mkdir(exist_ok=True)
    for name, text in (("prose", PROSE), ("code", CODE)):
        (directory / f"{name}.txt").write_text("\n\f\n".join([text] * 4))
    return directory


def small_job(home: Path, out: Path, model: str = "switch_transformers", **changes: Any) -> CollectJob:
    defaults = {"text": (home / "text",), "phase": "both", "window": 32, "batch": 3, "sequences": 7, "part_rows": 96}
    return CollectJob(str(home / model), out, **defaults | changes)


def load(home: Path, model: str) -> Any:
    return load_checkpoint(str(home / model), device="cpu", dtype="float32", capacity=None, random_init=False, seed=0)


def rows_of(block: Block, sequence: int) -> Block:
    return Block(*(column[block.sequence == sequence] for column in block))


def same(one: Trace, other: Trace, columns: tuple[str, ...] = Block._fields) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)

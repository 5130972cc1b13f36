"""Model shapes out of `config.json` of Hugging Face models.

A class is one line in `CLASSES`. Fields that classes share are read where they are there; a missing one, or a value
that a shape cannot express, is named in one line. Source: transformers 5.23, `configuration_*.py`.
"""

from pathlib import Path
from typing import Any, NamedTuple

from specmoe.errors import InputError, Place, hint
from specmoe.files import read_json
from specmoe.hwprofiles.shape import Attention, Cache, Experts, Format, ModelShape, Stack

MOST, MOST_LAYERS = 10**9, 10**4


class Names(NamedTuple):
    """Fields of a class that hold the number of experts and the width of one; `biased`: experts have biases."""

    number: str = "num_experts"
    d_ff: str = "moe_intermediate_size"
    biased: bool = False


CLASSES: dict[str, Names] = {
    "switch_transformers": Names(d_ff="d_ff"),
    "mixtral": Names("num_local_experts", "intermediate_size"),
    "qwen2_moe": Names(),
    "qwen3_moe": Names(),
    "olmoe": Names(d_ff="intermediate_size"),
    "deepseek_v2": Names("n_routed_experts"),
    "deepseek_v3": Names("n_routed_experts"),
    "gpt_oss": Names("num_local_experts", "intermediate_size", biased=True),
    "glm4_moe": Names("n_routed_experts"),
    "qwen3_next": Names(),
}
DTYPES: dict[str, Format] = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
QUANTS: dict[str, tuple[Format, str]] = {
    "mxfp4": ("mxfp4", ""),
    "fp8": ("int8", "; fp8 counted as int8"),
    "gptq": ("int4", "; 4 bits of gptq counted as int4"),
    "awq": ("int4", "; 4 bits of awq counted as int4"),
}


class Config(NamedTuple):
    """Fields of a `config.json`; a field that is null counts as missing."""

    place: Place
    table: dict[str, Any]

    def get(self, name: str, kind: type, default: Any) -> Any:
        """A field of a type, or the default if it is missing."""
        value = self.table.get(name)
        if value is None:
            return default
        if type(value) is not kind:
            raise (self.place / name).wrong(f"{kind.__name__} expected, not {type(value).__name__}")
        return value

    def whole(self, name: str, default: int | None = None, least: int = 1, most: int = MOST) -> int:
        """A whole number from `least` to `most`; a field without a default must be there."""
        value: int | None = self.get(name, int, default)
        if value is None:
            raise (self.place / name).wrong("missing: a whole number expected")
        if not least <= value <= most:
            raise (self.place / name).wrong(f"{value}: a whole number from {least:,} to {most:,} expected")
        return value


def of_config(path: Path) -> ModelShape:
    """Shape of a Hugging Face `config.json`, without a name of its own."""
    return of_fields(read_json(path, "a Hugging Face config.json"), str(path))


def of_fields(table: Any, place: str) -> ModelShape:
    """Shape of the fields of a `config.json`, whose errors begin with its place."""
    if not isinstance(table, dict) or not isinstance(table.get("model_type"), str):
        raise InputError(f"{place}: model_type: a Hugging Face config.json with the class of a model expected")
    config = Config(Place(place), table)
    kind = table["model_type"]
    if kind not in CLASSES:
        raise (config.place / "model_type").wrong(f"{kind!r}, no class that is known here: {hint(kind, CLASSES)}")
    held, note = _format(config)
    source = f"Hugging Face config.json of {kind}{note}"
    return (_switch if kind == "switch_transformers" else _decoder_only)(config, CLASSES[kind], source, held)


def _format(config: Config) -> tuple[Format, str]:
    quantised = config.get("quantization_config", dict, None)
    if quantised is not None:
        method = quantised.get("quant_method")
        if method not in QUANTS or quantised.get("bits", 4) != 4:
            place = config.place / "quantization_config.quant_method"
            raise place.wrong(f"{method!r} of {quantised.get('bits', '?')} bits: {hint(method, QUANTS)}")
        return QUANTS[method]
    dtype = config.get("dtype", str, config.get("torch_dtype", str, "float32"))
    if dtype not in DTYPES:
        raise (config.place / "torch_dtype").wrong(f"{dtype!r}: {hint(dtype, DTYPES)}")
    return DTYPES[dtype], ""


def _decoder_only(config: Config, names: Names, source: str, held: Format) -> ModelShape:
    d_model, layers = config.whole("hidden_size"), config.whole("num_hidden_layers", most=MOST_LAYERS)
    d_ff = config.whole(names.d_ff)
    shared = config.whole("n_shared_experts", 0, least=0) * d_ff
    experts = Experts(
        number=config.whole(names.number),
        top_k=config.whole("num_experts_per_tok"),
        d_ff=d_ff,
        gated=True,
        biased=names.biased,
        shared_d_ff=config.whole("shared_expert_intermediate_size", shared, least=0),
    )
    attention, cache = _attention(config, d_model, layers)
    return ModelShape(
        name="",
        source=source,
        format=held,
        d_model=d_model,
        vocab=config.whole("vocab_size"),
        tied=config.get("tie_word_embeddings", bool, False),
        attention=attention,
        experts=experts,
        decoder=_stack(config, layers),
        cache=cache,
    )


def _stack(config: Config, layers: int) -> Stack:
    """Dense and sparse layers by whichever of the four fields that decide this are there."""
    every, step = config.whole("moe_layer_freq", 1), config.whole("decoder_sparse_step", 1)
    first, never = config.whole("first_k_dense_replace", 0, least=0), config.get("mlp_only_layers", list, [])
    sparse = [
        layer for layer in range(first, layers) if not layer % every and not (layer + 1) % step and layer not in never
    ]
    names = "first_k_dense_replace, moe_layer_freq, decoder_sparse_step, mlp_only_layers"
    return spaced(config.place / names, sparse, layers, config.whole("intermediate_size"))


def spaced(place: Place, sparse: list[int], layers: int, dense_d_ff: int) -> Stack:
    """A stack whose sparse layers are given; raises InputError if they are not evenly spaced up to the last layer."""
    every = sparse[1] - sparse[0] if len(sparse) > 1 else 1
    if not sparse or sparse != list(range(sparse[0], layers, every)) or sparse[-1] != layers - 1:
        some = " ".join(map(str, sparse[:8])) or "none"
        raise place.wrong(f"{some} ... of {layers} layers have experts: evenly spaced ones up to the last expected")
    return Stack(layers, sparse[0], every, dense_d_ff if sparse[0] or every > 1 else 0)


def _attention(config: Config, d_model: int, layers: int) -> tuple[Attention, Cache | None]:
    heads = config.whole("num_attention_heads")
    if config.table.get("kv_lora_rank") is not None:
        head_dim = config.whole("qk_nope_head_dim")
        if config.whole("v_head_dim", head_dim) != head_dim:
            raise (config.place / "v_head_dim").wrong(f"{head_dim} expected, as qk_nope_head_dim")
        latent, rope = config.whole("kv_lora_rank"), config.whole("qk_rope_head_dim")
        return Attention(heads, heads, head_dim, latent, rope, config.whole("q_lora_rank", 0, least=0)), None
    default = d_model // heads if config.table["model_type"] != "qwen3_next" else 256
    attention = Attention(heads, config.whole("num_key_value_heads", heads), config.whole("head_dim", default))
    kinds = config.get("layer_types", list, None)
    if config.table["model_type"] == "qwen3_next":
        every = config.whole("full_attention_interval", 4) if kinds is None else _full_every(config, kinds, layers)
        key, value = (config.whole(f"linear_{part}_head_dim") for part in ("key", "value"))
        number = {part: config.whole(f"linear_num_{part}_heads") for part in ("key", "value")}
        linear = Linear(number["key"] * key, number["value"], value, key, config.whole("linear_conv_kernel_dim"))
        return mixed_attention(d_model, attention, linear, every, "config.json: linear attention")
    window = config.whole("sliding_window", 0, least=0) if config.get("use_sliding_window", bool, True) else 0
    if kinds is None and window:
        raise (config.place / "sliding_window").wrong(f"{window} in every layer: null, or layer_types, expected")
    if not window or kinds is None or "sliding_attention" not in kinds:
        return attention, None
    said = f"config.json: layer_types, sliding_window {window}"
    return attention, Cache(said, _full_every(config, kinds, layers), window=window)


def _full_every(config: Config, kinds: list[Any], layers: int) -> int:
    """Spacing of the layers whose attention is full."""
    full = kinds.count("full_attention")
    if len(kinds) != layers or not full or layers % full:
        raise (config.place / "layer_types").wrong(
            f"{full} of {len(kinds)} layers have full_attention: {layers} layers, of which every n-th, expected"
        )
    return layers // full


class Linear(NamedTuple):
    """Sizes of linear attention with a state (gated delta net): width of all keys, heads and dimension of values."""

    keys: int
    heads: int
    value_dim: int
    key_dim: int
    kernel: int

    def parameters(self, d_model: int) -> int:
        """Weights of all projections and of the convolution."""
        values = self.heads * self.value_dim
        projected = 2 * self.keys + 2 * values + 2 * self.heads + values
        return d_model * projected + self.kernel * (2 * self.keys + values)


def mixed_attention(d_model: int, full: Attention, linear: Linear, every: int, said: str) -> tuple[Attention, Cache]:
    """Attention with the mean weights and cache of linear layers and of every `every`-th one, whose queries have gates.

    The state of linear attention counts in VRAM.
    """
    gated = full.parameters(d_model) + d_model * full.heads * full.head_dim
    mean = ((every - 1) * linear.parameters(d_model) + gated) / every
    head_dim = max(1, full.kv_heads * full.head_dim // every)
    heads = max(1, round(mean / (2 * d_model * head_dim) - 1))
    state = linear.heads * linear.key_dim * linear.value_dim * 4
    cache = Cache(said, every, numbers=2 * full.kv_heads * full.head_dim, state_bytes=state)
    return Attention(heads, 1, head_dim), cache


def _switch(config: Config, names: Names, source: str, held: Format) -> ModelShape:
    d_ff, d_model = config.whole(names.d_ff), config.whole("d_model")
    gated = "gated" in config.get("feed_forward_proj", str, "relu")
    heads, layers = config.whole("num_heads"), config.whole("num_layers", most=MOST_LAYERS)
    lengths = {"encoder": layers, "decoder": config.whole("num_decoder_layers", layers, most=MOST_LAYERS)}

    def stack(part: str) -> Stack:
        length, field = lengths[part], f"num_sparse_{part}_layers"
        step = length // config.whole(field, most=length)
        sparse = [layer for layer in range(length) if step == 1 or layer % step == 1]
        return spaced(config.place / field, sparse, length, d_ff)

    return ModelShape(
        name="",
        source=source,
        format=held,
        d_model=d_model,
        vocab=config.whole("vocab_size"),
        tied=config.get("tie_word_embeddings", bool, True),
        attention=Attention(heads, heads, config.whole("d_kv")),
        experts=Experts(config.whole(names.number), 1, d_ff, gated),
        decoder=stack("decoder"),
        encoder=stack("encoder"),
    )

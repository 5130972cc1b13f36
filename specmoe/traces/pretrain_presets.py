"""Presets of `specmoe pretrain`: Switch Transformers with the topology of published ones, and decoders, both narrow."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """Shape and recipe of one Switch Transformer.

    Every other layer is sparse, from the second on, as in google/switch-base-*. `learning_rate` is relative: each step
    changes a tensor by about this share of its initial root mean square (the scaling of Adafactor and nanoT5, without
    which T5's unequal initial scales make AdamW either diverge in `q` or never move the embeddings). `weight_decay` is
    relative too: each step shrinks a tensor by this share of the rate.
    """

    experts: int
    d_model: int
    d_ff: int
    d_kv: int
    heads: int
    layers: int
    steps: int
    batch: int = 96
    encoder_length: int = 256
    learning_rate: float = 0.02
    weight_decay: float = 0.0
    warmup: int = 300
    dropout: float = 0.1
    expert_dropout: float = 0.2
    jitter: float = 0.01
    balance: float = 0.01
    router_z: float = 0.001
    router_init: float = 0.06
    capacity_factor: float = 2.0
    vocabulary: int = 8192


@dataclass(frozen=True)
class DecoderPreset:
    """Shape and recipe of one decoder of the class Qwen3-MoE, all of whose layers are sparse.

    `length` is the number of tokens of a window. `learning_rate` and `weight_decay` are relative, as in `Preset`.
    """

    experts: int
    top_k: int
    d_model: int
    d_ff: int
    head_dim: int
    heads: int
    layers: int
    steps: int
    batch: int = 64
    length: int = 512
    learning_rate: float = 0.03
    weight_decay: float = 0.007
    warmup: int = 300
    dropout: float = 0.1
    balance: float = 0.01
    router_z: float = 0.001
    router_init: float = 0.02
    vocabulary: int = 8192


AnyPreset = Preset | DecoderPreset

# One expert makes a dense layer, because its share of the router's probability is 1. Same active sizes.
PRESETS: dict[str, AnyPreset] = {
    "switch-mini-128": Preset(experts=128, d_model=256, d_ff=512, d_kv=64, heads=4, layers=12, steps=6000),
    "dense-mini": Preset(experts=1, d_model=256, d_ff=512, d_kv=64, heads=4, layers=12, steps=6000),
    "switch-mini-16": Preset(experts=16, d_model=96, d_ff=128, d_kv=24, heads=4, layers=4, steps=6000),
    "decoder-mini-64": DecoderPreset(
        experts=64, top_k=8, d_model=256, d_ff=128, head_dim=64, heads=4, layers=12, steps=8000
    ),
    "decoder-mini-dense": DecoderPreset(
        experts=1, top_k=1, d_model=256, d_ff=1024, head_dim=64, heads=4, layers=12, steps=8000
    ),
}

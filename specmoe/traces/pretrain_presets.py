"""Presets of `specmoe pretrain`: Switch Transformers with the topology of published ones at reduced width."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """Shape and recipe of one model.

    Every other layer is sparse, from the second on, as in google/switch-base-*. `learning_rate` is relative: each step
    changes a tensor by about this share of its initial root mean square (the scaling of Adafactor and nanoT5, without
    which T5's unequal initial scales make AdamW either diverge in `q` or never move the embeddings).
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
    warmup: int = 300
    dropout: float = 0.1
    expert_dropout: float = 0.2
    jitter: float = 0.01
    balance: float = 0.01
    router_z: float = 0.001
    router_init: float = 0.06
    capacity_factor: float = 2.0
    vocabulary: int = 8192


PRESETS = {
    "switch-mini-128": Preset(experts=128, d_model=256, d_ff=512, d_kv=64, heads=4, layers=12, steps=6000),
    # One expert makes a dense layer, because the router's only probability is 1. Same active size as switch-mini-128.
    "dense-mini": Preset(experts=1, d_model=256, d_ff=512, d_kv=64, heads=4, layers=12, steps=6000),
    "switch-mini-16": Preset(experts=16, d_model=96, d_ff=128, d_kv=24, heads=4, layers=4, steps=6000),
}

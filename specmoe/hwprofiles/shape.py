"""Formats of weights and of key-value caches, and the shape of a model: layers, experts, sizes, and their bytes.

Shapes are TOML files (hwprofiles/shapes), which `shape_file` reads and writes.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from specmoe.errors import InputError

KvFormat = Literal["f16", "q8_0", "q4_0"]
KV_FORMATS: tuple[KvFormat, ...] = get_args(KvFormat)
CacheFormat = KvFormat | Literal["bf16", "f32"]  # those of live models, too
# of a byte per number, scales included
KV_SIXTEENTHS: dict[CacheFormat, int] = {"f16": 32, "q8_0": 17, "q4_0": 9, "bf16": 32, "f32": 64}


def bytes_of_numbers(numbers: int, held: CacheFormat) -> int:
    """Bytes of `numbers` cached numbers, rounded up."""
    return -(-numbers * KV_SIXTEENTHS[held] // 16)


@dataclass(frozen=True)
class Cache:
    """What layers keep where not all keep every position: every `full_every`-th layer keeps the whole context.

    Each other layer keeps the last `window` positions and `state_bytes` of constant state per sequence. `numbers` is
    what a layer keeps of a position; 0: the numbers of the shape's attention.
    """

    source: str
    full_every: int
    numbers: int = 0
    window: int = 0
    state_bytes: int = 0


ComputeFormat = Literal["fp32", "fp16", "bf16"]
KernelFormat = Literal["fp32", "fp16", "bf16", "int8", "int4"]
Format = Literal[
    "fp32",
    "fp16",
    "bf16",
    "int8",
    "int4",
    "q8_0",
    "q6_k",
    "q5_k",
    "q4_k",
    "q4_0",
    "mxfp4",
    "iq4_xs",
    "iq3_xxs",
]

FORMATS: tuple[Format, ...] = get_args(Format)
KERNEL_FORMATS: tuple[KernelFormat, ...] = get_args(KernelFormat)  # of which kernels here can be measured and replayed
PACKED: Format = "q4_0"  # what torch's own int4 product reads: 4 bits, and a scale and a zero for 64 weights
BITS: dict[Format, float] = {
    "fp32": 32,
    "fp16": 16,
    "bf16": 16,
    "int8": 8,
    "int4": 4,
    "q8_0": 8.5,
    "q6_k": 6.5625,
    "q5_k": 5.5,
    "q4_k": 4.5,
    "q4_0": 4.5,
    "mxfp4": 4.25,
    "iq4_xs": 4.25,
    "iq3_xxs": 3.0625,
}  # per weight; scales included except those of int8 and int4
GROUP = 64  # weights of int8 and int4 that share a scale
SCALE_BYTES = 2
ENDLESS = 1 << 62  # positions, more than any window has


def compute_format(held: Format) -> ComputeFormat:
    """Format in which kernels compute: the format itself, or fp16 if the weights are compressed."""
    return held if held in get_args(ComputeFormat) else "fp16"  # type: ignore[return-value]  # narrowed by the test


def is_compressed(held: Format) -> bool:
    """Whether the weights are not numbers that kernels compute with: they are unpacked as they are read, or before."""
    return compute_format(held) != held


def is_expandable(held: Format) -> bool:
    """Whether the weights are compressed and kernels here can write them out in 16 bits."""
    return is_compressed(held) and held in KERNEL_FORMATS


def require_kernels(held: Format, what: str) -> None:
    """Raise InputError if no kernel here reads format `held`; `what` says for what one is needed."""
    if held not in KERNEL_FORMATS:
        raise InputError(f"no kernel here for {held}, which cannot be {what}: {', '.join(KERNEL_FORMATS)} expected")


def can_fill(home: Format, held: Format) -> bool:
    """Whether experts in format `home` can fill slots in format `held`, either unchanged or expanded on arrival."""
    return home == held or (is_expandable(home) and compute_format(home) == held)


def require_can_fill(home: Format | None, held: Format) -> None:
    """Raise InputError if experts in format `home` (None: that of the slots) cannot fill slots in format `held`."""
    if home is not None and not can_fill(home, held):
        if home not in KERNEL_FORMATS:
            raise InputError(
                f"{home} at home is not expanded, as no kernel does so: --format {home} expected, not {held}"
            )
        expanded = compute_format(home)
        what = f"expanded to {expanded}" if is_compressed(home) else "copied as it is"
        raise InputError(f"{home} at home is {what}: --format {expanded} expected, not {held}")


def bytes_of(parameters: int, held: Format) -> int:
    """Bytes of `parameters` weights, scales included."""
    weights = math.ceil(parameters * BITS[held] / 8)
    return weights + (SCALE_BYTES * -(-parameters // GROUP) if is_expandable(held) else 0)


Phase = Literal["encode", "decode"]


@dataclass(frozen=True)
class Attention:
    """Sizes of one attention.

    `latent` > 0 is the rank of multi-head latent attention (DeepSeek-V2); queries then have `rope` more dimensions.
    `query_latent` > 0 is the rank through which queries are projected (DeepSeek-V3).
    """

    heads: int
    kv_heads: int
    head_dim: int
    latent: int = 0
    rope: int = 0
    query_latent: int = 0

    def parameters(self, d_model: int) -> int:
        """Weights of the query, key, value and output projections."""
        inner = self.heads * self.head_dim
        if not self.latent:
            return 2 * d_model * (inner + self.kv_heads * self.head_dim)
        queries, rank = self.heads * (self.head_dim + self.rope), self.query_latent
        query = rank * (d_model + queries) if rank else d_model * queries
        return query + d_model * (self.latent + self.rope) + 2 * self.latent * inner + inner * d_model

    @property
    def cached(self) -> int:
        """Numbers in the key-value cache per position."""
        return self.latent + self.rope if self.latent else 2 * self.kv_heads * self.head_dim

    @property
    def flops_per_position(self) -> int:
        """Operations of one token per position it attends to: scores and weighted sum."""
        return 2 * self.heads * (2 * self.head_dim + self.rope)


@dataclass(frozen=True)
class Experts:
    """Routed experts of one MoE layer, and the total width of its shared experts (0: none)."""

    number: int
    top_k: int
    d_ff: int
    gated: bool
    biased: bool = False
    shared_d_ff: int = 0


@dataclass(frozen=True)
class Stack:
    """Stack of `layers` layers: `first_moe`, `first_moe + moe_every`, ... are sparse, others `dense_d_ff` wide."""

    layers: int
    first_moe: int
    moe_every: int
    dense_d_ff: int = 0

    @property
    def moe_layers(self) -> int:
        """Number of sparse layers."""
        return len(range(self.first_moe, self.layers, self.moe_every))

    def dense_before(self, layer: int) -> int:
        """Number of dense layers between the previous MoE layer and MoE layer `layer`; -1 is the last one."""
        return self.first_moe if range(self.moe_layers)[layer] == 0 else self.moe_every - 1


@dataclass(frozen=True)
class InFile:
    """Bytes of one routed expert of each MoE layer in a file whose layers are quantised differently.

    `dense_format` is the format of most bytes of the other weights, for `--dense-format`.
    """

    source: str
    expert_bytes: tuple[int, ...]
    dense_format: str = ""

    @property
    def mean_bytes(self) -> int:
        """Bytes of one routed expert, the mean of all layers, rounded up."""
        return -(-sum(self.expert_bytes) // len(self.expert_bytes))


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model; `format` is the default format of its experts.

    With `in_file`, an expert in that format has the file's bytes: those of its layer.
    """

    name: str
    source: str
    format: Format
    d_model: int
    vocab: int
    tied: bool  # input and output embeddings are one matrix
    attention: Attention
    experts: Experts
    decoder: Stack
    encoder: Stack | None = None
    cache: Cache | None = None  # where not every layer keeps every position
    in_file: InFile | None = None

    def stack(self, phase: Phase) -> Stack:
        """Stack that a phase runs through."""
        return self.encoder if self.encoder and phase == "encode" else self.decoder

    def attentions(self, phase: Phase) -> int:
        """Attentions per layer: 2 with cross-attention, else 1."""
        return 2 if self.encoder and phase == "decode" else 1

    def feed_forward_parameters(self, d_ff: int) -> int:
        """Weights of a feed-forward part of width `d_ff`."""
        return self.d_model * d_ff * (3 if self.experts.gated else 2)

    @property
    def expert_parameters(self) -> int:
        """Weights and biases of one routed expert."""
        biases = self.experts.d_ff * (2 if self.experts.gated else 1) + self.d_model
        return self.feed_forward_parameters(self.experts.d_ff) + (biases if self.experts.biased else 0)

    @property
    def router_parameters(self) -> int:
        """Weights of the router of one MoE layer."""
        return self.d_model * self.experts.number

    @property
    def shared_parameters(self) -> int:
        """Weights of the shared experts of one MoE layer."""
        return self.feed_forward_parameters(self.experts.shared_d_ff)

    @property
    def head_parameters(self) -> int:
        """Weights of the output embedding."""
        return self.vocab * self.d_model

    def attention_parameters(self, phase: Phase) -> int:
        """Weights of a layer's attentions; keys and values of cross-attention count, though they run once per text."""
        return self.attentions(phase) * self.attention.parameters(self.d_model)

    def dense_layer_parameters(self, phase: Phase) -> int:
        """Weights of one dense layer."""
        return self.attention_parameters(phase) + self.feed_forward_parameters(self.stack(phase).dense_d_ff)

    def dense_parameters(self, phase: Phase, layer: int = -1) -> int:
        """Weights that every token uses between the routed experts of the previous MoE layer and those of `layer`.

        They are those of dense layers and of the MoE layer's attention and shared experts, without the router.
        """
        between = self.stack(phase).dense_before(layer) * self.dense_layer_parameters(phase)
        return between + self.attention_parameters(phase) + self.shared_parameters

    @property
    def resident_parameters(self) -> int:
        """Weights that stay in VRAM under every policy: all but the routed experts."""
        phases: tuple[Phase, ...] = ("encode", "decode") if self.encoder else ("decode",)
        layers = sum(
            self.dense_parameters(phase, layer) + self.router_parameters
            for phase in phases
            for layer in range(self.stack(phase).moe_layers)
        )
        return layers + self.head_parameters * (1 if self.tied else 2)

    @property
    def moe_layers(self) -> int:
        """Number of MoE layers of all stacks."""
        return self.decoder.moe_layers + (self.encoder.moe_layers if self.encoder else 0)

    @property
    def routed_experts(self) -> int:
        """Number of routed experts in all MoE layers."""
        return self.experts.number * self.moe_layers

    @property
    def total_parameters(self) -> int:
        """Weights of the whole model."""
        return self.resident_parameters + self.routed_experts * self.expert_parameters

    def kv_bytes(self, context: int, held: CacheFormat = "f16") -> int:
        """Bytes of the key-value cache of one sequence of `context` tokens.

        With cross-attention, the cache of a text of as many tokens counts, too.
        """
        cache = self.cache or Cache("", full_every=1)
        full = self.decoder.layers // cache.full_every
        others = self.decoder.layers - full
        positions = full * context + others * min(context, cache.window)
        numbers = positions * (cache.numbers or self.attention.cached) * self.attentions("decode")
        return bytes_of_numbers(numbers, held) + others * cache.state_bytes

    def attended(self, phase: Phase, context: int, layer: int = -1) -> int:
        """Positions that a token of MoE layer `layer` attends to: the context, or the layer's window of it."""
        stack, cache = self.stack(phase), self.cache
        if cache is None or not cache.window or stack is not self.decoder:
            return context
        at = stack.first_moe + range(stack.moe_layers)[layer] * stack.moe_every
        return min(context, cache.window) if (at + 1) % cache.full_every else context

    def layers_alike(self, phase: Phase, layers: int) -> list[int]:
        """For each of the first `layers` MoE layers, the first one before which the same is computed.

        Layers beyond the model's are as its last one.
        """
        last = self.stack(phase).moe_layers - 1
        own = [min(layer, last) for layer in range(layers)]
        kinds = [(min(layer, 1), self.attended(phase, ENDLESS, layer)) for layer in own]
        return [own[kinds.index(kind)] for kind in kinds]

    def expert_bytes(self, held: Format | None = None, layer: int | None = None) -> int:
        """Bytes of one routed expert in format `held` (default: the model's own), of a MoE layer or the mean of all.

        Layers beyond the model's are as its last one.
        """
        if self.in_file and held in (None, self.format):
            sizes = self.in_file.expert_bytes
            return self.in_file.mean_bytes if layer is None else sizes[min(layer, len(sizes) - 1)]
        return bytes_of(self.expert_parameters, held or self.format)

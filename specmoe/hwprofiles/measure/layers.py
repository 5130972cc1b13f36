"""A model's parts as kernels on a device: real sizes, made-up weights. What is measured here is what is replayed.

Every part is bound to its inputs once and is then a function of no arguments that allocates nothing which outlives it,
so that it can be timed, run eagerly or captured in a CUDA graph. All buffers are the part's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from specmoe.errors import InputError
from specmoe.hwprofiles.formats import GROUP, ComputeFormat, Format, compute_format, is_compressed
from specmoe.hwprofiles.shape import ModelShape, Phase

Run = Callable[[], Any]

DTYPES: dict[ComputeFormat, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WIDTH: dict[ComputeFormat, int] = {"fp32": 4, "fp16": 2, "bf16": 2}
SCALE = 0.02  # of made-up weights: what initialisers use


class Attention:
    """One attention of a layer: norm, projections, softmax over `context` cached positions, projection, residual."""

    def __init__(self, model: Stand, context: int) -> None:
        sizes, d_model = model.shape.attention, model.shape.d_model
        self.heads, self.kv_heads, self.head_dim = sizes.heads, sizes.kv_heads, sizes.head_dim
        self.query = model.weight(d_model, self.heads * self.head_dim)
        self.key_value = model.weight(d_model, 2 * self.kv_heads * self.head_dim)
        self.output = model.weight(self.heads * self.head_dim, d_model)
        self.norm = model.weight(d_model)
        self.decoding = model.phase == "decode"
        self.context = context

    def cache(self, tokens: int) -> Tensor:
        """Keys and values: of each token's own sequence when decoding, else of the one they share."""
        rows = tokens if self.decoding else 1
        size = (2, rows, self.kv_heads, self.context, self.head_dim)
        return torch.randn(size, dtype=self.query.dtype, device=self.query.device)

    def __call__(self, x: Tensor, cache: Tensor) -> Tensor:
        """[tokens, d_model] to the same; `cache` is one of `cache(tokens)`, whose first position is overwritten."""
        normed = functional.rms_norm(x, self.norm.shape, self.norm)
        rows = cache.shape[1]
        query = (normed @ self.query).view(rows, -1, self.heads, self.head_dim).transpose(1, 2)
        fresh = (normed @ self.key_value).view(len(x), 2, self.kv_heads, self.head_dim)
        cache[:, :, :, 0] = fresh[:rows].transpose(0, 1)
        mixed = functional.scaled_dot_product_attention(
            query, cache[0], cache[1], enable_gqa=self.heads != self.kv_heads
        )
        return x + mixed.transpose(1, 2).reshape(len(x), -1) @ self.output


class FeedForward:
    """A dense feed-forward part of a width: norm, products, residual."""

    def __init__(self, model: Stand, d_ff: int) -> None:
        d_model = model.shape.d_model
        self.gated = model.shape.experts.gated
        self.up = model.weight(d_model, d_ff * (2 if self.gated else 1))
        self.down = model.weight(d_ff, d_model)
        self.norm = model.weight(d_model)

    def __call__(self, x: Tensor) -> Tensor:
        """[tokens, d_model] to the same."""
        inner = activated(functional.rms_norm(x, self.norm.shape, self.norm) @ self.up, self.gated)
        return x + inner @ self.down


class Stand:
    """A stand-in for the dense weights of one phase: one set for each kind of layer, shared by all layers of it."""

    def __init__(self, shape: ModelShape, phase: Phase, computed: ComputeFormat, device: torch.device) -> None:
        if shape.attention.latent:
            raise InputError(f"{shape.name}: latent attention is not measured or replayed: another shape expected")
        self.shape, self.phase, self.computed, self.device = shape, phase, computed, device
        self.router = self.weight(shape.d_model, shape.experts.number)
        self.vocabulary = self.weight(shape.d_model, shape.vocab)

    def weight(self, *size: int) -> Tensor:
        """Made-up weights in the compute format."""
        return torch.randn(size, dtype=DTYPES[self.computed], device=self.device) * SCALE

    def before(self, layer: int, tokens: int, context: int, routers: int = 1) -> tuple[Run, Tensor]:
        """Everything from the experts before a MoE layer up to its router's result in host memory, [tokens, top_k].

        `routers` above 1 adds those of look-ahead.
        """
        shape = self.shape
        attentions = shape.attentions(self.phase)
        dense = [
            (self._attentions(attentions, context), FeedForward(self, shape.stack(self.phase).dense_d_ff))
            for _ in range(shape.stack(self.phase).dense_before(layer))
        ]
        own = self._attentions(attentions, context)
        shared = FeedForward(self, shape.experts.shared_d_ff) if shape.experts.shared_d_ff else None
        caches = [attention.cache(tokens) for attention in [a for part, _ in dense for a in part] + own]
        x = self._input(tokens)
        chosen = torch.zeros((tokens, shape.experts.top_k), dtype=torch.int64, pin_memory=self.device.type == "cuda")

        def run() -> None:
            state, at = x, iter(caches)
            for part, feed_forward in dense:
                for attention in part:
                    state = attention(state, next(at))
                state = feed_forward(state)
            for attention in own:
                state = attention(state, next(at))
            if shared is not None:
                state = shared(state)
            for _ in range(routers):
                found = self._route(state)
            chosen.copy_(found, non_blocking=True)

        return run, chosen

    def routing(self, tokens: int) -> Run:
        """A router alone: product, softmax, the best."""
        x = self._input(tokens)
        return lambda: self._route(x)

    def dense_layer(self, tokens: int, context: int) -> Run:
        """The attentions of one layer and its dense feed-forward part."""
        width = self.shape.stack(self.phase).dense_d_ff or self.shape.d_model
        attentions = self._attentions(self.shape.attentions(self.phase), context)
        caches, feed_forward, x = [part.cache(tokens) for part in attentions], FeedForward(self, width), None
        x = self._input(tokens)

        def run() -> Tensor:
            state = x
            for attention, cache in zip(attentions, caches, strict=True):
                state = attention(state, cache)
            return feed_forward(state)

        return run

    def head(self, tokens: int) -> Run:
        """Everything behind the last MoE layer: the next tokens' ids. An encoder has none."""
        x = self._input(tokens)
        if self.shape.encoder and self.phase == "encode":
            return lambda: None
        return lambda: (x @ self.vocabulary).argmax(dim=1)

    def _attentions(self, number: int, context: int) -> list[Attention]:
        return [Attention(self, context) for _ in range(number)]

    def _input(self, tokens: int) -> Tensor:
        return torch.randn((tokens, self.shape.d_model), dtype=DTYPES[self.computed], device=self.device)

    def _route(self, x: Tensor) -> Tensor:
        return (x @ self.router).softmax(dim=1).topk(self.shape.experts.top_k, dim=1).indices


class ExpertKernel:
    """One routed expert out of a flat array of bytes, as it lies in a slot."""

    def __init__(self, shape: ModelShape, held: Format, device: torch.device) -> None:
        self.shape, self.held, self.device = shape, held, device
        self.computed = compute_format(held)
        self.expanded = self.buffer(shape.expert_bytes(self.computed)) if is_compressed(held) else None

    def buffer(self, size: int) -> Tensor:
        """Uninitialised bytes on the device."""
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def bind(self, weights: Tensor, tokens: int, seed: int = 0) -> tuple[Run, Tensor]:
        """The expert on so many tokens, and its output [tokens, d_model]; `weights` are read at every run."""
        generator = torch.Generator(self.device).manual_seed(seed)
        size, dtype = (tokens, self.shape.d_model), DTYPES[self.computed]
        x = torch.randn(size, dtype=dtype, device=self.device, generator=generator)
        d_ff, wide = self.shape.experts.d_ff, 2 if self.shape.experts.gated else 1
        inner, out = x.new_empty((tokens, d_ff * wide)), torch.empty_like(x)
        source = weights if self.expanded is None else self.expanded
        up, down = _matrices(source, self.shape.d_model, d_ff, wide, dtype)

        def run() -> None:
            if self.expanded is not None:
                expand(weights, self.held, self.shape.expert_parameters, self.expanded)
            torch.mm(x, up, out=inner)
            torch.mm(activated(inner, wide == 2), down, out=out)

        return run, out


def activated(inner: Tensor, gated: bool) -> Tensor:
    """ReLU, in place, or SiLU of the first half times the second."""
    if not gated:
        return inner.relu_()
    gate, up = inner.chunk(2, dim=1)
    return functional.silu(gate) * up


def expand(packed: Tensor, held: Format, parameters: int, out: Tensor) -> None:
    """Write fp16 weights of int8 or int4 ones; `packed` is bytes: the weights, then a 16-bit scale for each group.

    int4 holds weight i and weight i + parameters / 2 in one byte, low and high half, each as value + 8.
    """
    count = parameters // GROUP * GROUP
    data, scales = packed[: _data_bytes(parameters, held)], packed[_data_bytes(parameters, held) :]
    weights = out.view(torch.float16)[:count].view(-1, GROUP)
    factors = scales.view(torch.float16)[: len(weights), None]
    if held == "int8":
        torch.mul(data.view(torch.int8)[:count].view(-1, GROUP), factors, out=weights)
        return
    half = len(weights) // 2
    for part, nibble in ((slice(0, half), data & 15), (slice(half, 2 * half), data >> 4)):
        torch.mul(nibble.view(torch.int8).sub_(8)[: half * GROUP].view(-1, GROUP), factors[part], out=weights[part])


def _data_bytes(parameters: int, held: Format) -> int:
    return parameters if held == "int8" else -(-parameters // 2)


def _matrices(source: Tensor, d_model: int, d_ff: int, wide: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    flat = source[: source.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
    first = d_model * d_ff * wide
    return flat[:first].view(d_model, d_ff * wide), flat[first : first + d_ff * d_model].view(d_ff, d_model)

"""Parts of a model as kernels on a device, with real sizes and random weights; measurements and replays share them.

Every part is bound to its inputs once. It is then a function without arguments that allocates nothing that outlives it,
so it can be timed, run eagerly or captured in a CUDA graph. Each part owns its buffers.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from specmoe.errors import InputError
from specmoe.hwprofiles.shape import GROUP, ComputeFormat, Format, ModelShape, Phase, compute_format, is_compressed

Run = Callable[[], Any]

DTYPES: dict[ComputeFormat, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WIDTH: dict[ComputeFormat, int] = {"fp32": 4, "fp16": 2, "bf16": 2}
SCALE = 0.02  # standard deviation of random weights, as in initialisers


class Attention:
    """One attention of a layer: norm, projections, softmax over cached positions, projection, residual."""

    def __init__(self, model: "Stand") -> None:
        sizes, d_model = model.shape.attention, model.shape.d_model
        self.heads, self.kv_heads, self.head_dim = sizes.heads, sizes.kv_heads, sizes.head_dim
        self.query = model.weight(d_model, self.heads * self.head_dim)
        self.key_value = model.weight(d_model, 2 * self.kv_heads * self.head_dim)
        self.output = model.weight(self.heads * self.head_dim, d_model)
        self.norm = model.weight(d_model)
        self.decoding = model.phase == "decode"

    def cache(self, tokens: int, context: int) -> Tensor:
        """Random keys and values: one sequence per token when decoding, else one shared sequence."""
        rows = tokens if self.decoding else 1
        size = (2, rows, self.kv_heads, context, self.head_dim)
        return torch.randn(size, dtype=self.query.dtype, device=self.query.device)

    def __call__(self, x: Tensor, cache: Tensor) -> Tensor:
        """Output for `x`, both [tokens, d_model]; overwrites the first position of `cache`, made by `self.cache`."""
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
    """A dense feed-forward part of width `d_ff`: norm, products, residual."""

    def __init__(self, model: "Stand", d_ff: int) -> None:
        d_model = model.shape.d_model
        self.gated = model.shape.experts.gated
        self.up = model.weight(d_model, d_ff * (2 if self.gated else 1))
        self.down = model.weight(d_ff, d_model)
        self.norm = model.weight(d_model)

    def __call__(self, x: Tensor) -> Tensor:
        """Output for `x`, both [tokens, d_model]."""
        inner = activated(functional.rms_norm(x, self.norm.shape, self.norm) @ self.up, self.gated)
        return x + inner @ self.down


class DenseLayer:
    """Attentions of a layer, and its dense feed-forward part if it has one."""

    def __init__(self, model: "Stand", d_ff: int) -> None:
        self.attentions = [Attention(model) for _ in range(model.shape.attentions(model.phase))]
        self.feed_forward = FeedForward(model, d_ff) if d_ff else None

    def __call__(self, x: Tensor, caches: Sequence[Tensor]) -> Tensor:
        """Output for `x`, both [tokens, d_model], with one cache per attention."""
        for attention, cache in zip(self.attentions, caches, strict=True):
            x = attention(x, cache)
        return x if self.feed_forward is None else self.feed_forward(x)


class Layer:
    """Everything before one router: dense layers, then the MoE layer's own attentions and shared experts."""

    def __init__(self, model: "Stand", ordinal: int) -> None:
        shape, stack = model.shape, model.shape.stack(model.phase)
        dense = stack.dense_before(min(ordinal, stack.moe_layers - 1))
        widths = [stack.dense_d_ff] * dense + [shape.experts.shared_d_ff]
        self.parts = [DenseLayer(model, width) for width in widths]
        self.attentions = [attention for part in self.parts for attention in part.attentions]

    def __call__(self, x: Tensor, caches: Sequence[Tensor]) -> Tensor:
        """Output for `x`, both [tokens, d_model], with one cache for each of `attentions`."""
        rest = iter(caches)
        for part in self.parts:
            x = part(x, list(islice(rest, len(part.attentions))))
        return x


class Stand:
    """Dense weights of one phase, random and separate for each MoE layer, so that no cache holds them, as in a model.

    Layer numbers beyond the shape's last MoE layer are further layers of the same kind.
    """

    def __init__(self, shape: ModelShape, phase: Phase, computed: ComputeFormat, device: torch.device) -> None:
        if shape.attention.latent:
            raise InputError(f"{shape.name}: latent attention is not measured or replayed: another shape expected")
        self.shape, self.phase, self.computed, self.device = shape, phase, computed, device
        self.router = self.weight(shape.d_model, shape.experts.number)
        self.vocabulary = self.weight(shape.d_model, shape.vocab)
        self._layers: dict[int, Layer] = {}

    def weight(self, *size: int) -> Tensor:
        """Random weights in the compute format."""
        return torch.randn(size, dtype=DTYPES[self.computed], device=self.device) * SCALE

    def layer(self, ordinal: int) -> Layer:
        """Dense weights before the router of a MoE layer, made on first use."""
        if ordinal not in self._layers:
            self._layers[ordinal] = Layer(self, ordinal)
        return self._layers[ordinal]

    def before(self, layer: int, tokens: int, context: int, routers: int = 1) -> tuple[Run, Tensor]:
        """Run of everything from the previous experts up to a router's result, and that result in host memory.

        The result is [tokens, top_k]. `routers` above 1 adds the routers of look-ahead.
        """
        parts = self.layer(layer)
        caches = [attention.cache(tokens, context) for attention in parts.attentions]
        x = self._input(tokens)
        size = (tokens, self.shape.experts.top_k)
        chosen = torch.zeros(size, dtype=torch.int64, pin_memory=self.device.type == "cuda")

        def run() -> None:
            state = parts(x, caches)
            for _ in range(routers):
                best = self._route(state)
            chosen.copy_(best, non_blocking=True)

        return run, chosen

    def routing(self, tokens: int) -> Run:
        """Run of a router alone: product, softmax, top-k."""
        x = self._input(tokens)
        return lambda: self._route(x)

    def dense_layer(self, tokens: int, context: int) -> Run:
        """Run of the attentions of one layer and a dense feed-forward part."""
        width = self.shape.stack(self.phase).dense_d_ff or self.shape.d_model
        part = DenseLayer(self, width)
        caches = [attention.cache(tokens, context) for attention in part.attentions]
        x = self._input(tokens)
        return lambda: part(x, caches)

    def head(self, tokens: int) -> Run:
        """Run of everything after the last MoE layer: the next tokens' ids; almost nothing for an encoder."""
        x = self._input(tokens)
        if self.shape.encoder and self.phase == "encode":
            return lambda: x[0].abs()
        return lambda: (x @ self.vocabulary).argmax(dim=1)

    def _input(self, tokens: int) -> Tensor:
        return torch.randn((tokens, self.shape.d_model), dtype=DTYPES[self.computed], device=self.device)

    def _route(self, x: Tensor) -> Tensor:
        return (x @ self.router).softmax(dim=1).topk(self.shape.experts.top_k, dim=1).indices


class ExpertKernel:
    """One routed expert, computed from a flat array of bytes as in a slot."""

    def __init__(self, shape: ModelShape, held: Format, device: torch.device) -> None:
        self.shape, self.held, self.device = shape, held, device
        self.computed = compute_format(held)
        self.expanded = self.buffer(shape.expert_bytes(self.computed)) if is_compressed(held) else None
        self._made: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def buffer(self, size: int) -> Tensor:
        """Uninitialised bytes on the device."""
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def bind(self, weights: Tensor, tokens: int) -> tuple[Run, Tensor]:
        """Run of the expert on `tokens` tokens, and its output [tokens, d_model]; every run reads `weights`.

        Experts with the same number of tokens share input and output, so they must run one after the other.
        """
        (x, inner, out), gated = self._buffers(tokens), self.shape.experts.gated
        up, down = matrices(weights if self.expanded is None else self.expanded, self.shape, self.computed)

        def run() -> None:
            if self.expanded is not None:
                expand(weights, self.held, self.shape.expert_parameters, self.expanded)
            torch.mm(x, up, out=inner)
            torch.mm(activated(inner, gated), down, out=out)

        return run, out

    def input(self, tokens: int) -> Tensor:
        """Input buffer of experts on `tokens` tokens, [tokens, d_model]; fewer tokens are the first of more."""
        return self._buffers(tokens)[0]

    def output(self, tokens: int) -> Tensor:
        """Output buffer of experts on `tokens` tokens, [tokens, d_model]."""
        return self._buffers(tokens)[2]

    def _buffers(self, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        if tokens not in self._made:
            x = torch.stack([self._token(number) for number in range(tokens)])
            inner = x.new_empty((tokens, self.shape.experts.d_ff * (2 if self.shape.experts.gated else 1)))
            self._made[tokens] = x, inner, torch.empty_like(x)
        return self._made[tokens]

    def _token(self, number: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(number)
        return torch.randn(self.shape.d_model, dtype=DTYPES[self.computed], device=self.device, generator=generator)


class PackedKernel:
    """One routed expert in torch's int4 layout, multiplied by torch's int4 product, in bf16.

    A slot holds the words of both matrices, then for 64 weights of a row a bf16 scale and zero: 4.5 bits a weight.
    """

    def __init__(self, shape: ModelShape, device: torch.device) -> None:
        d_model, d_ff = shape.d_model, shape.experts.d_ff
        if d_model % GROUP or d_ff % GROUP:
            raise InputError(f"{shape.name}: torch's int4 needs multiples of {GROUP}, not {d_model} and {d_ff}")
        self.shape, self.device = shape, device
        self._made: dict[int, tuple[Tensor, Tensor]] = {}

    def bind(self, weights: Tensor, tokens: int) -> tuple[Run, Tensor]:
        """Run of the expert on `tokens` tokens, and its output [tokens, d_model]; every run reads `weights`."""
        gated, d_model, d_ff = self.shape.experts.gated, self.shape.d_model, self.shape.experts.d_ff
        inner = d_ff * (2 if gated else 1)
        x, out = self._buffers(tokens)
        at = -(-self.shape.expert_parameters // 2 // 4) * 4  # of the scales
        second = inner * d_model // 2
        up, down = self._words(weights, inner, d_model, 0), self._words(weights, d_model, d_ff, second)
        up_scales = self._scales(weights, inner, d_model, at)
        down_scales = self._scales(weights, d_model, d_ff, at + inner * d_model // GROUP * 4)
        product = torch.ops.aten._weight_int4pack_mm

        def run() -> None:
            middle = activated(product(x, up, GROUP, up_scales), gated)
            out.copy_(product(middle, down, GROUP, down_scales))

        return run, out

    def output(self, tokens: int) -> Tensor:
        """Output buffer of experts on `tokens` tokens, [tokens, d_model]."""
        return self._buffers(tokens)[1]

    def _words(self, weights: Tensor, rows: int, width: int, begin: int) -> Tensor:
        tiles = 8 if width % 128 == 0 else 4
        words = weights[begin : begin + rows * width // 2].view(torch.int32)
        return words.view(rows // 8, width // (tiles * 16), 32, tiles // 2)

    def _scales(self, weights: Tensor, rows: int, width: int, begin: int) -> Tensor:
        count = rows * width // GROUP * 4
        return weights[begin : begin + count].view(torch.bfloat16).view(width // GROUP, rows, 2)

    def _buffers(self, tokens: int) -> tuple[Tensor, Tensor]:
        if tokens not in self._made:
            generator = torch.Generator(self.device).manual_seed(tokens)
            size = tokens, self.shape.d_model
            x = torch.randn(size, dtype=torch.bfloat16, device=self.device, generator=generator)
            self._made[tokens] = x, torch.empty_like(x)
        return self._made[tokens]


def activated(inner: Tensor, gated: bool) -> Tensor:
    """Activation: ReLU, in place, or if gated SiLU of the first half times the second half."""
    if not gated:
        return inner.relu_()
    gate, up = inner.chunk(2, dim=1)
    return functional.silu(gate) * up


def expand(packed: Tensor, held: Format, parameters: int, out: Tensor) -> None:
    """Expand int8 or int4 weights to fp16 into `out`; `packed` holds the weights, then a 16-bit scale per group.

    In int4 one byte holds weight i in its low half and weight i + parameters / 2 in its high half, each as value + 8.
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


def compress(weights: Tensor, held: Format) -> Tensor:
    """Weights of an expert, [parameters], rounded to int8 or int4 as `expand` reads them, [expert_bytes].

    A scale is the largest weight of its group, divided by the largest integer. Raises InputError unless the groups are
    whole, and in int4 those of each half.
    """
    groups, most = GROUP * (1 if held == "int8" else 2), 127 if held == "int8" else 7
    if weights.numel() % groups:
        raise InputError(f"{held}: experts of {weights.numel()} weights: a multiple of {groups} expected")
    grouped = weights.float().view(-1, GROUP)
    scales = (grouped.abs().amax(1) / most).half()
    divisors = scales.float().clamp_min(torch.finfo(torch.float16).tiny)[:, None]
    whole = (grouped / divisors).round_().clamp_(-most, most).to(torch.int8).view(-1)
    data = whole.view(torch.uint8)
    if held == "int4":
        low, high = (whole + 8).view(torch.uint8).chunk(2)
        data = low | (high << 4)
    return torch.cat([data, scales.view(torch.uint8)])


def _data_bytes(parameters: int, held: Format) -> int:
    return parameters if held == "int8" else -(-parameters // 2)


def matrices(source: Tensor, shape: ModelShape, computed: ComputeFormat) -> tuple[Tensor, Tensor]:
    """Both matrices of an expert, [d_model, inner] and [d_ff, d_model], from the bytes of a slot."""
    dtype, d_model, d_ff = DTYPES[computed], shape.d_model, shape.experts.d_ff
    inner = d_ff * (2 if shape.experts.gated else 1)
    flat = source[: source.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
    first = d_model * inner
    return flat[:first].view(d_model, inner), flat[first : first + d_ff * d_model].view(d_ff, d_model)

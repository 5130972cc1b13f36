"""The fused expert kernel: one launch multiplies a group of experts, reading packed weights straight from their slots.

A launch is two kernels: the first product with its activation, then the second. What a launch serves stands in a row of
a table on the device, and the launch takes the row that is next, so one captured graph serves every group of its size.

It is the usual grouped expert kernel of few tokens: see `fused_moe` of vLLM, and for the packed weights the conversion
of FasterTransformer (a byte u in 0x64uu is the 16-bit float 1024 + u). Sizes of tiles were chosen on an H200; they are
no larger than the device's shared memory allows. Importing this module needs triton, which torch brings on Linux with
CUDA.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from specmoe.hwprofiles.measure.layers import DTYPES, Run
from specmoe.hwprofiles.measure.packing import KINDS, layout_of
from specmoe.hwprofiles.shape import Format, ModelShape, compute_format

MOST_TOKENS = 64  # of one entry; an expert with more takes several entries
FIELDS = 4  # of an entry: slot, first row of the output, tokens, first row of the input
KIB = 1024

_EIGHT_HALVES = tl.constexpr("""{
.reg .b32 a, b, eight, part, nine;
mov.b32 eight, 0x64086408;
mov.b32 part, 0x2c002c00;
mov.b32 nine, 0xd480d480;
prmt.b32 a, $4, 0, 0x4140;
prmt.b32 b, $4, 0, 0x4342;
lop3.b32 $0, a, 0x000f000f, 0x64006400, 0xea;
lop3.b32 $1, b, 0x000f000f, 0x64006400, 0xea;
lop3.b32 $2, a, 0x00f000f0, 0x64006400, 0xea;
lop3.b32 $3, b, 0x00f000f0, 0x64006400, 0xea;
sub.f16x2 $0, $0, eight;
sub.f16x2 $1, $1, eight;
fma.rn.f16x2 $2, $2, part, nine;
fma.rn.f16x2 $3, $3, part, nine;
}""")
_FOUR_HALVES = tl.constexpr("""{
.reg .b32 a, b, c;
mov.b32 b, 0x64646464;
mov.b32 c, 0x64806480;
xor.b32 a, $2, 0x80808080;
prmt.b32 $0, a, b, 0x4140;
prmt.b32 $1, a, b, 0x4342;
sub.f16x2 $0, $0, c;
sub.f16x2 $1, $1, c;
}""")


@triton.jit
def _halves(packed):
    """Both 16-bit floats of every byte of int4 weights."""
    return tl.inline_asm_elementwise(
        _EIGHT_HALVES, "=r,=r,=r,=r,r", [packed], dtype=(tl.float16, tl.float16), is_pure=True, pack=4
    )


@triton.jit
def _half(packed):
    """The 16-bit float of every int8 weight."""
    return tl.inline_asm_elementwise(_FOUR_HALVES, "=r,=r,r", [packed], dtype=tl.float16, is_pure=True, pack=4)


@triton.jit
def _inputs(x, token, tokens, place, width):
    """Some columns of the tokens, [padded, columns]; 0 beyond the last token and column."""
    real = (token < tokens)[:, None] & (place < width)[None, :]
    return tl.load(x + token[:, None] * width + place[None, :], mask=real, other=0.0)


@triton.jit
def _product(
    x,
    tokens,
    at,
    scales,
    rows,
    all_rows,
    width,
    kind: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    step: tl.constexpr,
):
    """Products of some tokens with some rows of a matrix, [padded, block], in 32 bits, on the matrix units."""
    total = tl.zeros((padded, block), tl.float32)
    token = tl.arange(0, padded)
    rows64 = rows.to(tl.int64)[None, :]
    if kind == 16:
        for start in range(0, width, step):
            place = start + tl.arange(0, step)
            weight = tl.load(at + rows64 * width + place[:, None], mask=(place < width)[:, None], other=0.0)
            total = tl.dot(_inputs(x, token, tokens, place, width), weight, total)
    else:
        group_bytes: tl.constexpr = 8 * kind
        step_bytes: tl.constexpr = step * group_bytes
        groups = width // 64
        for start in range(0, groups, step):
            group = start + tl.arange(0, step)
            byte = start * group_bytes + tl.arange(0, step_bytes)
            factor = tl.load(
                scales + group[:, None] * all_rows + rows[None, :], mask=(group < groups)[:, None], other=0.0
            )
            factor = tl.reshape(tl.broadcast_to(factor[:, None, :], (step, group_bytes, block)), (step_bytes, block))
            packed = tl.load(
                at + rows64 * (groups * group_bytes) + byte[:, None],
                mask=(byte < groups * group_bytes)[:, None],
                other=0,
            )
            if kind == 8:
                total = tl.dot(_inputs(x, token, tokens, byte, width), _half(packed) * factor, total)
            else:
                place = (byte // 32) * 64 + byte % 32
                low, high = _halves(packed)
                total = tl.dot(_inputs(x, token, tokens, place, width), low * factor, total)
                total = tl.dot(_inputs(x, token, tokens, place + 32, width), high * factor, total)
    return total


@triton.jit(do_not_specialize=["wide"])
def _first(
    x,
    slots,
    stride,
    table,
    cursor,
    inner,
    wide,
    d_model,
    d_ff,
    scales_at,
    kind: tl.constexpr,
    gated: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    step: tl.constexpr,
):
    """The first product and the activation of an entry, for some columns of the inner width."""
    entry = tl.program_id(1)
    launch = tl.load(cursor)
    row = table + (launch * wide + entry) * 4
    slot, begin, tokens, source = tl.load(row).to(tl.int64), tl.load(row + 1), tl.load(row + 2), tl.load(row + 3)
    if (tl.program_id(0) == 0) & (entry == 0):
        tl.store(cursor + 1, launch)
    weights = slots + slot * stride
    scales = (weights + scales_at).to(tl.pointer_type(tl.float16))
    if kind == 16:
        weights = weights.to(tl.pointer_type(x.dtype.element_ty))
    rows = tl.program_id(0) * block + tl.arange(0, block)
    inside = rows < d_ff
    rows = tl.minimum(rows, d_ff - 1)
    all_rows = d_ff * 2 if gated else d_ff
    here = x + source * d_model
    out = _product(here, tokens, weights, scales, rows, all_rows, d_model, kind, padded, block, step)
    if gated:
        up = _product(here, tokens, weights, scales, rows + d_ff, all_rows, d_model, kind, padded, block, step)
        out = out * tl.sigmoid(out) * up
    else:
        out = tl.maximum(out, 0.0)
    token = tl.arange(0, padded)
    target = inner + (begin + token)[:, None] * d_ff + rows[None, :]
    tl.store(target, out.to(inner.dtype.element_ty), mask=(token < tokens)[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["wide"])
def _second(
    inner,
    slots,
    stride,
    table,
    cursor,
    out,
    wide,
    d_model,
    d_ff,
    offset,
    scales_at,
    kind: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    step: tl.constexpr,
):
    """The second product of an entry, for some columns of the output."""
    entry = tl.program_id(1)
    launch = tl.load(cursor + 1)
    row = table + (launch * wide + entry) * 4
    slot, begin, tokens = tl.load(row).to(tl.int64), tl.load(row + 1), tl.load(row + 2)
    if (tl.program_id(0) == 0) & (entry == 0):
        tl.store(cursor, (launch + 1) % tl.load(cursor + 2))
    weights = slots + slot * stride + offset
    scales = (slots + slot * stride + scales_at).to(tl.pointer_type(tl.float16))
    if kind == 16:
        weights = weights.to(tl.pointer_type(inner.dtype.element_ty))
    rows = tl.program_id(0) * block + tl.arange(0, block)
    inside = rows < d_model
    rows = tl.minimum(rows, d_model - 1)
    result = _product(inner + begin * d_ff, tokens, weights, scales, rows, d_model, d_ff, kind, padded, block, step)
    token = tl.arange(0, padded)
    target = out + (begin + token)[:, None] * d_model + rows[None, :]
    tl.store(target, result.to(out.dtype.element_ty), mask=(token < tokens)[:, None] & inside[None, :])


class Tile(NamedTuple):
    """Size of what a program computes: rows of the matrix, and columns (16 bits) or groups of 64 of a step."""

    rows: int
    step: int
    stages: int
    warps: int = 4

    def shared_bytes(self, kind: int, tokens: int) -> int:
        """Shared memory that the tile needs, at most: weights and tokens of every stage."""
        columns = self.step * (1 if kind == 16 else 64)
        expanded = 2 * columns * self.rows if kind < 16 else 0
        return expanded + self.stages * (columns * self.rows * kind // 8 + 2 * columns * tokens)


class Entry(NamedTuple):
    """At most `MOST_TOKENS` tokens of one expert: its slot, first row of the output, tokens, first row of the input."""

    slot: int
    begin: int
    tokens: int
    source: int


def padded_tokens(tokens: int) -> int:
    """Tokens that the kernel computes for an entry of `tokens`: 16, 32 or 64."""
    return max(16, 1 << (tokens - 1).bit_length())


def tile_of(kind: int, tokens: int, shared: int) -> Tile:
    """Tile for weights of `kind` bits and a padded number of tokens, within `shared` bytes of shared memory."""
    few = tokens == 16
    tile = Tile(32, 256 if few else 128, 4) if kind == 16 else Tile(32, 8 if few else 4, 2)
    while tile.shared_bytes(kind, tokens) > shared and (tile.stages > 2 or tile.step > 1):
        tile = tile._replace(stages=tile.stages - 1) if tile.stages > 2 else tile._replace(step=tile.step // 2)
    return tile


class FusedKernel:
    """Groups of experts of a shape, whose weights are `slots`, [slots, stride] bytes."""

    def __init__(self, shape: ModelShape, held: Format, slots: Tensor) -> None:
        self.shape, self.held, self.slots = shape, held, slots
        self.layout, self.kind = layout_of(shape, held), KINDS[held]
        self.cursor = torch.zeros(3, dtype=torch.int32, device=slots.device)  # of each kernel, and of launches
        properties = torch.cuda.get_device_properties(slots.device)
        self.shared = properties.shared_memory_per_block_optin - KIB  # type: ignore[attr-defined]  # torch's own gap
        self.wide = 0
        self._make(1, 1, 1)

    def prepare(self, launches: Sequence[Sequence[tuple[int, int]]]) -> bool:
        """Announce the coming launches, each a list of (slot, tokens); `run`s serve them in this order.

        True if buffers had to grow, so that runs captured before are void.
        """
        entries = [entries_of(launch) for launch in launches]
        wide = max(map(len, entries), default=1)
        rows = max((entry.begin + entry.tokens for launch in entries for entry in launch), default=1)
        grows = wide > self.wide or rows > len(self.x) or len(entries) > len(self.table)
        if grows:
            self._make(max(len(entries), len(self.table)), max(wide, self.wide), max(rows, len(self.x)))
        table = torch.zeros((len(entries), self.wide, FIELDS), dtype=torch.int32)
        for number, launch in enumerate(entries):
            table[number, : len(launch)] = torch.tensor(launch, dtype=torch.int32)
        self.table[: len(entries)] = table.to(self.slots.device)
        self.cursor[2] = max(1, len(entries))
        self.rewind()
        return grows

    def _make(self, launches: int, wide: int, rows: int) -> None:
        device, dtype = self.slots.device, DTYPES[compute_format(self.held)]
        self.wide = wide
        self.table = torch.zeros((launches, wide, FIELDS), dtype=torch.int32, device=device)
        generator = torch.Generator(device).manual_seed(0)
        self.x = torch.randn((rows, self.shape.d_model), dtype=dtype, device=device, generator=generator)
        self.inner = self.x.new_empty((rows, self.shape.experts.d_ff))
        self.out = torch.empty_like(self.x)

    def rewind(self) -> None:
        """Begin with the first launch again, as after the last one."""
        self.cursor[:2] = 0

    def run(self, entries: int, tokens: int) -> Run:
        """Run of the next launch, which has `entries` entries of at most `tokens` tokens."""
        padded = padded_tokens(tokens)
        tile = tile_of(self.kind, padded, self.shared)
        shape, layout, stride = self.shape, self.layout, self.slots.stride(0)
        sizes = {"kind": self.kind, "padded": padded, "block": tile.rows, "step": tile.step}
        shared: dict[str, Any] = sizes | {"num_warps": tile.warps, "num_stages": tile.stages}
        widths = self.wide, shape.d_model, shape.experts.d_ff
        rows_of_launch = self.slots, stride, self.table, self.cursor

        def launch() -> None:
            first = triton.cdiv(shape.experts.d_ff, tile.rows), entries
            _first[first](
                self.x, *rows_of_launch, self.inner, *widths, layout.first_scales, gated=shape.experts.gated, **shared
            )
            second = triton.cdiv(shape.d_model, tile.rows), entries
            _second[second](
                self.inner, *rows_of_launch, self.out, *widths, layout.second, layout.second_scales, **shared
            )

        return launch


def entries_of(launch: Sequence[tuple[int, int]]) -> list[Entry]:
    """Entries of a launch of (slot, tokens); every expert reads the inputs from the first row on."""
    entries: list[Entry] = []
    begin = 0
    for slot, tokens in launch:
        for done in range(0, tokens, MOST_TOKENS):
            part = min(MOST_TOKENS, tokens - done)
            entries.append(Entry(slot, begin, part, done))
            begin += part
    return entries

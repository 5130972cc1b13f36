"""Importers of recordings that are ordered by forward pass: Megatron's routing trace, and those of llama-moe-trace.

Such a file names passes and layers, but no requests. What is taken from it: a pass with as many tokens as the last one
is a step of decode, one token of each of these sequences; any other is (a part of) a prefill. A request is a prefill
and the decode steps after it. A file whose passes all have equal sizes has one request a pass in phase `encode`, and
one request of decode steps in phase `decode`. The prefill and the decode of a request have one sequence number, and
positions go on, so that both together are a session.

megatron   router_trace_rank0.jsonl of --moe-routing-trace-path, a record per step and layer: {"step", "block", "layer",
           "num_tokens", "topk", "top_indices"}; records of block `mtp` are left out, as is an incomplete last step.
           Source: megatron-core, `moe_router_tracer`.
llama      moe-trace.txt of llama-moe-trace, a line per layer and token of a pass: `layer token id id ...`, each id with
           `:score` or without; or CSV with the header `layer,expert`, a row per use, ordered by layer, token and rank,
           which needs --top-k. llama.cpp runs the last layer for the tokens whose logits it needs: no expert of it is
           used by the others. Source: llama.cpp, pull request 28544; its first version read a view of the ids as if
           it had no gaps, so experts of a prefill's tokens behind the first of each batch may be wrong there. CSV of a
           fork, `phase,token,layer,rank,expert`, names phase and position of each use of one request.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import MIB, parsing, require_shallow
from specmoe.traces.importers.columns import integers, required
from specmoe.traces.importers.common import Imported, Options, rows_of_phase
from specmoe.traces.importers.long import read_table
from specmoe.traces.schema import Phase

Ints = NDArray[np.int32]
RANKED = ["phase", "token", "layer", "rank", "expert"]
LONGEST_LINE = 256 * MIB
LARGEST_ID = 1 << 20  # more than any model's experts, layers and tokens of a pass; keeps numbers within their type


class Row(NamedTuple):
    """Experts of consecutive tokens of one layer."""

    line: int
    layer: int
    experts: Ints  # [n, k]


def read_megatron(path: Path, options: Options) -> Imported:
    """Read a routing trace of Megatron; `options` must give the number of experts."""
    passes, rows, step = list[Ints](), list[Row](), None
    for number, line in _lines(path):
        with parsing(path, f"a JSON object in line {number}"):
            require_shallow([line])
            record = dict(json.loads(line))
        if record.get("block", "decoder") != "decoder":
            continue
        if step is not None and record.get("step") != step:
            passes.append(_pass(path, rows, passes))
            rows = []
        step = record.get("step")
        rows.append(_record(path, number, record))
    if passes and len(rows) < passes[0].shape[1]:
        rows = []
    return _imported(path, [*passes, *([_pass(path, rows, passes)] if rows else [])], options)


def _record(path: Path, number: int, record: dict[str, Any]) -> Row:
    indices = record.get("top_indices")
    if type(record.get("layer")) is not int or not isinstance(indices, list):
        _fail(path, number, "a record with step, layer and top_indices expected")
    with parsing(path, f"a record whose top_indices are lists of equally many ids in line {number}"):
        experts = np.array(indices)
        shape = (record.get("num_tokens", len(experts)), record.get("topk", experts.shape[-1]))
        if experts.dtype.kind not in "iu" or experts.ndim != 2:
            raise ValueError("whole numbers expected")
    if experts.shape != shape:
        _fail(path, number, f"num_tokens {shape[0]}, topk {shape[1]}: top_indices are {list(experts.shape)}")
    return Row(number, record["layer"], np.clip(experts, -2, LARGEST_ID).astype(np.int32))


def read_llama(path: Path, options: Options) -> Imported:
    """Read a trace of llama-moe-trace; `options` must give the number of experts."""
    lines = _lines(path)
    first = next(((number, line) for number, line in lines if not line.startswith(b"#")), None)
    if first is None:
        raise InputError(f"{path}: empty: lines of layer, token and experts, or a header layer,expert, expected")
    names = first[1].decode(errors="replace").strip().replace(" ", "").lower().split(",")
    if "layer" not in names:
        return _imported(path, list(_passes(path, _tokens(path, first, lines))), options)
    if names == RANKED:
        return _ranked(path, options)
    if names != ["layer", "expert"]:
        what = "counts of experts, which have no order" if "count" in names else f"columns {', '.join(names)}"
        raise InputError(f"{path}: {what}: layer,expert expected, a row per use")
    if options.top_k is None:
        raise InputError(f"{path}: layer,expert: rows do not say where a token ends: --top-k expected")
    return _imported(path, list(_passes(path, _uses(path, lines, options.top_k))), options)


def _ranked(path: Path, options: Options) -> Imported:
    """The request of a table with a row per use, in any order."""
    table = read_table(path)
    required(path, table, *RANKED)
    rows = rows_of_phase(path, table, options.phase)
    position, layer, rank, expert = (integers(path, table, name)[rows] for name in RANKED[1:])
    (positions, token), (layers, place) = (np.unique(one, return_inverse=True) for one in (position, layer))
    order, k = np.lexsort((rank, place, token)), int(rank.max()) + 1
    place_of_use = (token * len(layers) + place)[order]
    begin, end = (np.searchsorted(place_of_use, place_of_use, side) for side in ("left", "right"))
    wrong = (rank[order] != np.arange(len(rows)) - begin) | (end - begin != k)
    if wrong.any():
        first = rows[order[int(wrong.argmax())]]
        raise InputError(f"{path}: row {first}: rank: each of 0..{k - 1} once expected in every layer of a token")
    token, place = token[order[::k]], place[order[::k]]
    counts = np.bincount(place)
    if (counts[:-1] != len(positions)).any():
        short = int((counts != len(positions)).argmax())
        raise InputError(f"{path}: layer {layers[short]}: {counts[short]} tokens: {len(positions)} expected")
    experts = np.full((len(positions), len(layers), k), -1, np.int64)
    experts[token, place] = expert[order].reshape(-1, k)
    return Imported(
        num_experts=options.experts_of(path),
        sequence=np.zeros(len(positions), np.int32),
        position=positions,
        experts=experts,
        corpus=path.name,
        dropless=not (experts == -1).any(),
        notes=(f"layers in the file: {' '.join(map(str, layers))}",),
    )


def _tokens(path: Path, first: tuple[int, bytes], lines: Iterator[tuple[int, bytes]]) -> Iterator[Row]:
    """A row per layer of a pass, of lines `layer token id ...`."""
    begun, layer, ids = 0, -1, list[list[int]]()
    for number, line in (pair for part in ([first], lines) for pair in part):
        place, token, *chosen = _numbers(path, number, line)
        if not chosen or len(chosen) != len((ids or [chosen])[0]):
            _fail(path, number, f"{len(chosen)} experts: as many in every line expected, and at least one")
        if place != layer or token == 0:
            if ids:
                yield Row(begun, layer, np.array(ids, np.int32))
            begun, layer, ids = number, place, []
        if token != len(ids):
            _fail(path, number, f"token {token}: {len(ids)} expected, the next one of layer {place}")
        ids.append(chosen)
    yield Row(begun, layer, np.array(ids, np.int32))


def _uses(path: Path, lines: Iterator[tuple[int, bytes]], top_k: int) -> Iterator[Row]:
    """A row per layer of a pass, of lines `layer,expert`."""
    begun, layer, ids = 0, -1, list[int]()

    def row() -> Row:
        if len(ids) % top_k:
            _fail(path, begun, f"{len(ids)} experts of layer {layer}: a multiple of --top-k {top_k} expected")
        return Row(begun, layer, np.array(ids, np.int32).reshape(-1, top_k))

    for number, line in lines:
        place, *expert = _numbers(path, number, line)
        if len(expert) != 1:
            _fail(path, number, "a layer and an expert expected")
        if place != layer:
            if ids:
                yield row()
            begun, layer, ids = number, place, []
        ids += expert
    yield row()


def _passes(path: Path, rows: Iterator[Row]) -> Iterator[Ints]:
    """A new pass begins where the layer is not a later one."""
    passes, held = list[Ints](), list[Row]()
    for row in rows:
        if held and row.layer <= held[-1].layer:
            passes.append(_pass(path, held, passes))
            held = []
        held.append(row)
    if passes and len(held) < passes[0].shape[1]:
        held = []
    yield from passes
    if held:
        yield _pass(path, held, passes)


def _pass(path: Path, rows: list[Row], before: list[Ints]) -> Ints:
    """Rows of all layers of a pass as [n, L, k]; -1 where the last layer ran for its last tokens only."""
    rows = sorted(rows, key=lambda row: row.layer)
    first, last, tokens = rows[0], rows[-1], len(rows[0].experts)
    if len({row.layer for row in rows}) < len(rows):
        _fail(path, last.line, f"layer {last.layer}: a second record of a layer in one pass")
    if before and len(rows) != before[0].shape[1]:
        _fail(path, first.line, f"a pass of {len(rows)} layers: {before[0].shape[1]} expected, as in the first")
    width = before[0].shape[2] if before else first.experts.shape[1]
    out = np.full((tokens, len(rows), width), -1, np.int32)
    for place, row in enumerate(rows):
        count, k = row.experts.shape
        if k != width or count > tokens or (count < tokens and row is not last):
            _fail(path, row.line, f"layer {row.layer}: {count} tokens of {k} experts: {tokens} of {width} expected")
        out[tokens - count :, place] = row.experts
    return out


def _imported(path: Path, passes: list[Ints], options: Options) -> Imported:
    if not passes:
        raise InputError(f"{path}: no whole pass: at least one with all layers expected")
    sequence, position, chosen = _requests(path, [len(one) for one in passes], options.phase)
    experts = np.concatenate([passes[number] for number in chosen])
    order = np.lexsort((position, sequence))
    return Imported(
        num_experts=options.experts_of(path),
        sequence=sequence[order],
        position=position[order],
        experts=experts[order],
        corpus=path.name,
        dropless=not (experts == -1).any(),
        notes=(f"{len(chosen)} of {len(passes)} forward passes are {options.phase}",),
    )


def _requests(path: Path, sizes: list[int], phase: Phase) -> tuple[Ints, Ints, list[int]]:
    """Sequence and position of each token of a phase's passes, and the numbers of these passes."""
    places, all_equal = sizes[-1], len(set(sizes)) == 1
    request, done, after_decode = 0, 0, False
    sequences, positions, chosen = list[Ints](), list[Ints](), list[int]()
    for number, size in enumerate(sizes):
        decodes = size == places and not (all_equal and phase == "encode")
        if not decodes and (after_decode or (all_equal and number)):
            request, done = request + 1, 0
        if decodes == (phase == "decode"):
            rows = np.arange(size, dtype=np.int32)
            sequences.append(request * places + (rows if decodes else 0 * rows))
            positions.append(done + (0 * rows if decodes else rows))
            chosen.append(number)
        done += 1 if decodes else size
        after_decode = decodes
    if not chosen:
        raise InputError(f"{path}: no pass of phase {phase}: choose the other with --phase")
    return np.concatenate(sequences), np.concatenate(positions), chosen


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, numbered from 1, of bounded length."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                _fail(path, number, f"more than {LONGEST_LINE // MIB} MiB in a line")
            if line.strip():
                yield number, line


def _numbers(path: Path, number: int, line: bytes) -> list[int]:
    """Numbers of a line; an expert's score is left out."""
    words = [word.partition(b":")[0] for word in line.replace(b",", b" ").split()]
    if len(words) < 2 or not all(word.isdigit() and len(word) < 8 for word in words):
        _fail(path, number, "whole numbers expected: a layer, and a token and experts, or an expert")
    return [min(int(word), LARGEST_ID) for word in words]


def _fail(path: Path, line: int, what: str) -> NoReturn:
    raise InputError(f"{path}: line {line}: {what}")

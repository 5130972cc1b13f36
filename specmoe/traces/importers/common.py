"""The interface of every importer, and packing of tables with a row per (token, layer) into rows per token."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.traces.importers.columns import codes, fail, integers, lists, required
from specmoe.traces.schema import Block, Kind, Phase, no_lookahead
from specmoe.units import COUNTS, whole

_KEYS = ("sequence", "position", "layer", "experts")
_PHASES: dict[Phase, tuple[str, ...]] = {"encode": ("encode", "prefill"), "decode": ("decode",)}


@dataclass(frozen=True)
class Options:
    """Facts from the caller that a file may lack."""

    phase: Phase = "decode"
    kind: Kind = "pretrained"
    model: str | None = None
    num_experts: int | None = None
    top_k: int | None = None
    prompt_tokens: tuple[int, ...] = ()  # length of each request's prompt, or one for all

    def experts_of(self, path: Path, known: int | None = None) -> int:
        """Number of experts: the caller's, else the file's (`known`); raises InputError if both are missing."""
        if self.num_experts is not None:
            return whole(f"--num-experts {self.num_experts}", self.num_experts, *COUNTS["num-experts"])
        if known is None:
            raise InputError(f"{path}: the number of experts is not in the file: --num-experts expected")
        return known

    def top_k_of(self, candidates: int) -> int:
        """Number of used experts among the candidates (default: all); raises InputError if out of range."""
        return candidates if self.top_k is None else whole(f"--top-k {self.top_k}", self.top_k, 1, candidates)


class Imported(NamedTuple):
    """Contents of a file: n tokens, L layers, k experts per token."""

    num_experts: int
    sequence: NDArray[Any]  # [n]
    position: NDArray[Any]  # [n]
    experts: NDArray[Any]  # [n, L, k]
    corpus: str
    probs: NDArray[Any] | None = None  # [n, L, k]
    token: NDArray[Any] | None = None  # [n]
    source: NDArray[Any] | None = None  # [n], codes
    sources: tuple[str, ...] = ("unknown",)
    model: str | None = None
    notes: tuple[str, ...] = ()
    dropless: bool = True  # no expert is -1

    def block(self) -> Block:
        """All rows as a block, with the schema's fillers for unknown columns.

        Ids too large for their type become its limit, so that later checks reject them.
        """
        n = len(self.sequence)
        experts = narrow(self.experts, np.int16)
        return Block(
            sequence=narrow(self.sequence, np.int32),
            position=narrow(self.position, np.int32),
            source=narrow(np.zeros(n) if self.source is None else self.source, np.int16),
            token=narrow(np.full(n, -1) if self.token is None else self.token, np.int32),
            experts=experts,
            probs=(np.full(self.experts.shape, np.nan) if self.probs is None else self.probs).astype(np.float16),
            lookahead=no_lookahead(experts),
        )


def narrow(values: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
    """Convert integers to a narrower type, clipped to its range instead of wrapped around."""
    limits = np.iinfo(dtype)
    limited: NDArray[Any] = np.clip(values, limits.min, limits.max).astype(dtype)
    return limited


class _Keys(NamedTuple):
    """Sequence, position and layer of each row of the file, [rows] each."""

    sequence: NDArray[np.int64]
    position: NDArray[np.int64]
    layer: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "_Keys":
        return _Keys._make(column[rows] for column in self)


def pack(path: Path, table: pa.Table, num_experts: int, phase: Phase) -> Imported:
    """Pack a table with a row per (token, layer) into one row per token.

    Columns: sequence (numbers or names), position, layer, experts (lists); optional: weights (lists), token, source,
    and phase, which selects rows. Layers may have any numbers and become ordinals. Raises InputError with row and
    field for a repeated (sequence, position, layer), a token that lacks a layer, ids outside the model or repeated,
    lists of different lengths, and weights outside 0..1.
    """
    required(path, table, *dict.fromkeys((*_KEYS, *table.column_names)))
    experts = _experts(path, table, num_experts)
    weights = _weights(path, table, experts.shape) if "weights" in table.column_names else None
    keys = _Keys(_sequence(path, table), integers(path, table, "position"), integers(path, table, "layer"))
    rows, layers = _token_rows(path, keys, rows_of_phase(path, table, phase))
    source, sources = codes(table, "source") if "source" in table.column_names else (None, ("unknown",))
    token = integers(path, table, "token", least=-1) if "token" in table.column_names else None
    return Imported(
        num_experts=num_experts,
        sequence=keys.sequence[rows[:, 0]],
        position=keys.position[rows[:, 0]],
        experts=experts[rows],
        probs=None if weights is None else weights[rows],
        token=_of_token(path, "token", token, rows),
        source=_of_token(path, "source", source, rows),
        sources=sources,
        corpus=path.name,
        notes=(f"layers in the file: {' '.join(map(str, layers))}",),
    )


def _experts(path: Path, table: pa.Table, num_experts: int) -> NDArray[np.int64]:
    experts, _ = lists(path, table, "experts", pa.int64())
    outside = ((experts < 0) | (experts >= num_experts)).any(axis=1)
    if outside.any():
        fail(path, outside, "experts", f"{experts[outside][0].tolist()}: ids 0..{num_experts - 1} expected")
    ordered = np.sort(experts, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if repeated.any():
        fail(path, repeated, "experts", f"{experts[repeated][0].tolist()}: different ids expected")
    return experts


def _weights(path: Path, table: pa.Table, shape: tuple[int, ...]) -> NDArray[np.float64]:
    weights, _ = lists(path, table, "weights", pa.float64())
    if weights.shape != shape:
        raise InputError(f"{path}: weights: {weights.shape[1]} a row: {shape[1]} expected, as many as experts")
    outside = ~((weights >= 0) & (weights <= 1)).all(axis=1)
    if outside.any():
        fail(path, outside, "weights", f"{weights[outside][0].tolist()}: numbers between 0 and 1 expected")
    return weights


def _sequence(path: Path, table: pa.Table) -> NDArray[np.int64]:
    if pa.types.is_integer(table["sequence"].type):
        return integers(path, table, "sequence")
    return codes(table, "sequence")[0]


def rows_of_phase(path: Path, table: pa.Table, phase: Phase) -> NDArray[np.int64]:
    """Rows of one phase; all rows if there is no column `phase`."""
    if "phase" not in table.column_names:
        return np.arange(table.num_rows)
    rows = np.flatnonzero(pc.is_in(table["phase"], pa.array(_PHASES[phase])))
    if not len(rows):
        raise InputError(f"{path}: phase: no row of {' or '.join(_PHASES[phase])}: choose the other with --phase")
    return rows


def _token_rows(path: Path, keys: _Keys, of_phase: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The given rows as [n, L] in the order of a trace, and the layer numbers of the file, [L]."""
    rows = of_phase[np.lexsort((keys.layer[of_phase], keys.position[of_phase], keys.sequence[of_phase]))]
    ordered = keys.take(rows)
    same_token = (np.diff(ordered.sequence, prepend=-1) == 0) & (np.diff(ordered.position, prepend=-1) == 0)
    repeated = same_token & (np.diff(ordered.layer, prepend=-1) == 0)
    if repeated.any():
        at = int(repeated.argmax())
        where = ", ".join(f"{name} {column[at]}" for name, column in ordered._asdict().items())
        raise InputError(f"{path}: row {rows[at]}: layer: {where} is in row {rows[at - 1]} already: one row expected")
    layers = np.unique(ordered.layer)
    _require_layers(path, rows, np.flatnonzero(~same_token), ordered.layer, layers)
    return rows.reshape(-1, len(layers)), layers


def _require_layers(
    path: Path,
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    layer: NDArray[np.int64],
    layers: NDArray[np.int64],
) -> None:
    """Raise InputError unless each token has all layers; `starts` holds the first row of each token."""
    ends = np.append(starts[1:], len(rows))
    short = ends - starts != len(layers)
    if short.any():
        start, end = starts[short][0], ends[short][0]
        absent = np.setdiff1d(layers, layer[start:end])[0]
        raise InputError(f"{path}: row {rows[start]}: layer: this token has no layer {absent}: every layer expected")


def _of_token(path: Path, name: str, values: NDArray[Any] | None, rows: NDArray[np.int64]) -> NDArray[Any] | None:
    """One value per token, [n], from `values` [file rows], which must be equal in all layers of a token."""
    if values is None:
        return None
    by_layer = values[rows]
    differs = by_layer != by_layer[:, :1]
    if differs.any():
        raise InputError(f"{path}: row {rows[differs][0]}: {name}: differs between layers of one token")
    return np.asarray(by_layer[:, 0])

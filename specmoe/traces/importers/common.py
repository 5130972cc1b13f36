"""What every importer takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.traces.schema import Block, Kind, Phase, no_lookahead


@dataclass(frozen=True)
class Options:
    """What the caller knows and the file may not tell."""

    phase: Phase = "decode"
    kind: Kind = "pretrained"
    model: str | None = None
    num_experts: int | None = None
    top_k: int | None = None

    def experts_of(self, path: Path, known: int | None = None) -> int:
        """Number of experts: the caller's, else the file's; raises InputError if neither tells."""
        number = self.num_experts or known
        if number is None:
            raise InputError(f"{path}: the number of experts is not in the file: --num-experts expected")
        return number


class Imported(NamedTuple):
    """A whole file in memory; n tokens, L layers, k experts a token."""

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

    def block(self) -> Block:
        """All rows; what is unknown is filled as the schema says. Ids too large for their type stay too large."""
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
    """Integers as a narrower type, limited to its range instead of wrapping round."""
    limits = np.iinfo(dtype)
    limited: NDArray[Any] = np.clip(values, limits.min, limits.max).astype(dtype)
    return limited

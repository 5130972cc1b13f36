"""Which routing an answer rests on: a trace that fits the model, or one that is drawn and says so."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from specmoe import traces
from specmoe.errors import InputError
from specmoe.hwprofiles.shape import ModelShape
from specmoe.sim.advise.drawn import LIKELY, RANGE, draw
from specmoe.traces import bundled
from specmoe.traces.schema import TraceMeta


class Routings(NamedTuple):
    """The trace that is simulated; where it is drawn, two more that the truth is expected between."""

    trace: str
    meta: TraceMeta
    extremes: tuple[str, ...] = ()

    @property
    def drawn(self) -> bool:
        """Whether no model produced it."""
        return bool(self.extremes)


def routings_of(shape: ModelShape, trace: str | None, batch: int, directory: Path) -> Routings:
    """The trace told, else the bundled one of such a model, else drawn ones, which are written to the directory.

    Raises InputError for a trace of a model with other layers or experts: its times would be of that one.
    """
    if trace is not None:
        meta = traces.open(trace).meta
        _require_fit(trace, meta, shape)
        return Routings(trace, meta)
    for name in bundled.names():
        if name.endswith("/decode/test") and fits(meta := traces.open(name).meta, shape):
            return Routings(name, meta)
    likely, *extremes = (draw(shape, stickiness, batch, directory) for stickiness in (LIKELY, *RANGE))
    return Routings(str(likely), traces.open(likely).meta, tuple(map(str, extremes)))


def fits(meta: TraceMeta, shape: ModelShape) -> bool:
    """Whether the routing is of as many layers and experts, and as many of them used."""
    wanted = (shape.stack(meta.phase).moe_layers, shape.experts.number, shape.experts.top_k)
    return (meta.num_layers, meta.num_experts, meta.top_k) == wanted


def _require_fit(name: str, meta: TraceMeta, shape: ModelShape) -> None:
    if not fits(meta, shape):
        layers, experts = shape.stack(meta.phase).moe_layers, shape.experts
        raise InputError(
            f"--trace {name}: {meta.num_layers} layers of {meta.num_experts} experts, top {meta.top_k}: {shape.name} "
            f"has {layers} of {experts.number}, top {experts.top_k}; a trace of such a model expected, or none"
        )

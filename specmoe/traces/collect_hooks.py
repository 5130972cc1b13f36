"""Listening to the routers of one stack while a model runs.

A hook before each layer's norm sees the hidden state that enters the feed-forward part, and puts it at once through the
norm and router of the layer `depth` further on: that is the look-ahead, known before the layer's own experts run. A
hook after each router sees what was chosen. Nothing leaves the device before `Recorder.take`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import ModelError
from specmoe.traces.adapters import Adapter, MoeLayer, candidates, with_drops

if TYPE_CHECKING:
    from torch import Tensor


class Routing(NamedTuple):
    """What the routers of L layers decided for n tokens, M candidates each; the columns of `schema.Block`."""

    experts: NDArray[np.int16]  # [n, L, M]
    probs: NDArray[np.float16]  # [n, L, M]
    lookahead: NDArray[np.int16]  # [n, L, M]


class Recorder(AbstractContextManager["Recorder"]):
    """Records one forward pass over `layers`, `width` candidates each; use it in a `with` block, then `take`.

    The look-ahead looks `depth` layers ahead; in the last `depth` layers it is -1.
    """

    def __init__(self, adapter: Adapter, layers: list[MoeLayer], width: int, depth: int = 1) -> None:
        self._adapter = adapter
        self._depth = depth
        self._layers = layers
        self._width = width
        self._hooks = ExitStack()
        self._experts: list[Tensor] = []
        self._probs: list[Tensor] = []
        self._lookahead: list[Tensor] = []

    def __enter__(self) -> Recorder:
        for layer, following in zip(self._layers, self._layers[self._depth :], strict=False):
            hook = layer.norm.register_forward_pre_hook(lambda _, args, to=following: self._look_ahead(to, args[0]))
            self._hooks.enter_context(hook)
        for layer in self._layers:
            self._hooks.enter_context(layer.router.register_forward_hook(self._listen))
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def take(self, mask: Tensor) -> Routing:
        """The routing of the tokens where the flat `mask` [batch * tokens] is true, on the CPU.

        Raises ModelError if a router gave a number that is not finite (half precision overflows in some models).
        """
        import torch

        unknown = [torch.full_like(layer, -1) for layer in self._experts[-self._depth :]]
        experts, probs, lookahead = (
            torch.stack(columns, dim=1)[mask].cpu().numpy()
            for columns in (self._experts, self._probs, [*self._lookahead, *unknown])
        )
        if not np.isfinite(probs).all():
            raise ModelError("a router's probabilities are not finite: try --dtype float32 or bfloat16")
        return Routing(experts, probs, lookahead)

    def _look_ahead(self, layer: MoeLayer, hidden: Tensor) -> None:
        # `forward` instead of a call: the hooks of that layer must not fire for what it does not do yet.
        normed = layer.norm.forward(hidden).float().flatten(0, -2)
        choice = self._adapter.read(layer.router.forward(normed))
        self._lookahead.append(candidates(choice, self._width).short())

    def _listen(self, router: Any, args: Any, output: Any) -> None:
        choice = self._adapter.read(output)
        ids = candidates(choice, self._width)
        ids, probs = with_drops(ids, choice.probs.gather(-1, ids), choice)
        self._experts.append(ids.short())
        self._probs.append(probs.half())

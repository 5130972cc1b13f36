"""Listening to the routers of one stack while a model runs.

A hook before each layer's norm sees the hidden state that enters the feed-forward part, and puts it at once through the
norms and routers of the next `depth` layers: that is the look-ahead, known before the layer's own experts run. A
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
    """What the routers of L layers decided for n tokens, M candidates each, D depths; the columns of `schema.Block`."""

    experts: NDArray[np.int16]  # [n, L, M]
    probs: NDArray[np.float16]  # [n, L, M]
    lookahead: NDArray[np.int16]  # [n, L, D, M]


class Recorder(AbstractContextManager["Recorder"]):
    """Records one forward pass over `layers`, `width` candidates each; use it in a `with` block, then `take`.

    The look-ahead looks 1 to `depth` layers ahead; beyond the last layer it is -1.
    """

    def __init__(self, adapter: Adapter, layers: list[MoeLayer], width: int, depth: int = 1) -> None:
        self._adapter = adapter
        self._depth = depth
        self._layers = layers
        self._width = width
        self._hooks = ExitStack()
        self._experts: list[Tensor] = []
        self._probs: list[Tensor] = []
        self._lookahead: list[list[Tensor]] = []  # by layer, then depth

    def __enter__(self) -> Recorder:
        for number, layer in enumerate(self._layers, start=1):
            following = self._layers[number : number + self._depth]
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

        beyond = [torch.full_like(self._experts[0], -1)] * self._depth
        ahead = [torch.stack([*layer, *beyond][: self._depth], dim=1) for layer in self._lookahead]
        experts, probs, lookahead = (
            torch.stack(columns, dim=1)[mask].cpu().numpy() for columns in (self._experts, self._probs, ahead)
        )
        if not np.isfinite(probs).all():
            raise ModelError("a router's probabilities are not finite: try --dtype float32 or bfloat16")
        return Routing(experts, probs, lookahead)

    def _look_ahead(self, following: list[MoeLayer], hidden: Tensor) -> None:
        self._lookahead.append([self._foresee(layer, hidden) for layer in following])

    def _foresee(self, layer: MoeLayer, hidden: Tensor) -> Tensor:
        # `forward` instead of a call: the hooks of that layer must not fire for what it does not do yet.
        normed = layer.norm.forward(hidden).float().flatten(0, -2)
        choice = self._adapter.read(layer.router.forward(normed))
        return candidates(choice, self._width).short()

    def _listen(self, router: Any, args: Any, output: Any) -> None:
        choice = self._adapter.read(output)
        ids = candidates(choice, self._width)
        ids, probs = with_drops(ids, choice.probs.gather(-1, ids), choice)
        self._experts.append(ids.short())
        self._probs.append(probs.half())

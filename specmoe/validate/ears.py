"""What the routers of a model choose while it runs, heard layer by layer."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specmoe.errors import ModelError
from specmoe.traces.adapters import Adapter, MoeLayer
from specmoe.traces.schema import Block, TraceMeta


class Heard(NamedTuple):
    """A pass as far as it has come: rows as in a trace, and the experts of each layer in the router's order."""

    block: Block
    chosen: list[NDArray[np.int64]]  # by layer, [n, k]


class Ears:
    """Hears the routers of a stack; the host waits for the device once a layer."""

    def __init__(self, adapter: Adapter, layers: Sequence[MoeLayer]) -> None:
        self._adapter, self._layers = adapter, layers
        self._ahead: list[Tensor] = []
        self._packed = torch.zeros(0)
        self.heard = Heard(Block(*[np.zeros(0)] * 7), [])  # type: ignore[arg-type]  # nothing heard yet

    @contextmanager
    def listening(self, depth: int) -> Iterator[None]:
        """Listen, and put the state before each layer through the routers of the next `depth` layers."""
        with ExitStack() as hooks:
            for number, layer in enumerate(self._layers, start=1):
                to = self._layers[number : number + depth]
                hook = layer.norm.register_forward_pre_hook(lambda _, args, to=to: self._look_ahead(to, args[0]))
                hooks.callback(hook.remove)
                hooks.callback(layer.router.register_forward_hook(self._listen).remove)
            yield

    def begin(self, meta: TraceMeta, position: int, ids: Tensor) -> None:
        """Begin a pass that reads `ids` from a position on."""
        rows = np.arange(ids.numel(), dtype=np.int32)
        experts, ahead = (np.full((len(rows), *meta.shapes[name]), -1, np.int16) for name in ("experts", "lookahead"))
        token = ids.reshape(-1).cpu().numpy().astype(np.int32)
        probs = np.full(experts.shape, np.nan, np.float16)
        source = np.zeros(len(rows), np.int16)
        self.heard = Heard(Block(np.zeros_like(rows), position + rows, source, token, experts, probs, ahead), [])

    def hear(self, layer: int, meta: TraceMeta) -> Heard:
        """Wait for a layer's routing and add it to the pass."""
        block, count, k = self.heard.block, meta.num_experts, meta.top_k
        packed = self._packed.cpu().numpy()
        probs, chosen = packed[:, count : 2 * count], packed[:, 2 * count : 2 * count + k].astype(np.int64)
        if not np.isfinite(probs).all():
            raise ModelError("a router's probabilities are not finite: --format fp32 or bf16 expected")
        best = _ranked(packed[:, :count], chosen, meta.candidates)
        block.experts[:, layer], block.probs[:, layer] = best, np.take_along_axis(probs, best, 1)
        for depth, begin in enumerate(range(2 * count + k, packed.shape[1], count + k)):
            ahead = packed[:, begin : begin + count + k]
            block.lookahead[:, layer, depth] = _ranked(
                ahead[:, :count], ahead[:, count:].astype(np.int64), meta.candidates
            )
        self.heard.chosen.append(chosen)
        return self.heard

    def _look_ahead(self, following: Sequence[MoeLayer], hidden: Tensor) -> None:
        """Later routers' logits and choices, side by side."""
        for layer in following:  # `forward`: the later layer's hooks do not fire early
            choice = self._adapter.read(layer.router.forward(layer.norm.forward(hidden).float().flatten(0, -2)))
            self._ahead += [choice.logits, choice.chosen.float()]

    def _listen(self, router: Any, args: Any, output: Any) -> None:
        choice = self._adapter.read(output)
        self._packed = torch.cat([choice.logits, choice.probs, choice.chosen.float(), *self._ahead], 1)
        self._ahead = []


def _ranked(logits: NDArray[np.float32], chosen: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """The best experts of each token, the chosen ones first, as `adapters.candidates` gives them."""
    order = np.argsort(-logits, axis=1, kind="stable")
    others = np.ones(logits.shape, np.bool_)
    np.put_along_axis(others, chosen, False, 1)
    places = np.argsort(np.take_along_axis(others, order, 1), axis=1, kind="stable")[:, :width]
    return np.take_along_axis(order, places, 1)

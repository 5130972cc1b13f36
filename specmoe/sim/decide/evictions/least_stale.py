"""Least-Stale: experts of earlier forward passes first."""

from collections.abc import Container
from itertools import chain

from specmoe.sim.decide.eviction import Context, Eviction, first_unpinned


class LeastStale(Eviction):
    """Evicts a stale expert, one not used in this forward pass, before any other; the layer furthest ahead first.

    Within a layer the first loaded goes first. The same order holds for experts used in this pass, once none is stale.
    A layer that has just run is the furthest ahead. An LRU evicts, of the last pass, what the next layers need first.
    A prefetched expert is stale only after the pass that it is for.

    Built from the published description (stale experts before those of the current pass; order by the layer's
    position, then first in, first out), without the authors' code. It may differ from that in what order of layers
    is meant, and in that layers share one pool of slots. There is no number to choose.
    """

    source = "Least-Stale, SpecMD, Hoang et al. 2026 (arXiv 2602.03921)"

    def __init__(self, context: Context, capacity: int) -> None:
        meta = context.workload.meta
        self._layers, self._experts = meta.num_layers, meta.num_experts
        self._passes: list[dict[int, int]] = [{} for _ in range(meta.num_layers)]  # by layer, first loaded first

    def insert(self, key: int, event: int) -> None:
        """Last of its layer, for the pass in which the layer comes next."""
        step, layer = divmod(event, self._layers)
        self._layer_of(key)[key] = step + (key // self._experts < layer)

    def use(self, key: int, event: int, again: bool) -> None:
        """Of this pass."""
        self._layer_of(key)[key] = event // self._layers

    def remove(self, key: int) -> None:
        """Forget it."""
        del self._layer_of(key)[key]

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The first stale one, else the first."""
        step, layer = divmod(event, self._layers)
        passes = self._passes[layer::-1] + self._passes[:layer:-1]
        stale = (other for queue in passes for other, last in queue.items() if last < step)
        return first_unpinned(chain(stale, *passes), pinned)

    def _layer_of(self, key: int) -> dict[int, int]:
        return self._passes[key // self._experts]

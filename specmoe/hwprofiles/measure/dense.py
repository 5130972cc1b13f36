"""What is not an expert, as a replay runs it: captured, its weights in several places in turn."""

from __future__ import annotations

from functools import cached_property

from specmoe.hwprofiles.formats import ComputeFormat
from specmoe.hwprofiles.measure.bench import Bench
from specmoe.hwprofiles.measure.device_time import Effort, buffers, computing
from specmoe.hwprofiles.measure.layers import WIDTH, Run, Stand
from specmoe.hwprofiles.measure.sample import Sample
from specmoe.hwprofiles.shape import ModelShape, Phase

ROUTERS = 8  # in one graph, so that its launch hardly counts


class DenseParts:
    """A shape's dense weights of one phase, as many times as no cache holds them."""

    def __init__(self, shape: ModelShape, phase: Phase, computed: ComputeFormat, bench: Bench) -> None:
        self.shape, self.phase, self.computed, self.bench = shape, phase, computed, bench

    @cached_property
    def stands(self) -> list[Stand]:
        """As many as the smallest part needs."""
        shape, phase = self.shape, self.phase
        layers = range(shape.stack(phase).moe_layers)
        least = min([shape.head_parameters, *(shape.dense_parameters(phase, layer) for layer in layers)])
        places = buffers(least * WIDTH[self.computed], self.bench)
        return [Stand(shape, phase, self.computed, self.bench.device) for _ in range(places)]

    def before(self, layer: int, tokens: int, positions: int, effort: Effort) -> Sample:
        """Time up to the router's result of a MoE layer."""
        return self._sample([stand.before(layer, tokens, positions)[0] for stand in self.stands], effort)

    def head(self, tokens: int, effort: Effort) -> Sample:
        """Time behind the last MoE layer."""
        return self._sample([stand.head(tokens) for stand in self.stands], effort)

    def router(self, tokens: int, effort: Effort) -> Sample:
        """Time of one router among several in one graph."""
        several = self._sample([_repeated(stand.routing(tokens)) for stand in self.stands], effort)
        return Sample(tuple(time / ROUTERS for time in several.raw))

    def layer(self, context: int, effort: Effort) -> Sample:
        """Time of one layer's attentions and dense feed-forward part, one token."""
        return self._sample([stand.dense_layer(1, context) for stand in self.stands], effort)

    @property
    def layer_parameters(self) -> int:
        """Weights of `layer`, whose width is that of the model where the shape has no dense one."""
        width = self.shape.stack(self.phase).dense_d_ff or self.shape.d_model
        return self.shape.attention_parameters(self.phase) + self.shape.feed_forward_parameters(width)

    def _sample(self, runs: list[Run], effort: Effort) -> Sample:
        return computing(self.bench, [self.bench.captured(run) for run in runs], effort)


def _repeated(run: Run) -> Run:
    def several() -> None:
        for _ in range(ROUTERS):
            run()

    return several

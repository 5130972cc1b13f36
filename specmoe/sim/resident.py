"""A decode step of a runtime that keeps the whole model in VRAM: every expert resident, no load, no policy.

    step = ResidentStep.of(ResidentModel(costs, head), batch=1, context=128)
    step.total_ns, step.before_ns, step.experts_ns, step.head_ns

`total_ns` is what the engine gives for `gpu-only` (tests/reproduce/test_resident.py), without a trace: which experts
are chosen does not matter, only how many a batch needs. That number is the mean of independent, even choices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from specmoe.hwprofiles.costs import Costs, HostCosts
from specmoe.hwprofiles.kernels import Shares, reading_ns, shares_of
from specmoe.hwprofiles.launches import ExpertTimes
from specmoe.hwprofiles.shape import Format, bytes_of, is_compressed


class Mix(NamedTuple):
    """Format of a share of the experts' weights, beside that of the others."""

    format: Format
    share: float


@dataclass(frozen=True)
class ResidentModel:
    """A model in VRAM: its costs, the format of its output matrix, and a second format of experts if it is mixed."""

    costs: Costs
    head: Format
    mix: Mix | None = None

    def experts(self, batch: int) -> tuple[int, int]:
        """Mean number of distinct experts that a layer needs for a batch, and tokens of each; both rounded up."""
        experts = self.costs.shape.experts
        distinct = experts.number * (1 - (1 - experts.top_k / experts.number) ** batch)
        number = min(experts.number, -int(-distinct // 1) if distinct % 1 > 1e-9 else round(distinct))
        return number, -(-batch * experts.top_k // number)

    def experts_ns(self, batch: int, end: str = "usual") -> list[int]:
        """Times of a layer's launches of experts, at an `end` of the range of their kernels' shares."""
        number, tokens = self.experts(batch)
        own = self._launch_ns(self.costs, number, tokens, end)
        if self.mix:
            other = replace(self.costs, format=self.mix.format)
            own = own * (1 - self.mix.share) + self._launch_ns(other, number, tokens, end) * self.mix.share
        launches = number if self.costs.style.launch == "separate" else 1
        return [round(own / launches)] * launches

    def before_ns(self, batch: int, context: int, end: str = "usual") -> list[int]:
        """Times from the previous experts to the router's end, of each layer."""
        shape = self.costs.shape
        return [
            self.costs.before_ns("decode", batch, context, layer)
            + self._more_ns(shape.dense_parameters("decode", layer), self.costs.dense_format, end)
            for layer in range(shape.decoder.moe_layers)
        ]

    def head_ns(self, batch: int, end: str = "usual") -> int:
        """Time after the last layer."""
        parameters = self.costs.shape.head_parameters
        return self._head.head_ns("decode", batch) + self._more_ns(parameters, self.head, end)

    @property
    def bytes(self) -> int:
        """Size of all weights."""
        shape, mix = self.costs.shape, self.mix
        dense = self.costs.dense_format or self.costs.compute_format
        expert = float(shape.expert_bytes(self.costs.format))
        if mix:
            expert += mix.share * (shape.expert_bytes(mix.format) - expert)
        body = shape.resident_parameters - shape.head_parameters
        return round(bytes_of(body, dense) + bytes_of(shape.head_parameters, self.head) + shape.routed_experts * expert)

    @cached_property
    def _head(self) -> Costs:
        return replace(self.costs, dense_format=self.head)

    @staticmethod
    def _launch_ns(costs: Costs, number: int, tokens: int, end: str) -> float:
        if end == "usual":
            return costs.launch_ns([tokens] * number)
        times = ExpertTimes(costs.profile, costs.shape, costs.format, costs.style, _ends(shares_of(costs.format), end))
        separate = costs.style.launch == "separate"
        return number * times.launch_ns(1, tokens) if separate else times.launch_ns(number, tokens)

    def _more_ns(self, parameters: int, held: Format | None, end: str) -> int:
        """Time by which reading dense weights takes longer at an end of the range of its share of bandwidth."""
        if end == "usual" or held is None or not is_compressed(held):
            return 0
        usual, other = shares_of(held), _ends(shares_of(held), end)
        times = (reading_ns(self.costs.profile, parameters, held, shares) for shares in (other, usual))
        return round(next(times) - next(times))


def _ends(shares: Shares, end: str) -> Shares:
    return shares.slowest() if end == "slowest" else shares.fastest()


class ResidentStep(NamedTuple):
    """One step, ns: device times of its parts, and the whole."""

    before_ns: int
    experts_ns: int
    head_ns: int
    total_ns: int

    @classmethod
    def of(cls, model: ResidentModel, batch: int, context: int, end: str = "usual") -> "ResidentStep":
        """The step at a batch and a context, at an `end` (slowest, fastest) of what kernels were seen to reach."""
        before = model.before_ns(batch, context, end)
        launches, head = model.experts_ns(batch, end), model.head_ns(batch, end)
        runs_ahead = model.costs.style.launch == "grouped-wait"
        total = step_ns(model.costs.host, before, launches, head, runs_ahead)
        return cls(sum(before), len(before) * sum(launches), head, total)


def step_ns(host: HostCosts, before: Sequence[int], launches: Sequence[int], head: int, runs_ahead: bool) -> int:
    """Time of a step on the clocks of host and device, in the engine's order, from the host's first launch.

    Every layer has the same `launches` of experts. Where the host `runs_ahead`, it does not wait for routers.
    """
    clock = device = 0
    for dense in before:
        device = max(device, clock + host.launch_dense_ns + host.begin_ns) + dense
        clock = clock + host.launch_dense_ns if runs_ahead else device + host.sync_ns
        for launch in launches:
            clock += host.launch_ns
            device = max(device, clock + host.begin_ns) + launch
    return max(device, clock + host.launch_dense_ns + host.begin_ns) + head + host.sync_ns

"""The cost of predictions: time of the host thread, or of the GPU right behind the router.

On the GPU, guesses reach the host together with the router's result. A guess `depth` layers deep costs as much as
`depth` guesses one layer deep, except for networks, which give all depths at once. No
router beyond the last layer runs.
"""

from typing import Literal, NamedTuple

import numpy as np

from specmoe.hwprofiles.costs import Costs
from specmoe.sim.decide.policy import Policy
from specmoe.sim.padding import padded
from specmoe.sim.speculate.running_time import (
    FREE,
    MOST_TOKENS,
    ON_THE_DEVICE,
    RunningTime,
    device_of,
    is_extrapolated,
    running_time,
)
from specmoe.sim.timing.durations import Durations
from specmoe.traces.workload import Workload


class Charge(NamedTuple):
    """Time of each event's predictions, ns, [events] (empty: none), where they run, and the source of the number."""

    ns: list[int]
    on: Literal["host", "gpu"]
    ref: str
    assumed: str | None = None  # the assumption, where it was not measured

    @property
    def mean_ns(self) -> int:
        """Mean time of an event's predictions, ns."""
        return self.mean_since(0)

    def mean_since(self, first: int) -> int:
        """Mean time of the predictions of an event and of all later ones, ns."""
        return round(float(np.mean(self.ns[first:]))) if self.ns else 0


NO_CHARGE = Charge([], "host", "nothing to predict")


def charge(
    chosen: Policy, workload: Workload, costs: Costs, assumed_ns: int | None = None, pads: bool = False
) -> Charge:
    """Cost of a policy's predictions. `assumed_ns` per event replaces the known cost, on the same device.

    The oracle is a bound, so its predictions cost nothing. `pads`: routers exist for powers of two of tokens only.
    """
    if chosen.prefetch is None or chosen.predictor == "oracle":
        return NO_CHARGE
    on: Literal["host", "gpu"] = "gpu" if _on_gpu(chosen) else "host"
    if assumed_ns is not None:
        return Charge([assumed_ns] * workload.num_events, on, "assumed", f"assumed_predict_ns: {assumed_ns}")
    if chosen.predictor in FREE:
        return Charge([], "host", "none by definition")
    if chosen.predictor in ON_THE_DEVICE:
        steps = (padded(workload.step_tokens) if pads else workload.step_tokens).tolist()
        return Charge(
            _routers(workload, steps, costs, chosen.prefetch.depth), "gpu", "one more router for each layer ahead"
        )
    time = running_time(chosen.predictor, chosen.predictor_parameters)
    if time is None:
        return Charge([], on, "unknown", f"predictor time of {chosen.predictor}: 0")
    times = 1 if chosen.predictor.startswith("learned-") else chosen.prefetch.depth
    return Charge(_measured(workload, time, times), on, time.ref, _beyond(chosen, workload))


def charged(durations: Durations, cost: Charge) -> Durations:
    """Durations with the time of predictions added."""
    if not cost.ns:
        return durations
    if cost.on == "host":
        return durations._replace(predict=cost.ns)
    return durations._replace(before=[sum(both) for both in zip(durations.before, cost.ns, strict=True)])


def _beyond(chosen: Policy, workload: Workload) -> str | None:
    """The assumption if more tokens run at once than when the time was measured; else None."""
    most = int(workload.step_tokens.max())
    if not is_extrapolated(chosen.predictor_parameters, most):
        return None
    return f"predictor time of {chosen.predictor} with {most} tokens, extrapolated from {MOST_TOKENS}"


def _on_gpu(chosen: Policy) -> bool:
    return chosen.predictor in ON_THE_DEVICE or device_of(chosen.predictor_parameters) == "cuda"


def _measured(workload: Workload, time: RunningTime, times: int) -> list[int]:
    layers = workload.meta.num_layers
    return [times * time.ns(tokens) for tokens in workload.step_tokens.tolist() for _ in range(layers)]


def _routers(workload: Workload, steps: list[int], costs: Costs, depth: int) -> list[int]:
    """Time of the extra routers of each event, ns; `steps` is the number of tokens that kernels run in each step."""
    ahead = [min(depth, workload.meta.num_layers - 1 - layer) for layer in range(workload.meta.num_layers)]
    routers = {tokens: costs.router_ns(tokens, workload.meta.phase) for tokens in set(steps)}
    return [routers[tokens] * count for tokens in steps for count in ahead]

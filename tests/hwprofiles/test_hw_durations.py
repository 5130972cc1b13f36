"""Durations of a run rest on measured curves where there are any."""

from __future__ import annotations

from collections.abc import Callable

from hw_tables import points
from tiny_routed import tiny_routed

from specmoe.hwprofiles import Costs, HardwareProfile, ModelShape
from specmoe.hwprofiles.kernels import Style
from specmoe.sim.config import Home
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.speculate.predictor import no_predictions
from specmoe.sim.timing.durations import durations_of


def test_durations_are_those_measured(make_profile: Callable[..., HardwareProfile], shape: ModelShape) -> None:
    def curve(time: int) -> dict[str, object]:
        return {"points": points([[1, time]], ("token", "ns"))}

    known = {"phase": "decode", "d_model": 8, "format": "fp16"}
    before = known | {"part": "before", "parameters": 1536, "context": 32} | curve(7000)
    head = known | {"part": "head", "parameters": 400, "context": 0} | curve(90)
    expert = {"d_model": 8, "d_ff": 16, "gated": False, "format": "int8"} | curve(500)
    profile = make_profile({"dense_curve": [before, head], "expert_curve": [expert]})
    routed = tiny_routed(4, num_layers=2, num_experts=4)
    workload = routed.workload
    table = decide(workload, no_predictions(workload.num_events), POLICIES["on-demand-lru"], 4)
    costs = Costs(profile, shape, "int8", style=Style("expand", "separate"))
    found = durations_of(workload, table, costs, Home(), [20] * workload.num_steps)
    assert set(found.before) == {7000}
    assert set(found.after) == {90}
    assert set(found.expert) == {500}

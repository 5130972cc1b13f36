"""Experts computed by the worker of a replay, on this machine's CPU."""

import dataclasses

import pytest
import torch

from specmoe.hwprofiles.catalogue import load_shape
from specmoe.hwprofiles.measure.layers import DTYPES, ExpertKernel
from specmoe.hwprofiles.shape import ComputeFormat, Experts, ModelShape
from specmoe.sim.decide.table import CPU, DecisionTable, Recorder
from specmoe.validate.checksums import TOLERANCE
from specmoe.validate.on_cpu import CpuLane
from specmoe.validate.slots import Pool

HERE = torch.device("cpu")


def shape(gated: bool) -> ModelShape:
    return dataclasses.replace(load_shape("switch-base-8"), d_model=64, experts=Experts(8, 1, 48, gated))


def table() -> DecisionTable:
    """Two layers on the CPU: keys 1 and 3 on one and two tokens, and key 9 on two."""
    recorder = Recorder()
    for event, key, tokens in ((0, 1, 1), (0, 3, 2), (1, 9, 2)):
        recorder.use(event, key, tokens, -1, -1, False, 0, CPU)
    return recorder.table(num_steps=1, num_layers=2, num_experts=8, slots=0)


def summed(held: ComputeFormat, gated: bool) -> tuple[torch.Tensor, torch.Tensor, CpuLane]:
    """The worker's sum of layer 0, and that of the kernel of a slot."""
    of = shape(gated)
    pool, kernel = Pool(of, held, 16, HERE), ExpertKernel(of, held, HERE)
    lane = CpuLane(of, pool, threads=1, tokens=2, pinned=False)
    lane.prepare(table())
    lane.hidden.copy_(kernel.input(2))
    lane.hand_over(0, lambda: None)
    lane.join()
    right = torch.zeros(2, of.d_model)
    for key, tokens in ((1, 1), (3, 2)):
        run, output = kernel.bind(pool[key], tokens)
        run()
        right[:tokens] += output
    return lane.result.float(), right, lane


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("held", DTYPES)
def test_a_layers_sum_is_that_of_the_slots_kernel(held: ComputeFormat, gated: bool) -> None:
    found, right, lane = summed(held, gated)
    lane.close()
    assert right.norm() > 0
    assert (found - right).norm() <= TOLERANCE[held] * right.norm()


def test_the_worker_notes_when_it_computed_each() -> None:
    _, _, lane = summed("fp32", False)
    assert 0 < lane.start[0] < lane.end[0] == lane.start[1] < lane.end[1]
    assert (lane.start[2], lane.end[2]) == (-1, -1)
    lane.hand_over(1, lambda: None)
    lane.join()
    assert lane.end[1] < lane.start[2] < lane.end[2]
    lane.close()


def test_what_goes_wrong_in_the_worker_is_raised_at_the_join() -> None:
    _, _, lane = summed("fp32", False)

    def fail() -> None:
        raise RuntimeError("no hidden state")

    lane.hand_over(0, fail)
    with pytest.raises(RuntimeError, match="no hidden state"):
        lane.join()
    lane.close()

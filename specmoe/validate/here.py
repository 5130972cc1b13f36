"""The CUDA device of this machine, for replays."""

from __future__ import annotations

import torch

from specmoe.errors import InputError
from specmoe.hwprofiles.measure.machine import machine_facts
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.run import Scenario
from specmoe.validate.checked import CheckedCudaDevice
from specmoe.validate.cuda import CudaDevice, Model
from specmoe.validate.emulate import stretch
from specmoe.validate.slots import Pool, enough_vram, pool_size
from specmoe.validate.validation import Machine


def this_machine(mine: HardwareProfile, other: HardwareProfile | None = None) -> Machine:
    """The current CUDA device, with another machine's link if told; raises InputError where there is none."""
    device = _device()

    def make(scenario: Scenario, slots: int) -> CudaDevice:
        home = scenario.spec.home.format or scenario.format
        size = scenario.shape.expert_bytes(home)
        longer = 1.0 if other is None else stretch(mine, other, size)
        keys = pool_size(round(size * longer), scenario.num_keys)
        with enough_vram():
            return CudaDevice(_model(scenario), slots, Pool(scenario.shape, home, keys, device, longer))

    return Machine(make, machine_facts(device))


def checked_device(scenario: Scenario) -> CheckedCudaDevice:
    """The current CUDA device with a slot and a pinned copy for every expert, to check what is computed."""
    device, model = _device(), _model(scenario)
    pool = Pool(scenario.shape, model.home, scenario.num_keys, device)
    with enough_vram():
        return CheckedCudaDevice(model, scenario.num_keys, pool)


def _model(scenario: Scenario) -> Model:
    home = scenario.spec.home.format or scenario.format
    return Model(scenario.shape, scenario.trace.meta.phase, scenario.format, home)


def _device() -> torch.device:
    if not torch.cuda.is_available():
        raise InputError(f"no CUDA device: torch {torch.__version__} finds none, and a replay needs one")
    return torch.device("cuda", torch.cuda.current_device())

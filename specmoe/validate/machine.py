"""This machine's CUDA device, for replays."""

import torch

from specmoe.errors import InputError
from specmoe.hwprofiles.kernels import USUAL
from specmoe.hwprofiles.measure.cpu import compute_alone, counts
from specmoe.hwprofiles.measure.machine import machine_facts
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import Format
from specmoe.sim.run import Scenario
from specmoe.validate.cuda import CheckedCudaDevice, CudaDevice
from specmoe.validate.graphs import Model
from specmoe.validate.slots import Pool, enough_vram, free_vram, most_slots_in, pool_size
from specmoe.validate.validation import Machine, stretch


def this_machine(mine: HardwareProfile, other: HardwareProfile | None = None) -> Machine:
    """The current CUDA device, optionally with the link of `other` emulated; raises InputError if there is none."""
    device = _device()

    def longer(scenario: Scenario) -> float:
        return 1.0 if other is None else stretch(mine, other, scenario.shape.expert_bytes(_home(scenario)))

    last: dict[Model, CudaDevice] = {}

    def make(scenario: Scenario, slots: int) -> CudaDevice:
        """The last device again where only policies and the CPU's threads differ; it has the most slots so far."""
        model = _model(scenario)
        if model in last and len(last[model].slots) >= slots:
            last[model].threads = _threads(scenario)
            return last[model]
        for device in last.values():
            device.close()
        last.clear()
        last[model] = fresh(scenario, slots)
        return last[model]

    def fresh(scenario: Scenario, slots: int) -> CudaDevice:
        home, times = _home(scenario), longer(scenario)
        keys = pool_size(round(scenario.shape.expert_bytes(home) * times), scenario.num_keys)
        with enough_vram():
            pool = Pool(scenario.shape, home, keys, device, times)
            return CudaDevice(_model(scenario), slots, pool, _threads(scenario))

    def most_slots(scenario: Scenario) -> int:
        copied = round(scenario.shape.expert_bytes(_home(scenario)) * longer(scenario))
        return most_slots_in(free_vram(device), scenario.expert_bytes, copied)

    return Machine(make, machine_facts(device), most_slots)


def checked_device(scenario: Scenario) -> CheckedCudaDevice:
    """The current CUDA device with a slot and a pinned copy for every expert, for checksums."""
    device, model = _device(), _model(scenario)
    pool = Pool(scenario.shape, model.home, scenario.num_keys, device)
    with enough_vram():
        return CheckedCudaDevice(model, scenario.num_keys, pool, _threads(scenario))


def _model(scenario: Scenario) -> Model:
    style = scenario.config.style or USUAL
    return Model(scenario.shape, scenario.trace.meta.phase, scenario.format, _home(scenario), style)


def _threads(scenario: Scenario) -> int:
    """Threads that compute experts where the CPU does; raises InputError if this machine has no core for each."""
    cpu, most = scenario.costs_on_cpu.cpu if scenario.has_cpu else None, counts()[-1]
    wanted = cpu.computing if cpu else 1
    if scenario.config.threads and wanted > most:
        raise InputError(f"{wanted} threads of the CPU: {most} expected at most, as the host thread has a core alone")
    return min(wanted, most)


def _home(scenario: Scenario) -> Format:
    held: Format = scenario.config.home.format or scenario.format
    return held


def _device() -> torch.device:
    if not torch.cuda.is_available():
        raise InputError(f"no CUDA device: torch {torch.__version__} finds none, and a replay needs one")
    compute_alone()
    return torch.device("cuda", torch.cuda.current_device())

"""A shipped machine with a CPU by hand."""

import dataclasses

from specmoe.hwprofiles import HardwareProfile, Quantity, load_profile
from specmoe.hwprofiles.quantity import QUANTITIES

NUMBERS = {
    "cpu.threads": 8,
    "cpu.read.bandwidth": 42.4e9,
    "cpu.start": 3000,
    "cpu.join": 4000,
    "cpu.fp16.rate": 40e9,
    "cpu.fp16.arithmetic": 500e9,
    "cpu.slowed_by_copy": 0.4,
    "cpu.slows_copy": 0.2,
}


def machine() -> HardwareProfile:
    known = {name: Quantity(value, QUANTITIES[name], "published", "by hand") for name, value in NUMBERS.items()}
    shipped = load_profile("rtx3090")
    return dataclasses.replace(shipped, quantities={**shipped.quantities, **known})

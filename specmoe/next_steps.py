"""What is worth doing with what is installed and at hand."""

from __future__ import annotations

from specmoe.inventory import Inventory
from specmoe.text import install


def next_steps(found: Inventory) -> list[str]:
    """One line each, the most useful first."""
    first = next((name for name in found.matches if name), "rtx3090")
    steps = [f"specmoe advise --model switch-base-128 --profile {first} --vram 8GiB --target 600tok/s"]
    missing = [extra.name for extra in found.extras if extra.missing]
    if missing:
        steps.append(f"{install(missing)} for what the extras above are for")
    if found.gpu.devices:
        steps.append(_for_device(found))
    return steps


def _for_device(found: Inventory) -> str:
    """The first device, for measuring and replaying take the first."""
    name = found.matches[0]
    calibrated = {entry.name: entry.calibration_met is not None for entry in found.profiles}
    if name is None or not calibrated[name]:
        return "specmoe profile measure --out my.toml: this machine's own numbers, in about three minutes"
    return f"specmoe validate switch-mini-128/decode/test --profile {name}: is {name} right about this machine?"

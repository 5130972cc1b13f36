"""Detection of GPUs for measuring, replaying and training, and the reason if there is none."""

from importlib.util import find_spec
from typing import Any, NamedTuple

from specmoe.errors import install


class Device(NamedTuple):
    """A CUDA device."""

    name: str
    vram_bytes: int
    free_bytes: int


class Usable(NamedTuple):
    """Working devices, or the reason why there are none."""

    devices: tuple[Device, ...]
    reason: str | None


def usable_devices() -> Usable:
    """Usable devices, found by importing torch if it is installed."""
    if find_spec("torch") is None:
        return Usable((), f"torch is not installed: {install(['torch'])}")
    try:
        import torch
    except (ImportError, OSError) as error:
        return Usable((), f"torch cannot be imported: {_line(error)}")
    return seen_by(torch)


def seen_by(torch: Any) -> Usable:
    """Devices that torch sees; a device counts if it reports its free memory, for which it must work."""
    if not torch.cuda.is_available():
        built = f"torch {torch.__version__} is built without CUDA" if torch.version.cuda is None else None
        return Usable((), built or f"torch {torch.__version__} finds no CUDA device, or no driver for it")
    try:
        devices = tuple(_device(torch, index) for index in range(torch.cuda.device_count()))
    except RuntimeError as error:
        return Usable((), f"a CUDA device does not work: {_line(error)}")
    return Usable(devices, None)


def _device(torch: Any, index: int) -> Device:
    free, total = torch.cuda.mem_get_info(index)
    return Device(torch.cuda.get_device_name(index), total, free)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

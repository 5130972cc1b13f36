"""Experts' bytes on a CUDA device: one arena of slots, a pool of pinned copies at home, and what fits where."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from specmoe.errors import InputError
from specmoe.hwprofiles.formats import Format
from specmoe.hwprofiles.measure.experts import made_up
from specmoe.hwprofiles.shape import ModelShape

ALIGNMENT = 256  # bytes, as of every allocation: kernels are chosen by it
POOL_BYTES = 1536 << 20  # enough that no cache of the host holds it
FEWEST = 3  # experts of a pool, so that neighbours differ
SPARE_BYTES = 2 << 30  # of the device's memory, for graphs, buffers and dense weights


class Arena:
    """`slots` places in VRAM for `size` bytes each, and one more; each has room for copies of `copied` bytes."""

    def __init__(self, slots: int, size: int, copied: int, device: torch.device) -> None:
        self.size, self.copied = size, copied
        stride = _stride(size, copied)
        require_vram((slots + 1) * stride, device)
        self._bytes = torch.empty((slots + 1, stride), dtype=torch.uint8, device=device)

    def __len__(self) -> int:
        return len(self._bytes) - 1

    def __getitem__(self, slot: int) -> Tensor:
        """The bytes of a slot, [size]; -1 is one more, beside those that loads go to."""
        return self._bytes[slot, : self.size]

    def target(self, slot: int) -> Tensor:
        """Where a copy into a slot goes, [copied]."""
        return self._bytes[slot, : self.copied]


class Pool:
    """Experts at home in pinned host memory: all `keys`, or fewer that stand in for them: what they hold costs nothing.

    `stretch` above 1 makes every copy so much longer: what the copy engine of a slower link would take.
    """

    def __init__(self, shape: ModelShape, held: Format, keys: int, device: torch.device, stretch: float = 1) -> None:
        self.size = shape.expert_bytes(held)
        self.copied = round(self.size * stretch)
        try:
            self._bytes = torch.empty((keys, self.copied), dtype=torch.uint8, pin_memory=device.type == "cuda")
        except RuntimeError as error:
            wanted, why = keys * self.copied / 2**30, str(error).splitlines()[0]
            raise InputError(f"{wanted:.1f} GiB of pinned host memory cannot be had: {why}") from None
        for key in range(keys):
            self._bytes[key, : self.size] = made_up(shape.expert_parameters, held, device, seed=key).cpu()

    def __getitem__(self, key: int) -> Tensor:
        """The expert of a key, [size]."""
        return self.source(key)[: self.size]

    def source(self, key: int) -> Tensor:
        """The bytes that a load of a key copies, [copied]: the expert first."""
        return self._bytes[key % len(self._bytes)]


def pool_size(expert_bytes: int, keys: int) -> int:
    """Experts that stand in for all of them where contents do not matter."""
    return min(keys, max(FEWEST, POOL_BYTES // expert_bytes))


@contextmanager
def enough_vram() -> Iterator[None]:
    """Turn what torch says when the device's memory runs out into an InputError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(f"out of VRAM: {str(error).splitlines()[0]}") from None


def most_slots_in(free: int, size: int, copied: int) -> int:
    """Slots of an arena in so many free bytes of VRAM, beside what else a replay needs; may be below 0."""
    return (free - SPARE_BYTES) // _stride(size, copied) - 1


def _stride(size: int, copied: int) -> int:
    return -(-max(size, copied) // ALIGNMENT) * ALIGNMENT


def free_vram(device: torch.device) -> int:
    """Bytes that can be had on a CUDA device once former slots are gone."""
    gc.collect()  # slots of former devices, which their graphs refer to in a circle
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def require_vram(wanted: int, device: torch.device) -> None:
    """Raise InputError unless so many bytes, and what else a replay needs, are free."""
    if device.type != "cuda":
        return
    free = free_vram(device)
    if wanted + SPARE_BYTES > free:
        slots, rest, there = (f"{amount / 2**30:.1f} GiB" for amount in (wanted, SPARE_BYTES, free))
        raise InputError(f"the slots need {slots} of VRAM and the rest {rest}: {there} are free")

"""Memory of a replay: an arena of slots in VRAM, a pool of pinned experts at home, and checks of free VRAM."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from specmoe.errors import InputError
from specmoe.hwprofiles.measure.experts import made_up
from specmoe.hwprofiles.shape import Format, ModelShape

ALIGNMENT = 256  # bytes, as in every allocation, because libraries choose kernels by alignment
POOL_BYTES = 1536 << 20  # more than any cache of the host holds
MIN_POOL_EXPERTS = 3  # so that successive experts differ
SPARE_BYTES = 2 << 30  # of VRAM, for graphs, buffers and dense weights


class Arena:
    """Arena of `slots` slots in VRAM of `size` bytes each, plus an extra one; each can receive `copied` bytes."""

    def __init__(self, slots: int, size: int, copied: int, device: torch.device) -> None:
        self.size, self.copied = size, copied
        stride = _stride(size, copied)
        require_vram((slots + 1) * stride, device)
        self._bytes = torch.empty((slots + 1, stride), dtype=torch.uint8, device=device)

    def __len__(self) -> int:
        return len(self._bytes) - 1

    @property
    def all(self) -> Tensor:
        """Bytes of all slots, [slots + 1, stride]; the extra one is last."""
        return self._bytes

    def __getitem__(self, slot: int) -> Tensor:
        """Bytes of a slot, [size]; -1 is the extra slot, which no load uses."""
        return self._bytes[slot, : self.size]

    def target(self, slot: int) -> Tensor:
        """Target of a copy into a slot, [copied]."""
        return self._bytes[slot, : self.copied]


class Pool:
    """Experts at home in pinned host memory: `keys` of them, which stand in for more if contents do not matter.

    `stretch` above 1 lengthens every copy by this factor, to emulate a slower link.
    """

    def __init__(self, shape: ModelShape, held: Format, keys: int, device: torch.device, stretch: float = 1) -> None:
        self.held, self.size = held, shape.expert_bytes(held)
        self.copied = round(self.size * stretch)
        try:
            self._bytes = torch.empty((keys, self.copied), dtype=torch.uint8, pin_memory=device.type == "cuda")
        except RuntimeError as error:
            wanted, why = keys * self.copied / 2**30, str(error).splitlines()[0]
            raise InputError(f"{wanted:.1f} GiB of pinned host memory cannot be allocated: {why}") from None
        for key in range(keys):
            self._bytes[key, : self.size] = made_up(shape.expert_parameters, held, device, seed=key).cpu()

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, key: int) -> Tensor:
        """Expert of a key, [size]."""
        return self.source(key)[: self.size]

    def source(self, key: int) -> Tensor:
        """Bytes that a load of a key copies, [copied]; the expert comes first."""
        return self._bytes[key % len(self._bytes)]


def pool_size(expert_bytes: int, keys: int) -> int:
    """Number of experts in a pool that stands in for all `keys`, if contents do not matter."""
    return min(keys, max(MIN_POOL_EXPERTS, POOL_BYTES // expert_bytes))


@contextmanager
def enough_vram() -> Iterator[None]:
    """Raise InputError if VRAM runs out inside the block."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(f"out of VRAM: {str(error).splitlines()[0]}") from None


def most_slots_in(free: int, size: int, copied: int) -> int:
    """Number of slots that fit into `free` bytes of VRAM beside everything else of a replay; may be negative."""
    return (free - SPARE_BYTES) // _stride(size, copied) - 1


def _stride(size: int, copied: int) -> int:
    return -(-max(size, copied) // ALIGNMENT) * ALIGNMENT


def free_vram(device: torch.device) -> int:
    """Free bytes on a CUDA device after former slots are released."""
    gc.collect()  # slots of former devices, in reference cycles with their graphs
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def require_vram(wanted: int, device: torch.device) -> None:
    """Raise InputError unless `wanted` bytes are free in VRAM beside everything else of a replay."""
    if device.type != "cuda":
        return
    free = free_vram(device)
    if wanted + SPARE_BYTES > free:
        slots, rest, there = (f"{amount / 2**30:.1f} GiB" for amount in (wanted, SPARE_BYTES, free))
        raise InputError(f"the slots need {slots} of VRAM and the rest {rest}: {there} are free")

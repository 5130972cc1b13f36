"""Memory of a replay: an arena of slots in VRAM, a pool of pinned experts at home, and checks of free VRAM."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.cuda import Event, Stream

from specmoe.errors import InputError
from specmoe.hwprofiles.measure.experts import made_up
from specmoe.hwprofiles.shape import Format, ModelShape

ALIGNMENT = 256  # bytes, as in every allocation, because libraries choose kernels by alignment
POOL_BYTES = 1536 << 20  # more than any cache of the host holds
MIN_POOL_EXPERTS = 3  # so that successive experts differ
SPARE_BYTES = 2 << 30  # of VRAM, for graphs, buffers and dense weights


class Arena:
    """Arena of `slots` slots in VRAM of `size` bytes each, plus an extra one; each can receive `copied` bytes.

    `spare` bytes must stay free beside it.
    """

    def __init__(self, slots: int, size: int, copied: int, device: torch.device, spare: int = SPARE_BYTES) -> None:
        self.size, self.copied = size, copied
        stride = _stride(size, copied)
        require_vram((slots + 1) * stride, device, spare)
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
        self._bytes = host_memory(keys, self.copied, device.type == "cuda")
        for key in range(keys):
            self._bytes[key, : self.size].copy_(made_up(shape.expert_parameters, held, device, seed=key))

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, key: int) -> Tensor:
        """Expert of a key, [size]."""
        return self.source(key)[: self.size]

    def source(self, key: int) -> Tensor:
        """Bytes that a load of a key copies, [copied]; the expert comes first."""
        return self._bytes[key % len(self._bytes)]


class CopyStream:
    """The stream that fills slots, of replays and of live models.

    It has the rule of slot reuse: a copy begins once `reader`, the last kernel that reads the slot's former expert, has
    ended.
    """

    def __init__(self, device: torch.device, compute: Stream) -> None:
        self.stream, self._compute = Stream(device), compute  # type: ignore[no-untyped-call]  # torch's own gap

    def issue(self, reader: Event, target: Tensor, source: Tensor, start: Event | None, end: Event) -> None:
        """Issue a copy between two events; current is then the stream that computes."""
        torch.cuda.set_stream(self.stream)
        self.stream.wait_event(reader)
        if start is not None:
            start.record(self.stream)
        target.copy_(source, non_blocking=True)
        end.record(self.stream)
        torch.cuda.set_stream(self._compute)


def host_memory(rows: int, size: int, pinned: bool) -> Tensor:
    """Bytes [rows, size] in host memory; raises InputError if they cannot be had."""
    try:
        return torch.empty((rows, size), dtype=torch.uint8, pin_memory=pinned)
    except RuntimeError as error:
        kind, why = "pinned host memory" if pinned else "host memory", str(error).splitlines()[0]
        raise InputError(f"{rows * size / 2**30:.1f} GiB of {kind} cannot be allocated: {why}") from None


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


def require_vram(wanted: int, device: torch.device, spare: int = SPARE_BYTES) -> None:
    """Raise InputError unless `wanted` bytes are free in VRAM beside `spare`, which is the rest of a replay."""
    if device.type != "cuda":
        return
    free = free_vram(device)
    if wanted + spare > free:
        slots, rest, there = (f"{amount / 2**30:.1f} GiB" for amount in (wanted, spare, free))
        raise InputError(f"the slots need {slots} of VRAM and the rest {rest}: {there} are free")

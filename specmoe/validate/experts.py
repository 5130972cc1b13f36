"""Experts of a real model: at home in host memory, copied into slots, and computed there by the model's own code.

A class keeps its experts either as modules (Switch) or stacked, one tensor for each matrix (the others).
"""

import copy
from collections.abc import Callable, Sequence
from math import prod
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.cuda import Event
from torch.nn import Module, ModuleDict, Parameter, functional

from specmoe.hwprofiles.measure.layers import compress, expand
from specmoe.hwprofiles.shape import Format, is_expandable
from specmoe.validate.slots import Arena, CopyStream, host_memory

Compute = Callable[[Tensor], Tensor]
CYCLES_PER_NS = 2.0  # of a GPU's clock, at most: holding a device takes a little longer than asked
Mark = Any  # a time on the device: an event, or ns where host and device are one


def views_of(layer: Any) -> list[list[Tensor]]:
    """The weights of each expert of a layer, as views of the model's own."""
    if isinstance(layer, ModuleDict):
        return [[weight.data for weight in expert.parameters()] for expert in layer.values()]
    return [list(rows) for rows in zip(*(weight.data for weight in layer.parameters()), strict=True)]


def round_experts(layer: Any, held: Format) -> None:
    """Round the experts of a layer to int8 or int4 and back, as a home in that format does."""
    for views in views_of(layer):
        weights = torch.cat([view.reshape(-1) for view in views])
        out = torch.empty_like(weights)
        expand(compress(weights, held), held, weights.numel(), out.view(torch.uint8))
        for view, part in zip(views, out.split([view.numel() for view in views]), strict=True):  # type: ignore[no-untyped-call]
            view.copy_(part.view(view.shape))


class Code:
    """The code of a model's experts, without weights, and the shapes of an expert's weights by their names."""

    def __init__(self, layer: Any) -> None:
        self._separate = isinstance(layer, ModuleDict)
        shell = copy.deepcopy(next(iter(layer.values()))) if self._separate else copy.copy(layer)
        names = [name for name, _ in shell.named_parameters()]
        views = views_of(layer)[0]
        self.shapes = {name: view.shape for name, view in zip(names, views, strict=True)}
        self.dtype = views[0].dtype
        if self._separate:
            shell.to("meta")
        else:
            shell._parameters = {}
        self._shell = shell

    @property
    def parameters(self) -> int:
        """Number of weights of an expert."""
        return sum(map(prod, self.shapes.values()))

    def bound(self, weights: Tensor) -> Compute:
        """The expert whose weights these are, now and later."""
        parts = weights.split([prod(shape) for shape in self.shapes.values()])  # type: ignore[no-untyped-call]
        named = {name: part.view(shape) for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)}
        return self._module(named) if self._separate else self._function(named)

    def _module(self, weights: dict[str, Tensor]) -> Compute:
        module: Module = copy.deepcopy(self._shell)
        for name, weight in weights.items():
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, Parameter(weight, requires_grad=False))
        return module

    def _function(self, weights: dict[str, Tensor]) -> Compute:
        gate = self._shell._apply_gate
        up, down = (_product(weights[name], weights.get(f"{name}_bias")) for name in ("gate_up_proj", "down_proj"))
        return lambda hidden: down(gate(up(hidden)))


def _product(weight: Tensor, bias: Tensor | None) -> Compute:
    """A product as the stacked classes compute it; the one with biases keeps its matrices transposed."""
    if bias is None:
        return lambda hidden: functional.linear(hidden, weight)
    return lambda hidden: hidden @ weight + bias


class Home:
    """Experts of some MoE layers in host memory (pinned for a GPU), by key; int8 and int4 are expanded on arrival."""

    def __init__(self, layers: Sequence[Any], held: Format, pinned: bool) -> None:
        self.code, self.held, self.expands = Code(layers[0]), held, is_expandable(held)
        self.size = self.code.parameters * self.code.dtype.itemsize  # bytes in a slot
        self._bytes = torch.empty(0)
        experts = [views for layer in layers for views in views_of(layer)]
        for key, views in enumerate(experts):
            weights = torch.cat([view.reshape(-1) for view in views])
            arrives = compress(weights, held) if self.expands else weights.view(torch.uint8)
            if key == 0:
                self._bytes = host_memory(len(experts), len(arrives), pinned)
            self._bytes[key].copy_(arrives)

    @property
    def copied(self) -> int:
        """Bytes that a load copies."""
        return int(self._bytes.shape[1])

    def __len__(self) -> int:
        """Number of experts."""
        return len(self._bytes)

    def __getitem__(self, key: int) -> Tensor:
        """Bytes of an expert."""
        return self._bytes[key]


class Link(Protocol):
    """Copies into slots, in the order in which they are issued, beside what computes."""

    copies: list[tuple[Mark, Mark]] | None  # begin and end of every copy, if they are wanted

    def hold(self, ns: int) -> None:
        """Keep the device busy for about this long before what is launched next."""

    def stalled_ns(self) -> int:
        """Time for which computing has waited for copies."""

    def copy(self, slot: int, target: Tensor, source: Tensor) -> None:
        """Issue a copy into a slot; it begins once the last reader of the slot has ended."""

    def wait(self, slot: int) -> bool:
        """Let what is launched next wait until the slot's copy has landed; false if it had landed already."""

    def read(self, slot: int) -> None:
        """Take note that everything launched so far may read the slot."""

    def mark(self) -> Mark:
        """The time at which the device gets here."""

    def times(self, marks: Sequence[Mark]) -> NDArray[np.int64]:
        """Times of marks on the host's clock, ns; waits for them."""


class HostLink:
    """Copies in host memory, each done when its call returns."""

    def __init__(self) -> None:
        self.copies: list[tuple[Mark, Mark]] | None = None
        self._stalled = 0

    def hold(self, ns: int) -> None:
        """What is launched has ended."""

    def stalled_ns(self) -> int:
        """All copies."""
        return self._stalled

    def copy(self, slot: int, target: Tensor, source: Tensor) -> None:
        """Copy at once."""
        begin = perf_counter_ns()
        target.copy_(source)
        end = perf_counter_ns()
        self._stalled += end - begin
        if self.copies is not None:
            self.copies.append((begin, end))

    def wait(self, slot: int) -> bool:
        """It has landed."""
        return False

    def read(self, slot: int) -> None:
        """Readers have ended when they return."""

    def mark(self) -> Mark:
        """The host's clock."""
        return perf_counter_ns()

    def times(self, marks: Sequence[Mark]) -> NDArray[np.int64]:
        """They are times already."""
        return np.array(marks, np.int64)


class CudaLink:
    """Copies on a stream of their own, by the replayer's rule of slot reuse."""

    def __init__(self, device: torch.device) -> None:
        self.copies: list[tuple[Mark, Mark]] | None = None
        self._compute = torch.cuda.current_stream(device)
        self._stream = CopyStream(device, self._compute)
        self._landed: dict[int, Event] = {}
        self._read: dict[int, Event] = {}
        self._waits: list[tuple[Mark, Mark]] = []
        self._past = _event(self._compute)
        torch.cuda.synchronize(device)
        self._base = _event(self._compute)
        self._base.synchronize()
        self._base_ns = perf_counter_ns()

    def copy(self, slot: int, target: Tensor, source: Tensor) -> None:
        """Issue it behind the slot's last reader."""
        timed = (_event(), _event()) if self.copies is not None else (None, Event())  # type: ignore[no-untyped-call]
        self._stream.issue(self._read.get(slot, self._past), target, source, *timed)
        self._landed[slot] = timed[1]
        if self.copies is not None:
            self.copies.append(timed)

    def wait(self, slot: int) -> bool:
        """The compute stream waits, not the host, whose work is the same where the copy has landed."""
        landed = self._landed[slot]
        late: bool = not landed.query()  # type: ignore[no-untyped-call]
        begin = _event(self._compute)
        self._compute.wait_event(landed)
        wait = begin, _event(self._compute)
        if late:
            self._waits.append(wait)
        return late

    def hold(self, ns: int) -> None:
        """A kernel that counts clock cycles."""
        torch.cuda._sleep(round(ns * CYCLES_PER_NS))  # type: ignore[no-untyped-call]

    def stalled_ns(self) -> int:
        """Sum of the compute stream's waits."""
        torch.cuda.synchronize()
        return round(1e6 * sum(float(begin.elapsed_time(end)) for begin, end in self._waits))

    def read(self, slot: int) -> None:
        """Record where the compute stream stands."""
        if slot not in self._read:
            self._read[slot] = Event()  # type: ignore[no-untyped-call]
        self._read[slot].record(self._compute)

    def mark(self) -> Mark:
        """An event on the compute stream."""
        return _event(self._compute)

    def times(self, marks: Sequence[Mark]) -> NDArray[np.int64]:
        """Both clocks were related when the link was made."""
        torch.cuda.synchronize()
        since = [self._base.elapsed_time(mark) for mark in marks]  # ms
        return self._base_ns + np.round(np.array(since, np.float64) * 1e6).astype(np.int64)


def _event(stream: Any = None) -> Event:
    """A timed event, recorded if a stream is given."""
    event = Event(enable_timing=True)  # type: ignore[no-untyped-call]
    if stream is not None:
        event.record(stream)
    return event


class Slots:
    """Slots of the device, what is in them, and the link that fills them."""

    def __init__(self, homes: Sequence[Home], count: int, device: torch.device, link: Link) -> None:
        self.link, self.late = link, 0  # uses launched before their load had landed
        size, copied = max(home.size for home in homes), max(home.copied for home in homes)
        expands = homes[0].expands
        self.size = size  # bytes
        self.arena = Arena(
            count, size, 0 if expands else copied, device, spare=0
        )  # a live model's rest is there already
        self._landing = Arena(count, copied, copied, device, spare=0) if expands else self.arena
        self._fresh: set[int] = set()  # slots whose expert has not been expanded
        self._bound = [{id(home): self._code(home, slot) for home in homes} for slot in range(count)]

    def load(self, home: Home, key: int, slot: int) -> None:
        """Issue a load."""
        self.link.copy(slot, self._landing.target(slot)[: home.copied], home[key])
        if home.expands:
            self._fresh.add(slot)

    def free(self) -> None:
        """Give the memory back; what the link knows stays."""
        self._bound.clear()
        del self.arena, self._landing

    def landed(self, home: Home, slot: int) -> Tensor:
        """Bytes of the expert that arrived for a slot."""
        return self._landing[slot][: home.copied]

    def run(self, home: Home, slot: int, hidden: Tensor) -> Tensor:
        """Launch the expert in a slot."""
        self.late += self.link.wait(slot)
        if slot in self._fresh:
            self._fresh.remove(slot)
            expand(self.landed(home, slot), home.held, home.code.parameters, self.arena[slot][: home.size])
        result = self._bound[slot][id(home)](hidden)
        self.link.read(slot)
        return result

    def _code(self, home: Home, slot: int) -> Compute:
        return home.code.bound(self.arena[slot][: home.size].view(home.code.dtype))

"""The CUDA device of a replay: two streams, captured graphs, and loads as asynchronous copies; and its checksums.

Host work is constant: every copy waits for an event (of the last reader of its slot, or one long past), every expert
too (of its load, or one long past), and each records one. `graphs.py` prepares these calls. `CheckedCudaDevice` also
sums the bits of every expert's output, and keeps the sum of each layer.
"""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.cuda import Event

from specmoe.sim.decide.table import CPU, GPU
from specmoe.validate import graphs
from specmoe.validate.replayer import DeviceTimes, Times, Work

CLOCK_TRIES = 20
TRUTH_SLOT = -1  # the extra slot, which no load uses
BITS = {2: torch.int16, 4: torch.int32}  # integer type by bytes per number


class CudaDevice(graphs.Prepared):
    """`Device` on the current CUDA device; its methods are in the order of `replayer`."""

    def begin(self, traced: bool) -> None:
        """Start a run: wait until the device is idle, wake the CPU's threads, and relate both clocks."""
        self._traced = traced
        torch.cuda.set_stream(self.compute)
        if self.in_groups:
            self.groups.rewind()
        torch.cuda.synchronize(self.device)
        if self._lane:
            self._lane.wake()
        for _ in range(CLOCK_TRIES):
            self._base = graphs.timed()
            before = self.now()
            self._base.record(self.compute)
            self._base.synchronize()
            self._base_ns = (before + self.now()) // 2

    def now(self) -> int:
        """The host's clock, ns."""
        return time.perf_counter_ns()

    def launch_dense(self, event: int) -> None:
        """Launch everything up to the router of an event."""
        self._run(self._dense[event])

    def wait_for_router(self, event: int) -> None:
        """Wait until the router's result of an event is in host memory."""
        self._dense[event].end.synchronize()

    def fetch(self, event: int) -> None:
        """Issue the copy of an event's hidden state into host memory."""
        join = self._joins[event]
        join.at_host.copy_(join.hidden, non_blocking=True)
        join.fetched.record(self.compute)

    def hand_over(self, event: int) -> None:
        """Have the CPU compute its experts of an event, as soon as the hidden state is there."""
        assert self._lane
        self._lane.hand_over(event, self._joins[event].fetched.synchronize)

    def join(self, event: int) -> None:
        """Wait for the CPU's experts, and issue the copy of their result and its addition."""
        assert self._lane
        _, _, result, sent, total, _, copied, added = self._joins[event]
        self._lane.join()
        sent.copy_(result, non_blocking=True)
        copied.record(self.compute)
        total.add_(sent)
        added.record(self.compute)

    def think(self, ns: int) -> None:
        """Keep the host thread busy for `ns`."""
        until = time.perf_counter_ns() + ns
        while time.perf_counter_ns() < until:
            pass

    def issue(self, load: int) -> None:
        """Issue a load's copy into its slot."""
        wait, target, source, start, end = self._loads[load]
        self.copy.issue(wait, target, source, start if self._traced else None, end)

    def launch(self, use: int) -> None:
        """Launch the group of experts that ends with `use`; it waits for the loads of all of them."""
        self._run(self._uses[use])

    def _run(self, launch: graphs.Launch) -> None:
        wait, graph, start, end = launch
        self.compute.wait_event(wait)
        if self._traced:
            start.record(self.compute)
        graph.replay()
        end.record(self.compute)

    def launch_head(self, step: int) -> None:
        """Launch everything after the last MoE layer of a step."""
        self._run(self._heads[step])

    def end_step(self, step: int) -> None:
        """Wait for everything launched in a step."""
        self._heads[step].end.synchronize()

    def end(self) -> DeviceTimes:
        """End the run and return the times on the device."""
        torch.cuda.synchronize(self.device)
        torch.cuda.set_stream(torch.cuda.default_stream(self.device))
        dense, loads, heads = (self._times(row) for row in (self._dense, self._loads, self._heads))
        uses, joins = self._times_of_uses(), self._times_of_joins()
        return DeviceTimes(*dense, *uses, *loads, *heads, *joins)

    def _times_of_uses(self) -> tuple[Times, Times]:
        """Starts and ends of all uses, on the device or on the CPU."""
        start, end = (np.full(len(self.work.tokens), -1, np.int64) for _ in range(2))
        if self._lane and self._joins:
            start, end = np.array(self._lane.start, np.int64), np.array(self._lane.end, np.int64)
        rows = list(self._uses)
        start[rows], end[rows] = self._times(list(self._uses.values()))
        return start, end

    def _times_of_joins(self) -> tuple[Times, Times]:
        """Times at which the CPU's result is on the device and has been added, [events]."""
        copied, added = (np.full(len(self._dense), -1, np.int64) for _ in range(2))
        rows = list(self._joins)
        copied[rows] = self._ns([join.copied for join in self._joins.values()])
        added[rows] = self._ns([join.added for join in self._joins.values()])
        return copied, added

    def _times(self, calls: list[graphs.Launch] | list[graphs.Copy]) -> tuple[Times, Times]:
        ends = self._ns([call.end for call in calls])
        return (self._ns([call.start for call in calls]) if self._traced else np.full_like(ends, -1)), ends

    def _ns(self, events: list[Event]) -> Times:
        """Times of events on the host's clock, ns."""
        since = [self._base.elapsed_time(event) for event in events]  # ms
        return self._base_ns + np.round(np.array(since, np.float64) * 1e6).astype(np.int64)


class CheckedCudaDevice(CudaDevice):
    """CUDA device that sums the bits of every expert's output after its kernel; the pool must hold every key."""

    def prepare(self, work: Work) -> None:
        """Prepare a run, and put experts that are resident from the start into their slots."""
        super().prepare(work)
        uses = work.table.uses
        resident = (uses.load < 0) & (uses.where == GPU)
        for slot, key in sorted(set(zip(uses.slot[resident].tolist(), uses.key[resident].tolist(), strict=True))):
            self.settle(slot, key)
        self._members = {group[-1]: group for group in graphs.members_of(work)}
        self._sums = torch.zeros(len(work.tokens), dtype=torch.int64, device=self.device)
        self._of_layers: dict[int, Tensor] = {}
        torch.cuda.synchronize(self.device)

    def hand_over(self, event: int) -> None:
        """Have the CPU compute, and begin the sum of the layer."""
        super().hand_over(event)
        self._joins[event].total.zero_()

    def join(self, event: int) -> None:
        """Join the CPU's result, and keep the sum of the layer."""
        super().join(event)
        self._of_layers[event] = self._joins[event].total.clone()

    def launch(self, use: int) -> None:
        """Launch a group of experts and the sums of their outputs."""
        super().launch(use)
        if not self.in_groups:
            output = self.kernel.output(self.work.tokens[use])
            torch.sum(self._bits(output), 0, dtype=torch.int64, out=self._sums[use])
            join = self._joins.get(int(self.work.table.uses.event[use]))
            if join:
                self._add(join.total, output, use)
            return
        begin = 0
        for member in self._members[use]:
            tokens = self.work.tokens[member]
            rows = self.groups.out[begin : begin + tokens]
            torch.sum(self._bits(rows), 0, dtype=torch.int64, out=self._sums[member])
            begin += tokens

    def outputs(self) -> NDArray[np.int64]:
        """Checksum of every expert's output in the last run, [uses]."""
        return self._sums.cpu().numpy()

    def truth(self) -> NDArray[np.int64]:
        """Correct checksums, [uses], computed in the extra slot, which no load uses; 0 of uses on the CPU."""
        checksums: dict[tuple[int, int, int], int] = {}
        most = {use: max(self.work.tokens[m] for m in group) for group in self._members.values() for use in group}
        keys, right = self.work.table.uses.key.tolist(), np.zeros(len(self.work.tokens), np.int64)
        for use, size in most.items():
            alone = (keys[use], self.work.tokens[use], size)
            if alone not in checksums:
                checksums[alone] = int(self._bits(self._alone(*alone)).sum(dtype=torch.int64))
            right[use] = checksums[alone]
        return right

    def errors(self) -> NDArray[np.float64]:
        """Distance of each layer's sum from that of the same experts all computed on the device, as a share, [events].

        0 where the CPU computes none.
        """
        uses, found = self.work.table.uses, np.zeros(len(self._dense))
        for event, total in self._of_layers.items():
            right = torch.zeros_like(total)
            for use in np.flatnonzero(uses.event == event).tolist():
                tokens = int(uses.tokens[use]) if uses.where[use] == CPU else self.work.tokens[use]
                self._add(right, self._alone(int(uses.key[use]), tokens, tokens), use)
            found[event] = float((total - right).norm() / right.norm())
        return found

    def _add(self, total: Tensor, output: Tensor, use: int) -> None:
        """Add the rows of a use's tokens."""
        rows = int(self.work.table.uses.tokens[use])
        total[:rows].add_(output[:rows])

    def _alone(self, key: int, tokens: int, most: int) -> Tensor:
        """Output of an expert alone, computed by the kernel of a group of which one has `most` tokens."""
        self.settle(TRUTH_SLOT, key)
        torch.cuda.synchronize(self.device)
        with torch.cuda.stream(self.compute):
            if not self.in_groups:
                self.expert(TRUTH_SLOT, tokens, False).replay()
                return self.kernel.output(tokens)
            from specmoe.hwprofiles.measure.fused import MOST_TOKENS, padded_tokens

            launch = [(len(self.slots), tokens)]
            graph = self.group(launch, padded_tokens(min(most, MOST_TOKENS)))
            self.groups.prepare([launch])
            graph.replay()
            return self.groups.out[:tokens]

    def _bits(self, output: Tensor) -> Tensor:
        return output.view(BITS[output.itemsize]).view(-1)

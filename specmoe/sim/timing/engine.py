"""The engine: a run as clocks (host thread, compute stream, copy engine, CPU lane) in integer nanoseconds.

For every event the host launches the dense part and the router and waits for the router's result. Then it decides,
issues loads, predicts and launches experts, none of which it waits for. The compute stream runs what was launched in
order, each expert when its load has landed. At the end of a step the host waits for the compute stream.

A launch serves a group of experts (`program.groups_of`) and begins when all of them have landed. Its first use pays for
the launch and its last use takes its time; the others take none, and each waits for its own load. Where the routing
stays on the device (`runs_ahead`) the host launches layer after layer and waits at the end of a step only.

Within an event the host's clock never depends on a copy, so the host runs ahead in one go (`host`), and what it
launched is then placed on the compute stream's clock (`compute`). The simulation waits for a copy only if its landing
cannot be computed beforehand. `program` gives the order of everything, `link` that of copies.

Experts on the CPU (`cpu_lane`) are handed over as soon as the host has decided, and computed while it issues and
launches everything else. When the host has done so it waits for them, has their result copied back and adds it to what
the compute stream has computed; only then it goes on to the next dense part.

Computing beside a copy takes longer by a share of that time (`interference`), but only on a FIFO link: on the others
the copies beside a kernel are not known when it starts.
"""

from array import array
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.config import Order
from specmoe.sim.decide.program import program_of
from specmoe.sim.decide.table import DecisionTable, column, packed_rows, unpacked, uses_on_cpu
from specmoe.sim.timing.cpu_lane import Interval
from specmoe.sim.timing.durations import Durations, require_at_hand, require_possible
from specmoe.sim.timing.link import NOT_YET, FifoLink, PriorityLink

Times = NDArray[np.int64]


class Timing(NamedTuple):
    """When everything of a `DecisionTable` happened, ns from the start of the run."""

    begin: Times  # [events], the host launches the dense part
    ready: Times  # [events], the host knows the router's result; where it does not wait for that, the router ends
    host: Times  # [events], time the host thread works; that for the end of a step is in its last event
    stall: Times  # [events], time the compute stream waits for loads
    slowed: Times  # [events], time that its work takes longer because of copies under way
    cpu: Times  # [events], time the CPU computes experts
    cpu_stall: Times  # [events], time the compute stream waits for their result
    end: Times  # [events], the last expert ends, and what the CPU computed has been added
    step_end: Times  # [steps], the host knows that the step has ended
    use_start: Times  # [uses]
    use_end: Times  # [uses]
    issued: Times  # [loads]
    fetched: Times  # [loads], in host memory; `issued` where it always was
    started: Times  # [loads]
    landed: Times  # [loads]


def simulate(table: DecisionTable, durations: Durations, order: Order = "fifo", chunk: int | None = None) -> Timing:
    """Execute decisions on all clocks. `chunk` is the longest uninterrupted part of a chunked prefetch, ns.

    Raises InputError for a duration below 0.
    """
    require_possible(durations)
    return Engine(table, durations, order, chunk).run()


class Engine:
    """One run of a decision table."""

    def __init__(self, table: DecisionTable, durations: Durations, order: Order, chunk: int | None) -> None:
        self.env = simpy.Environment()
        self.table, self.durations = table, durations
        self.program = program_of(table, any(durations.predict), durations.launching)
        self.use_start = column(len(table.uses.event))
        self.use_end = column(len(table.uses.event) + 1, NOT_YET)
        self.use_end[-1] = 0  # of no use, -1
        self.link = self._link(order, chunk)
        self.on_cpu = uses_on_cpu(table)
        self.interference = durations.interference if order == "fifo" else 0
        self.events = array("q")
        self.step_end = array("q")

    def _link(self, order: Order, chunk: int | None) -> FifoLink | PriorityLink:
        copy, read, program = self.durations.copy, self.durations.read, self.program
        if self.table.cpu_uses:
            require_at_hand(read, copy)
        if order == "fifo":
            return FifoLink(self.env, copy, read, program.previous, program.reader, self.use_end, self.durations.cpu)
        if read or 0 in copy:
            where = "on NVMe" if read else "compressed in VRAM"
            raise InputError(f"link order {order}: not simulated for experts {where}: fifo expected")
        if order == "chunked" and not chunk:
            raise InputError(f"link order chunked: chunk of {chunk} ns: at least 1 ns expected")
        demand, chunk = self.table.loads.demand.tolist(), chunk if order == "chunked" else None
        return PriorityLink(self.env, demand, copy, program.previous, program.reader, self.use_end, chunk)

    def run(self) -> Timing:
        """Run all steps and return their times."""
        self.env.run(self.env.process(self.steps()))
        self.env.run(self.env.process(self.link.finish()))
        events = unpacked(self.events).reshape(-1, 8).T  # views: a copy would be a ninth of all memory
        link = self.link
        loads = (link.issued, link.fetched, link.started, link.landed)
        last = np.array(self.program.last, np.int64)  # the times of a launch are those of its last use
        used = (unpacked(times)[last] for times in (self.use_start, self.use_end))
        rest = (unpacked(self.step_end), *used, *map(unpacked, loads))
        return Timing(*events, *rest)

    def steps(self) -> Generator[Any, Any, None]:
        """The process of the host thread."""
        env, link, layers, costs = self.env, self.link, self.table.num_layers, self.durations.host
        handover, sync, begins = costs.event_ns, costs.sync_ns, costs.begin_ns
        *launches, launch_head = self.durations.launch_dense or [costs.launch_dense_ns] * (layers + 1)
        before, expert, after = self.durations.before, self.durations.expert, self.durations.after
        use_start, use_end, load_of = self.use_start, self.use_end, packed_rows(self.table.uses.load)
        wait_each_layer, runs_ahead = self.durations.sync_each_layer, self.durations.runs_ahead
        host = compute = 0
        for event in range(self.table.num_steps * layers):
            begin, launch_dense = host, launches[event % layers]
            start = max(compute, host + launch_dense + begins)
            compute, slowed = self._end(start, before[event])
            if runs_ahead:
                ready = compute
                decided = host = host + launch_dense
            else:
                yield env.timeout(compute + sync - env.now)
                decided = ready = compute + sync
                host = ready + costs.bookkeeping_ns
            host, launched, on_cpu = self._hand_out(event, ready, host)
            worked = launch_dense + host - decided
            stall = cpu_stall = 0
            for use, at in launched:
                start = compute if compute > at else at
                load = load_of[use]
                if load >= 0:
                    landed = link.landing(load)
                    if landed < 0:
                        yield link.wait(load)
                        landed = link.landing(load)
                    landed += handover
                    if landed > start:
                        stall += landed - start
                        start = landed
                use_start[use] = start
                use_end[use], longer = self._end(start, expert[use])
                compute = use_end[use]
                slowed += longer
            if on_cpu:
                worked += self.durations.cpu.join_ns
                host, landed = self._join(event, host, on_cpu.end)
                cpu_stall = max(0, landed - compute)
                compute, longer = self._end(max(compute, landed), self.durations.cpu.add_ns)
                slowed += longer
            if wait_each_layer:
                host = max(host, compute + sync)
            end = compute
            if (event + 1) % layers == 0:
                worked += launch_head
                start = max(compute, host + launch_head + begins)
                compute, longer = self._end(start, after[event // layers])
                slowed += longer
                host = compute + sync
                self.step_end.append(host)
            computing = on_cpu.end - on_cpu.begin if on_cpu else 0
            self.events.extend((begin, ready, worked, stall, slowed, computing, cpu_stall, end))

    def _hand_out(self, event: int, ready: int, host: int) -> tuple[int, list[tuple[int, int]], Interval | None]:
        """Hand experts to the CPU, issue loads and launch experts of an event.

        Gives the host's clock, the uses that it launched and when they may begin, and when the CPU computes.
        """
        rounds, loads, load_offsets, uses, use_offsets, _, _, opens, _ = self.program
        costs, predict = self.durations.host, self.durations.predict if any(self.durations.predict) else None
        launch, issue, begins, begins_copy = costs.launch_ns, costs.issue_ns, costs.begin_ns, costs.begin_copy_ns
        on_cpu = self.on_cpu.get(event, ())
        if on_cpu:
            host += self.durations.cpu.start_ns
            begin = max(host, ready + self.durations.to_host[event // self.table.num_layers])
        first, last = rounds[event], rounds[event + 1]
        launched, skipped = [], len(on_cpu)
        for round_ in range(first, last):
            if predict and round_ == last - 1:
                host += predict[event]
            for load in loads[load_offsets[round_] : load_offsets[round_ + 1]]:
                host += issue
                self.link.request(load, host + begins_copy)
            for use in uses[use_offsets[round_] + skipped : use_offsets[round_ + 1]]:
                if opens[use]:
                    host += launch
                launched.append((use, host + begins))
            skipped = 0
        return host, launched, self._compute(on_cpu, ready, begin) if on_cpu else None

    def _compute(self, uses: Sequence[int], ready: int, begin: int) -> Interval:
        """Compute experts on the CPU from `begin` on."""
        ends = self.link.compute(ready, begin, [self.durations.expert[use] for use in uses])
        for use, start, end in zip(uses, [begin, *ends], ends, strict=False):
            self.use_start[use], self.use_end[use] = start, end
        return Interval(begin, ends[-1])

    def _join(self, event: int, host: int, computed: int) -> tuple[int, int]:
        """The host's clock once it has issued the copy and addition of what the CPU computed, and when that may begin.

        It is first on the device, and known to the compute stream.
        """
        costs = self.durations.host
        host = max(host, computed) + self.durations.cpu.join_ns
        copied = self.durations.to_device[event // self.table.num_layers]
        return host, host + costs.begin_copy_ns + copied + costs.event_ns

    def _end(self, start: int, ns: int) -> tuple[int, int]:
        """End of a kernel that starts at `start` and takes `ns`, and the delay due to copies beside it, ns."""
        end = start + ns
        if not self.interference:
            return end, 0
        longer = round(self.interference * self.link.busy(start, end))
        return end + longer, longer

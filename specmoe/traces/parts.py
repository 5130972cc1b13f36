"""A trace in parts: the steps of a long run, some at a time, in memory that its length does not change.

Of the trace, only where its sequences begin is kept: a span says which rows run one after the other, from which step
on. A part reads the row groups that hold its rows, at most one for each sequence that runs at once.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.traces.arranged import repeated
from specmoe.traces.schema import Block
from specmoe.traces.store import Trace
from specmoe.traces.validation import check_order, check_rows
from specmoe.traces.workload import Ints, Workload, first_steps, of_steps

USES_AT_ONCE = 1 << 20  # of a part, about
ALWAYS = ("sequence", "position", "source", "experts")


class Part(NamedTuple):
    """Some steps of a run, from `first` on, and their rows, in the order of the steps."""

    first: int
    workload: Workload
    block: Block


class Spans(NamedTuple):
    """Rows that run one after the other, [spans] each, in the order in which a batch takes them up."""

    begin: Ints  # step of the first row
    row: Ints  # the first row, in the file
    length: Ints


class Parts:
    """The steps of a trace in batches of `batch` sequences, at most `steps` of them, in parts of `at_once` steps.

    `layers` is the number of layers that run and `columns` are read besides routing; by default a part has as many
    steps as demand a million experts. `piece` (2, 5) restricts them to the third of five pieces of the sequences, of
    about equally many tokens. Raises InputError for a batch that the trace does not have.
    """

    def __init__(
        self,
        trace: Trace,
        batch: int = 1,
        steps: int | None = None,
        staggered: bool = False,
        layers: int | None = None,
        columns: Sequence[str] = (),
        at_once: int | None = None,
        piece: tuple[int, int] = (0, 1),
    ) -> None:
        if batch < 1 or (steps is not None and steps < 1):
            raise InputError(f"batch {batch}, steps {steps}: at least 1 expected")
        self._trace, self._batch, self._layers = trace, batch, layers or trace.meta.num_layers
        self._groups = _Groups(trace, tuple(dict.fromkeys((*ALWAYS, *columns))), batch + 1)
        self._whole = trace.meta.phase == "encode"
        first, lengths, self.longest = _sequences(trace)
        number, pieces = piece
        inside = (np.cumsum(lengths) - 1) * pieces // lengths.sum() == number
        first, lengths = first[inside], lengths[inside]
        if batch > len(first):
            raise InputError(
                f"batch {batch}: {trace.path} has only {len(first)} sequences: at most {len(first)} expected"
            )
        self._spans = _spans(first, lengths, batch, staggered and not self._whole, self._whole)
        self._sequences = len(first)
        every = int((self._spans.begin + (1 if self._whole else self._spans.length)).max())
        self.num_steps = every if steps is None else min(steps, every)
        uses = self._layers * trace.meta.top_k * (int(lengths.max()) if self._whole else 1) * batch
        self.at_once = at_once or max(1, USES_AT_ONCE // uses)

    def __len__(self) -> int:
        return -(-self.num_steps // self.at_once)

    def __iter__(self) -> Iterator[Part]:
        return map(self.part, range(len(self)))

    def part(self, number: int) -> Part:
        """One part, from 0 on."""
        first = number * self.at_once
        rows, step, span = self._rows(first, min(first + self.at_once, self.num_steps))
        read = self._groups.read(rows)
        own = np.where(span < self._sequences, read.sequence, -span)  # a head is a sequence of its own
        block, meta = repeated(read._replace(sequence=own.astype(np.int32)), self._trace.meta, self._layers)
        return Part(first, of_steps(block, np.arange(len(rows)), step, meta, self._batch), block)

    def _rows(self, first: int, last: int) -> tuple[Ints, Ints, Ints]:
        """The rows of steps, and the step, from 0 on, and the span of each."""
        begin, row, length = self._spans
        if self._whole:
            inside = (begin >= first) & (begin < last)
            start, count = 0 * begin[inside], length[inside]
        else:
            start, end = np.maximum(first - begin, 0), np.minimum(last - begin, length)
            inside = end > start
            start, count = start[inside], (end - start)[inside]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        rows = np.repeat(row[inside] + start, count) + within
        step = np.repeat(begin[inside] + start - first, count) + (0 if self._whole else within)
        order = np.argsort(step, kind="stable")
        return rows[order], step[order], np.repeat(np.flatnonzero(inside), count)[order]


class _Groups:
    """Row groups of a trace, of which the last few that were read are kept."""

    def __init__(self, trace: Trace, columns: Sequence[str], most: int) -> None:
        self._trace, self._columns, self._most = trace, columns, most
        self._kept: OrderedDict[int, Block] = OrderedDict()
        self._checked: set[int] = set()

    def read(self, rows: Ints) -> Block:
        """Rows of the file."""
        of, begins = np.searchsorted(self._trace.group_begins, rows, "right") - 1, self._trace.group_begins
        numbers = np.unique(of).tolist()
        if len(numbers) == 1:
            return _selected(self._group(numbers[0]), rows - begins[numbers[0]])
        places = [np.flatnonzero(of == number) for number in numbers]
        parts = [
            _selected(self._group(number), rows[place] - begins[number])
            for number, place in zip(numbers, places, strict=True)
        ]
        back = np.argsort(np.concatenate(places))
        return Block._make(_reordered(columns, back) for columns in zip(*parts, strict=True))

    def _group(self, number: int) -> Block:
        if number not in self._kept:
            block, first = self._trace.group(number, self._columns), int(self._trace.group_begins[number])
            if number not in self._checked:
                check_rows(block, self._trace.meta, str(self._trace.path), first)
                self._checked.add(number)
            self._kept[number] = block
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]


def _selected(block: Block, rows: Ints) -> Block:
    return Block._make(column[rows] if len(column) else column for column in block)


def _reordered(parts: Sequence[NDArray[np.generic]], back: Ints) -> NDArray[np.generic]:
    joined = np.concatenate(parts)
    return joined[back] if len(joined) else joined


def _sequences(trace: Trace) -> tuple[Ints, Ints, int]:
    """The first row and the length of each sequence, and the highest position and one; raises TraceError."""
    rows, last, highest, starts = 0, None, 0, list[Ints]()
    for block in trace.blocks(("sequence", "position")):
        check_order(block, trace.meta, str(trace.path), rows, last)
        before = -1 if last is None else last[0]
        starts.append(rows + np.flatnonzero(np.diff(block.sequence, prepend=before)))
        last = (int(block.sequence[-1]), int(block.position[-1]))
        rows, highest = rows + len(block.sequence), max(highest, int(block.position.max()))
    if not rows:
        raise InputError("no tokens in this trace")
    first = np.concatenate(starts)
    return first, np.diff(first, append=rows), highest + 1


def _spans(first: Ints, lengths: Ints, batch: int, staggered: bool, whole: bool) -> Spans:
    if whole:
        return Spans(np.arange(len(first)) // batch, first, lengths)
    if staggered and batch > 1:  # as `arranged.staggered`
        cut = np.zeros(len(first), np.int64)
        cut[:batch] = np.arange(batch) * lengths[:batch] // batch
        heads = np.flatnonzero(cut)[::-1]
        first, lengths = np.append(first + cut, first[heads]), np.append(lengths - cut, cut[heads])
    return Spans(first_steps(lengths, batch), first, lengths)

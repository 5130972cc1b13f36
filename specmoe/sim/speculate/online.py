"""Predictors that learn as they go: a memory that scores what may come and learns from what came, step by step.

The loop is here once; a predictor brings its `Memory`. What a step knows is in `Step`; what happens in a step is learnt
after it. Memory starts empty or, `warm`, as the train split left it; with `reset="sequence"` every sequence starts it
afresh; without `online` nothing is learnt but from the train split.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.speculate.predictor import WIDTH, Guess, OnEvents, Predictor, Routed, best_of, no_guess, targets
from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.workload import Workload

AT_ONCE = 64  # rows whose best are chosen together
Reset = Literal["never", "sequence"]


class Step(NamedTuple):
    """T tokens that run at once. Scores for layer l + d at layer l may use `experts` and `probs` up to layer l only."""

    sequence: NDArray[np.int32]  # [T]
    position: NDArray[np.int32]  # [T]
    token: NDArray[np.int32]  # [T]
    experts: NDArray[np.int16]  # [T, L, k], used; -1 where dropped
    candidates: NDArray[np.int16]  # [T, L, M], the router's best
    probs: NDArray[np.float32]  # [T, L, M], 0 where unknown
    before: NDArray[np.int16]  # [T, L, k], experts of the sequence's token before; -1 where there is none (or encode)
    token_before: NDArray[np.int32]  # [T], its id; -1 where there is none (or encode)


class Memory(ABC):
    """What a predictor has learnt; `layers`, `experts` and `depth` say how large it is.

    Place [l, d - 1] of its scores is about layer `target[l, d - 1]`, `wraps[l, d - 1]` steps later.
    """

    def __init__(self, layers: int, experts: int, depth: int) -> None:
        self.layers, self.experts, self.depth = layers, experts, depth
        self.target, self.wraps = targets(layers, depth)

    @abstractmethod
    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """Probability that each token uses each expert at layer l + d, [T or 1, L, D, E]; zeros: no idea.

        What it notes, it notes by binding attributes anew: a copy of a memory leaves that memory as it is.
        """

    @abstractmethod
    def learn(self, step: Step) -> None:
        """Take in the routing of a step; of the train split all rows at once, ordered by sequence and position."""

    @property
    def state_bytes(self) -> int:
        """Bytes of its arrays, those of memories within it included."""
        held = list(vars(self).values())
        arrays = sum(value.nbytes for value in held if isinstance(value, np.ndarray))
        return arrays + sum(value.state_bytes for value in held if isinstance(value, Memory))


class Online(Predictor):
    """The loop over steps."""

    def __init__(self, depth: int = 1, online: bool = True, warm: bool = True, reset: Reset = "never") -> None:
        super().__init__(depth)
        if reset not in ("never", "sequence"):
            raise InputError(f"reset {reset!r}: never or sequence expected")
        self.online, self.warm, self.reset = online, warm, reset
        self._fitted: Memory | None = None
        self._going: _Going | None = None  # behind the parts of a run that were guessed

    @abstractmethod
    def memory(self, layers: int, experts: int) -> Memory:
        """An empty memory."""

    def fit(self, train: Routed) -> None:
        """Learn the train split, if starts are to be warm."""
        if self.warm:
            meta = train.workload.meta
            self._fitted = self.memory(meta.num_layers, meta.num_experts)
            self._fitted.learn(whole(train))

    @property
    def state_bytes(self) -> int:
        """The memory that the train split left."""
        return self._fitted.state_bytes if self._fitted else 0

    def continued(self, meta: TraceMeta) -> Self:
        """A copy that guesses the parts of a run one after the other: rows come by step, and what was learnt stays."""
        made = copy.copy(self)
        made._going = _Going(self._memories(meta))
        return made

    def guess(self, routed: Routed) -> Guess:
        """Score every step, then learn it."""
        workload, meta = routed.workload, routed.workload.meta
        made = no_guess(len(workload.rows), meta.num_layers, self.depth, min(WIDTH, meta.num_experts))
        pending: list[_Scored] = []
        for scored in self._scored(routed):
            pending.append(scored)
            if sum(len(one.rows) for one in pending) >= AT_ONCE:
                _put_best(made, pending)
                pending = []
        _put_best(made, pending)
        return made

    def _scored(self, routed: Routed) -> Iterator["_Scored"]:
        """The scores of each step, which is learnt after it."""
        workload, numbers = routed.workload, np.arange(len(routed.workload.rows))
        if self._going is None:
            known, memories = take(whole(routed), workload.rows), self._memories(workload.meta)
        else:
            known, memories = self._going.behind(routed), self._going.memories
        for start, end in pairwise(workload.row_offsets.tolist()):
            for place, memory in memories.of(known.sequence[start:end], start):
                step = take(known, place)
                scores = memory.scores(step).astype(np.float32)
                yield _Scored(numbers[place], np.broadcast_to(scores, (len(step.token), *scores.shape[1:])))
                if self.online:
                    memory.learn(step)

    def asked(self, meta: TraceMeta) -> OnEvents | None:
        """The loop, turned inside out."""
        return OfMemory(self._memories(meta), meta, self.online)

    def _memories(self, meta: TraceMeta) -> "_Memories":
        return _Memories(self._start(meta.num_layers, meta.num_experts), self.reset)

    def _start(self, layers: int, experts: int) -> Memory:
        """What is known before the first step; raises InputError if the train split was another model's."""
        start = self._fitted or self.memory(layers, experts)
        if (start.layers, start.experts) != (layers, experts):
            raise InputError(
                f"{type(self).__name__} was fitted to {start.layers} layers of {start.experts} experts: "
                f"{layers} of {experts} expected"
            )
        return start


class _Scored(NamedTuple):
    """Scores of some rows, [T, L, D, E]."""

    rows: NDArray[np.int64]  # [T]
    scores: NDArray[np.float32]


def _put_best(made: Guess, pending: Sequence[_Scored]) -> None:
    """Put in the best of all scores at once: few rows take as long as one."""
    if pending:
        rows = np.concatenate([one.rows for one in pending])
        best = best_of(np.concatenate([one.scores for one in pending]), made.experts.shape[3])
        made.experts[rows], made.confidence[rows] = best


class _Memories:
    """One memory of all, or one of each sequence that runs."""

    def __init__(self, start: Memory, reset: Reset) -> None:
        self._start, self._each = start, reset == "sequence"
        self._held: dict[int, Memory] = {} if self._each else {-1: copy.deepcopy(start)}

    def of(self, sequence: NDArray[np.int32], first: int) -> Iterator[tuple[Any, Memory]]:
        """Rows of a step, counted from its `first`, with the memory that they share; forgets sequences that ended."""
        if not self._each:
            yield slice(first, first + len(sequence)), self._held[-1]
            return
        running = np.unique(sequence).tolist()
        self._held = {one: self._held.get(one) or copy.deepcopy(self._start) for one in running}
        for one, memory in self._held.items():
            yield first + np.flatnonzero(sequence == one), memory


class _Going:
    """What goes on from part to part: memories, and the last step."""

    def __init__(self, memories: _Memories) -> None:
        self.memories = memories
        self._last: Step | None = None

    def behind(self, routed: Routed) -> Step:
        """The rows of a part, by step, with what came before them; a sequence that ended does not go on."""
        block, meta, last = routed.block, routed.workload.meta, self._last
        used = block.experts[:, :, : meta.top_k]
        before, token_before = np.full_like(used, -1), np.full_like(block.token, -1)
        if meta.phase == "decode":
            sequence, experts, token = block.sequence, used, block.token
            if last is not None:
                sequence = np.concatenate([last.sequence, sequence])
                experts, token = np.concatenate([last.experts, experts]), np.concatenate([last.token, token])
            previous = _row_before(sequence)[len(sequence) - len(used) :]
            there = previous >= 0
            before[there], token_before[there] = experts[previous[there]], token[previous[there]]
        probs = np.nan_to_num(block.probs.astype(np.float32))
        step = Step(block.sequence, block.position, block.token, used, block.experts, probs, before, token_before)
        self._last = take(step, slice(int(routed.workload.row_offsets[-2]), None))
        return step


def _row_before(sequence: NDArray[np.int32]) -> NDArray[np.int64]:
    """The row of the same sequence before each row; -1: none."""
    order, before = np.argsort(sequence, kind="stable"), np.full(len(sequence), -1)
    same = sequence[order[1:]] == sequence[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    return before


class OfMemory:
    """Asks a memory event by event."""

    def __init__(self, memories: _Memories, meta: TraceMeta, learns: bool) -> None:
        self._memories, self._meta, self._learns = memories, meta, learns
        self._last: dict[int, tuple[NDArray[np.int16], int]] = {}  # experts and id of each sequence's last token

    def at(self, layer: int, block: Block) -> Guess:
        """Score the step as far as it has come; memories take note of scores once the step is whole."""
        meta, known = self._meta, self._step(block)
        width = min(WIDTH, meta.num_experts)
        parts: Guess | None = None
        for place, memory in self._memories.of(known.sequence, 0):
            asked = memory if layer == meta.num_layers - 1 else copy.copy(memory)
            best = best_of(asked.scores(take(known, place))[:, layer], width)
            if parts is None:
                shape = (len(known.sequence), *best.experts.shape[1:])
                parts = Guess(np.full(shape, -1, np.int16), np.zeros(shape, np.float32))
            parts.experts[place], parts.confidence[place] = best
        assert parts is not None
        return parts

    def end_step(self, block: Block) -> None:
        """Learn the step, if anything is learnt, and remember its tokens."""
        known = self._step(block)
        if self._learns:
            for place, memory in self._memories.of(known.sequence, 0):
                memory.learn(take(known, place))
        if self._meta.phase == "decode":
            rows = zip(known.sequence.tolist(), known.experts, known.token.tolist(), strict=True)
            self._last.update({sequence: (experts.copy(), token) for sequence, experts, token in rows})

    def _step(self, block: Block) -> Step:
        """Rows of the step with what came before them."""
        used = block.experts[:, :, : self._meta.top_k]
        before, token_before = np.full_like(used, -1), np.full_like(block.token, -1)
        for row, sequence in enumerate(block.sequence.tolist()):
            if sequence in self._last:
                before[row], token_before[row] = self._last[sequence]
        probs = np.nan_to_num(block.probs.astype(np.float32))
        return Step(block.sequence, block.position, block.token, used, block.experts, probs, before, token_before)


def whole(routed: Routed) -> Step:
    """All rows of a trace, ordered by sequence and position, as if they ran at once."""
    block, meta = routed.block, routed.workload.meta
    used = block.experts[:, :, : meta.top_k]
    before, token_before = np.full_like(used, -1), np.full_like(block.token, -1)
    if meta.phase == "decode":
        last = _last_before(block, routed.workload)
        there = last >= 0
        before[there], token_before[there] = used[last[there]], block.token[last[there]]
    probs = np.nan_to_num(block.probs.astype(np.float32))
    return Step(block.sequence, block.position, block.token, used, block.experts, probs, before, token_before)


def _last_before(block: Block, workload: Workload) -> NDArray[np.int64]:
    """Row of the sequence's token before the step of each row, [n]; -1: none.

    Steps have `window` rows of a sequence, or all of its prefill's. Rows of the step before may reach beyond the
    position where the step begins, as rejected tokens do.
    """
    _, first, place = np.unique(block.sequence, return_index=True, return_inverse=True)
    begin, row = first[place], np.arange(len(block.sequence))
    start = row - (row - begin) % workload.window
    if workload.prefills is not None:
        of_prefill = workload.rows[workload.prefills[workload.step_of_row]]
        start[of_prefill] = begin[of_prefill]
    rejected = np.maximum(0, block.position[start - 1] + 1 - block.position[start])
    return np.where(start > begin, start - 1 - rejected, -1)


def take(step: Step, rows: Any) -> Step:
    """The rows of a step that a slice, mask or index array picks."""
    return Step._make(column[rows] for column in step)

"""Routing: a trace in batches (a workload), with what predictors say of it and what is learnt from its train split.

Nothing here depends on the machine, and many simulations share one `Routing`. Predictions are computed once, kept in
memory and, if a directory is given, on disk.
"""

from dataclasses import replace
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import specmoe.traces
from specmoe.errors import InputError
from specmoe.files import hash_of_file
from specmoe.hwprofiles.catalogue import load_shape
from specmoe.sim.claims import default_shape
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import Context, Gate, gate_of
from specmoe.sim.decide.placement import Sizes
from specmoe.sim.decide.policy import POLICIES, Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.predictors import PREDICTORS
from specmoe.sim.speculate.store import Predictions
from specmoe.sim.timing.bounds import fewest_loads
from specmoe.sim.timing.durations import contexts
from specmoe.traces import arranged
from specmoe.traces.arranged import repeated
from specmoe.traces.store import Trace, learnt_domains, open_train, train_beside
from specmoe.traces.validation import read_used, read_valid
from specmoe.traces.workload import WarmUp, build, warm_up_of
from specmoe.units import whole

MOST_DRAFTED = 64  # tokens that a step verifies


class Routing:
    """A trace in batches of `batch` sequences, at most `steps` steps of it, and what is learnt from its train split.

    `train` names the trace that popularity and predictors are learnt from. Default: the train split beside a bundled
    trace. `source` are the text domains that run (default: all), `train_source` those that are learnt from (default:
    the same; `("all",)`: every one). `staggered`: a batch of decode sequences starts at spread positions. `shape` names
    the model that runs (default: the trace's own); the layers of a trace with fewer are repeated, unless `truncated`.
    A decode step verifies `verify` drafted tokens of each sequence, of which `assumed_acceptance` are kept. `prefill`
    names the trace of the prefills that run before the sequences.
    `directory` keeps predictions from one run to the next. Raises InputError and TraceError.
    """

    def __init__(
        self,
        trace: str,
        batch: int = 1,
        steps: int | None = None,
        train: str | None = None,
        staggered: bool = True,
        shape: str | None = None,
        truncated: bool = False,
        source: tuple[str, ...] = (),
        train_source: tuple[str, ...] = (),
        verify: int = 0,
        assumed_acceptance: tuple[float, ...] = (),
        prefill: str | None = None,
        directory: Path | None = None,
    ) -> None:
        self.trace: Trace = specmoe.traces.open(trace, source)
        self._layers = self.trace.meta.num_layers if truncated else layers_of(self.trace, shape)
        block = read_valid(self.trace)
        sequences = len(np.unique(block.sequence))
        if batch > sequences:
            of_source = f" of {', '.join(source)}" if source else ""
            raise InputError(
                f"batch {batch}: {trace} has only {sequences} sequences{of_source}: at most {sequences} expected"
            )
        staggered = staggered and batch > 1 and self.trace.meta.phase == "decode"
        block = arranged.staggered(block, batch) if staggered else block
        self.prefill = None if prefill is None else _prefills(prefill, source, self.trace, shape)
        hashed = None if self.prefill is None else hash_of_file(self.prefill.path)
        self._batching = Batching(batch, steps, staggered, verify, assumed_acceptance, hashed)
        self._batching.require_valid(self.trace)
        self._directory = directory
        block, kept = arranged.verified(block, verify, assumed_acceptance) if verify else (block, None)
        block, first = (
            arranged.sessions(read_valid(self.prefill), block, prefill or "") if self.prefill else (block, None)
        )
        block, meta = repeated(block, self.trace.meta, self._layers)
        workload = build(block, meta, batch, steps, 1 + verify, first)
        if kept is not None:
            workload = replace(workload, kept=np.add.reduceat(kept[workload.rows], workload.row_offsets[:-1]))
        self.routed = Routed(workload, block)
        self._learn_from(trace, train, source, train_source)

    def _learn_from(
        self, trace: str, train: str | None, source: tuple[str, ...], train_source: tuple[str, ...]
    ) -> None:
        self.train_name = train or train_beside(trace)
        learnt = tuple(learnt_domains(source, train_source))
        self._train_trace = None if self.train_name is None else open_train(self.train_name, self.trace.meta, learnt)
        self._domains = {"source": source, "train_source": learnt}
        self._contexts: dict[int, list[int]] = {}

    @property
    def num_keys(self) -> int:
        """Number of experts of all layers."""
        return self.routed.workload.meta.num_layers * self.trace.meta.num_experts

    @cached_property
    def longest(self) -> int:
        """Number of tokens of the longest sequence."""
        return int(self.routed.block.position.max()) + 1

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """Names of the text domains whose tokens run, by alphabet."""
        return self.trace.meta.domains(self.routed.block.source[self.routed.workload.rows])

    @property
    def assumed(self) -> tuple[str, ...]:
        """What is assumed about routing: layers that the trace does not have, and drafted tokens."""
        own, last = self.trace.meta.num_layers, self._layers - 1
        layers = [f"layers {own}..{last} are layers 0..{own - 1} with experts permuted"] if last >= own else []
        return (*layers, *self._batching.assumed)

    def contexts(self, cross: int) -> list[int]:
        """Number of positions that the tokens of each step attend to, at least `cross`; [steps]."""
        if cross not in self._contexts:
            self._contexts[cross] = contexts(self.routed.workload, self.routed.block.position, cross)
        return self._contexts[cross]

    def decide(self, chosen: Policy, slots: int, sizes: Sizes | None = None) -> DecisionTable:
        """The decisions of a policy with `slots` slots, of several sizes if experts have; no machine changes them."""
        workload = self.routed.workload
        context = Context(slots, workload, lambda: self.popularity, weigh=lambda: self.gate, sizes=sizes)
        return decide(workload, self.predictions.of(chosen), chosen, slots, context)

    def warm_up(self, slots: int, steps: int | None) -> WarmUp:
        """The first steps that figures leave out, `steps` of them if given; raises InputError if the run has no more.

        They are the same for all policies on `slots` slots.
        """
        workload = self.routed.workload
        require_steps(steps, workload.num_steps)
        return warm_up_of(workload, slots, steps)

    def fewest_loads(self, slots: int, warm_up: int, sizes: Sizes | None = None, compressed: int = 0) -> list[int]:
        """Fewest loads of each size after the warm-up of any policy with `compressed` more slots of each size."""
        workload = self.routed.workload.since(warm_up)
        if sizes is None:
            return [fewest_loads(workload, slots + compressed)]
        parts = zip(sizes.groups, sizes.slots_of(slots).values(), strict=True)
        return [fewest_loads(workload.of_layers(group), own + compressed) for group, own in parts]

    @cached_property
    def all_resident(self) -> DecisionTable:
        """Decisions with a slot for every expert."""
        return self.decide(POLICIES["gpu-only"], self.num_keys)

    @cached_property
    def predictions(self) -> Predictions:
        """Predictions for the workload, by policy."""
        train = None if self._train_trace is None else self._train_trace.path
        parts = (self._batching._asdict(), lambda: self.train, train, self._domains, self._directory)
        return Predictions(self.trace.path, self.routed, *parts)

    @cached_property
    def train(self) -> Routed | None:
        """The train split, if there is one."""
        if self._train_trace is None:
            return None
        block, meta = repeated(read_valid(self._train_trace), self._train_trace.meta, self._layers)
        return Routed(build(block, meta, self._batching.batch), block)

    @cached_property
    def popularity(self) -> NDArray[np.int64] | None:
        """Number of demands of each key in the train split, [keys]; None if there is no train split."""
        if self._train_trace is None:
            return None
        block, meta = repeated(read_used(self._train_trace), self._train_trace.meta, self._layers)
        workload = build(block, meta, self._batching.batch)
        counts: NDArray[np.int64] = np.bincount(workload.keys, minlength=self.num_keys)
        return counts

    @cached_property
    def gate(self) -> Gate:
        """What the routers' weights say of each demanded expert; raises InputError if they were not recorded."""
        return gate_of(self.routed.workload, self.routed.block)

    @cached_property
    def trace_hash(self) -> str:
        """Hash of the trace's file."""
        return hash_of_file(self.trace.path)


def _prefills(name: str, source: tuple[str, ...], decode: Trace, shape: str | None) -> Trace:
    """The trace of prefills; raises InputError unless it is of the same model's other phase, a decoder-only model's."""
    trace, model = specmoe.traces.open(name, source), load_shape(shape or default_shape(decode.meta))
    if (trace.meta.phase, decode.meta.phase) != ("encode", "decode"):
        raise InputError(f"--prefill {name}: a trace of encode expected, and {decode.path} of decode")
    if model.encoder is not None:
        raise InputError(
            f"--prefill {name}: {model.name} has an encoder with experts of its own: a model without expected"
        )
    if (trace.meta.num_experts, trace.meta.top_k, trace.meta.shapes) != (
        decode.meta.num_experts,
        decode.meta.top_k,
        decode.meta.shapes,
    ):
        raise InputError(
            f"--prefill {name}: layers, experts, top-k, candidates and look-ahead as in {decode.path} expected"
        )
    return trace


def layers_of(trace: Trace, shape: str | None) -> int:
    """Number of MoE layers of the model that runs; raises InputError if the trace has more."""
    model, meta = load_shape(shape or default_shape(trace.meta)), trace.meta
    layers = model.stack(meta.phase).moe_layers
    if meta.num_layers > layers:
        raise InputError(
            f"{trace.path}: {meta.num_layers} layers: {model.name} has only {layers} MoE layers in its {meta.phase} "
            f"phase: the shape of a model of at least {meta.num_layers} expected"
        )
    return layers


def require_steps(warm_up: int | None, steps: int) -> None:
    """Raise InputError unless a warm-up leaves any of a run's steps."""
    if warm_up is not None and not 0 <= warm_up < steps:
        raise InputError(f"warm-up of {warm_up} steps: the run has {steps}: 0 to {steps - 1} expected")


class Batching(NamedTuple):
    """How sequences run together, the number of steps (None: all), and how many drafted tokens a step verifies."""

    batch: int
    steps: int | None = None
    staggered: bool = False
    verify: int = 0
    assumed_acceptance: tuple[float, ...] = ()
    prefill: str | None = None  # hash of the trace of prefills

    @property
    def assumed(self) -> list[str]:
        """What is assumed about drafted tokens."""
        if not self.verify:
            return []
        chances = ", ".join(f"{chance:g}" for chance in self.assumed_acceptance)
        return [
            f"acceptance of drafted tokens: {chances}",
            "a rejected token has the routing of another token of its sequence, and drafting takes no time",
        ]

    def require_valid(self, trace: Trace) -> None:
        """Raise InputError where drafted tokens cannot be verified."""
        chances, verify = self.assumed_acceptance, self.verify
        if self.prefill and (verify or self.batch > 1):
            what = f"--verify {verify}" if verify else f"--batch {self.batch}"
            raise InputError(f"{what}: not simulated with --prefill: sessions one after the other expected")
        if not verify and not chances:
            return
        whole(f"--verify {verify}", verify, 1, MOST_DRAFTED)
        if trace.meta.phase != "decode":
            raise InputError(f"--verify {verify}: {trace.path} is a trace of encode: a trace of decode expected")
        if len(chances) not in (1, verify) or not all(0 <= chance <= 1 for chance in chances):
            raise InputError(
                f"--assumed-acceptance {','.join(f'{chance:g}' for chance in chances) or 'missing'}: "
                f"one number from 0 to 1 expected, or {verify}, one for each drafted token"
            )


def assumptions(chosen: Policy) -> list[str]:
    """Properties that a policy's predictor is assumed to have, such as its precision, as `NAME: VALUE`."""
    keywords = signature(PREDICTORS[chosen.predictor]).parameters.values()
    settings = chosen.predictor_parameters
    return [f"{p.name}: {settings.get(p.name, p.default)}" for p in keywords if p.name.startswith("assumed_")]

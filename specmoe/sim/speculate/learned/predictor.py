"""A trained network as a predictor, of a whole trace or event by event. Needs torch only once it is asked.

Rows are computed in blocks of a trace, and one step at a time while a model runs; sums of another length are rounded
otherwise. So both compute in float64 and round probabilities to 16 binary digits, and choose the same experts.
"""

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, MissingExtraError, hint
from specmoe.sim.speculate.learned.config import ARCHITECTURES, AROUND, require_features, require_same_shape
from specmoe.sim.speculate.predictor import Guess, OnEvents, Predictor, Routed, best_of, no_guess
from specmoe.traces import store
from specmoe.traces.schema import Block, TraceMeta, join, select

if TYPE_CHECKING:
    from torch.nn import Module

    from specmoe.sim.speculate.learned.checkpoint import Checkpoint
    from specmoe.sim.speculate.learned.inputs import Tables

AT_ONCE = 2048  # rows
DIGITS = 16  # binary, that probabilities keep


class Learned(Predictor):
    """Predicts with the network in `checkpoint`, or with the bundled network of the trace's model and phase.

    `fit` learns nothing: training is a run of its own. Raises InputError where no network fits the trace.
    """

    source = "specmoe"

    def __init__(
        self,
        depth: int = 1,
        architecture: str = "transformer",
        checkpoint: str | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(depth)
        if architecture not in ARCHITECTURES:
            raise InputError(f"architecture {architecture!r}: {hint(architecture, ARCHITECTURES)}")
        self.architecture, self.checkpoint, self.device = architecture, checkpoint, device
        self._loaded: tuple[Path, Checkpoint, Module] | None = None  # and the network in float64

    @property
    def state_bytes(self) -> int:
        """Bytes of the stored network, once it has been loaded."""
        return self._loaded[1].stored_bytes if self._loaded else 0

    def guess(self, routed: Routed) -> Guess:
        """The network's best experts with their probabilities, times top_k where tokens use several."""
        if routed.workload.window > 1 or routed.workload.prefills is not None:
            raise InputError("networks were trained on steps of one token: neither --verify nor --prefill expected")
        return self.of_rows(routed.block, routed.workload.rows, routed.workload.meta)

    def of_rows(self, block: Block, rows: NDArray[np.int64], meta: TraceMeta) -> Guess:
        """Guesses for some rows of a block, which is ordered by sequence and position."""
        trained, exact = self._load(meta)
        tables = _tables(block, trained)
        tables = tables._replace(probs=tables.probs.double())
        guess = no_guess(len(rows), meta.num_layers, self.depth, min(8, meta.num_experts))
        for start in range(0, len(rows), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            likely = self._probabilities(exact, trained.card["temperatures"], tables, rows[part])
            guess.experts[part], guess.confidence[part] = best_of(_rounded(np.minimum(1, likely * meta.top_k)))
        return guess if meta.phase == "decode" else _within_step(guess)

    def asked(self, meta: TraceMeta) -> OnEvents | None:
        """The network, with the last tokens of every sequence that runs."""
        self._load(meta)
        return OfNetwork(self, meta)

    def event_seconds(self, routed: Routed) -> float:
        """Seconds of a pass of the network for the tokens of one step."""
        trained, _ = self._load(routed.workload.meta)
        from specmoe.sim.speculate.learned.timing import event_seconds

        return event_seconds(trained.net, _tables(routed.block, trained), routed.workload)

    def _probabilities(
        self, net: "Module", temperatures: list[float], tables: "Tables", rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """[B, L, D, E], of the depths asked for."""
        import torch

        from specmoe.sim.speculate.learned.inputs import inputs_at
        from specmoe.sim.speculate.learned.training import calibrated

        with torch.inference_mode():
            seen = inputs_at(tables, torch.from_numpy(rows).to(tables.token.device))
            logits = calibrated(net(seen), temperatures)[:, :, : self.depth]
            likely: NDArray[np.float64] = logits.softmax(-1).cpu().numpy()
        return likely

    def _load(self, meta: TraceMeta) -> tuple["Checkpoint", "Module"]:
        """The network, which must fit the trace, and the same in float64."""
        directory = self.directory(meta.model, meta.phase)
        if self._loaded is None or self._loaded[0] != directory:
            loaded = _load(directory, self.device)
            self._loaded = directory, loaded, deepcopy(loaded.net).double()
        _, trained, exact = self._loaded
        if trained.config.architecture != self.architecture:
            raise InputError(f"{directory}: trained as {trained.config.architecture}, not as {self.architecture}")
        require_same_shape(trained.config, meta, directory)
        require_features(trained.config, meta)
        if self.depth > trained.config.depth:
            raise InputError(
                f"{directory}: trained {trained.config.depth} layers ahead: no depth {self.depth} expected"
            )
        return trained, exact

    def directory(self, model: str, phase: str) -> Path:
        """Where the network for a model and phase is; raises InputError if none is bundled."""
        place = self._place(model, phase)
        if self.checkpoint is not None or place.is_dir():
            return place
        raise InputError(
            f"no bundled {self.architecture} predictor for {phase} of {model}: train one with `specmoe train TRACE "
            f"--architecture {self.architecture} --out DIR` and name it by --set predictor.checkpoint=DIR"
        )

    def is_trained(self, model: str, phase: str) -> bool:
        """Whether there is a network for a model and phase."""
        return self._place(model, phase).is_dir()

    def _place(self, model: str, phase: str) -> Path:
        bundled = store.root() / model / "predictors" / phase / self.architecture
        return bundled if self.checkpoint is None else Path(self.checkpoint)


class OfNetwork:
    """Asks a network about a step as far as it has come; it sees a few tokens before it, all of whose layers routed."""

    def __init__(self, predictor: Learned, meta: TraceMeta) -> None:
        self._predictor, self._meta = predictor, meta
        self._past: dict[int, Block] = {}  # the last rows of each sequence that runs, while decoding

    def at(self, layer: int, block: Block) -> Guess:
        """The guesses of one layer."""
        known = self._with_past(block)
        order = np.argsort(known.sequence, kind="stable")
        rows = np.argsort(order)[len(order) - len(block.sequence) :]
        guess = self._predictor.of_rows(select(known, order), rows, self._meta)
        return Guess(guess.experts[:, layer], guess.confidence[:, layer])

    def end_step(self, block: Block) -> None:
        """Keep the last tokens of the sequences that run."""
        if self._meta.phase == "decode":
            known, kept = self._with_past(block), -min(AROUND["decode"])
            rows = {one: np.flatnonzero(known.sequence == one)[-kept:] for one in np.unique(block.sequence).tolist()}
            self._past = {one: select(known, last) for one, last in rows.items()}

    def _with_past(self, block: Block) -> Block:
        return join([*self._past.values(), block])


def _tables(block: Block, trained: "Checkpoint") -> "Tables":
    from specmoe.sim.speculate.learned.data import columns_of
    from specmoe.sim.speculate.learned.inputs import Tables

    device = next(trained.net.parameters()).device
    return Tables.of(columns_of(block, trained.config, trained.vocabulary), device)


def _rounded(likely: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities to `DIGITS` binary digits."""
    share, exponent = np.frexp(likely)
    rounded: NDArray[np.float64] = np.ldexp(np.rint(np.ldexp(share, DIGITS)), exponent - DIGITS)
    return rounded


def _load(directory: Path, device: str) -> "Checkpoint":
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtraError("torch", "torch") from None
    from specmoe.sim.speculate.learned.checkpoint import load_checkpoint
    from specmoe.sim.speculate.learned.timing import pick_device

    trained = load_checkpoint(directory)
    trained.net.to(pick_device(device))
    return trained


def _within_step(guess: Guess) -> Guess:
    """Encoding, the next step's tokens are others: nothing is guessed about them."""
    layers, depth = guess.experts.shape[1:3]
    outside: NDArray[Any] = np.add.outer(np.arange(layers), np.arange(1, depth + 1)) >= layers
    guess.experts[:, outside], guess.confidence[:, outside] = -1, 0
    return guess

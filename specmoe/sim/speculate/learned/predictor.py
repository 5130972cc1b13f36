"""A trained network as a predictor. Needs torch only once it is asked."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, MissingExtraError, hint
from specmoe.sim.speculate.learned.config import ARCHITECTURES, require_features, require_same_shape
from specmoe.sim.speculate.predictor import Guess, Predictor, Routed, best_of, no_guess
from specmoe.traces import store

if TYPE_CHECKING:
    from specmoe.sim.speculate.learned.checkpoint import Checkpoint
    from specmoe.sim.speculate.learned.inputs import Tables

AT_ONCE = 2048  # rows


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
        self._loaded: tuple[Path, Checkpoint] | None = None

    @property
    def state_bytes(self) -> int:
        """Bytes of the stored network, once it has been loaded."""
        return self._loaded[1].stored_bytes if self._loaded else 0

    def guess(self, routed: Routed) -> Guess:
        """The network's best experts with their probabilities, times top_k where tokens use several."""
        trained, meta, rows = self._load(routed), routed.workload.meta, routed.workload.rows
        tables = self._tables(routed, trained)
        guess = no_guess(len(rows), meta.num_layers, self.depth, min(8, meta.num_experts))
        for start in range(0, len(rows), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            likely = self._probabilities(trained, tables, rows[part])
            guess.experts[part], guess.confidence[part] = best_of(np.minimum(1, likely * meta.top_k))
        return guess if meta.phase == "decode" else _within_step(guess)

    def event_seconds(self, routed: Routed) -> float:
        """Seconds of a pass of the network for the tokens of one step."""
        trained = self._load(routed)
        from specmoe.sim.speculate.learned.timing import event_seconds

        return event_seconds(trained.net, self._tables(routed, trained), routed.workload)

    def _probabilities(self, trained: "Checkpoint", tables: "Tables", rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[B, L, D, E], of the depths asked for."""
        import torch

        from specmoe.sim.speculate.learned.inputs import inputs_at
        from specmoe.sim.speculate.learned.training import calibrated

        with torch.inference_mode():
            seen = inputs_at(tables, torch.from_numpy(rows).to(tables.token.device))
            logits = calibrated(trained.net(seen), trained.card["temperatures"])[:, :, : self.depth]
            likely: NDArray[np.float32] = logits.softmax(-1).cpu().numpy()
        return likely

    def _tables(self, routed: Routed, trained: "Checkpoint") -> "Tables":
        from specmoe.sim.speculate.learned.data import columns_of
        from specmoe.sim.speculate.learned.inputs import Tables

        device = next(trained.net.parameters()).device
        return Tables.of(columns_of(routed.block, trained.config, trained.vocabulary), device)

    def _load(self, routed: Routed) -> "Checkpoint":
        """The network, which must fit the trace."""
        meta = routed.workload.meta
        if routed.workload.window > 1 or routed.workload.prefills is not None:
            raise InputError("networks were trained on steps of one token: neither --verify nor --prefill expected")
        directory = self.directory(meta.model, meta.phase)
        if self._loaded is None or self._loaded[0] != directory:
            self._loaded = directory, _load(directory, self.device)
        trained = self._loaded[1]
        if trained.config.architecture != self.architecture:
            raise InputError(f"{directory}: trained as {trained.config.architecture}, not as {self.architecture}")
        require_same_shape(trained.config, meta, directory)
        require_features(trained.config, meta)
        if self.depth > trained.config.depth:
            raise InputError(
                f"{directory}: trained {trained.config.depth} layers ahead: no depth {self.depth} expected"
            )
        return trained

    def directory(self, model: str, phase: str) -> Path:
        """Where the network for a model and phase is; raises InputError if none is bundled."""
        if self.checkpoint is not None:
            return Path(self.checkpoint)
        shipped = store.root() / model / "predictors" / phase / self.architecture
        if shipped.is_dir():
            return shipped
        raise InputError(
            f"no bundled {self.architecture} predictor for {phase} of {model}: train one with `specmoe train TRACE "
            f"--architecture {self.architecture} --out DIR` and name it by --set predictor.checkpoint=DIR"
        )


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

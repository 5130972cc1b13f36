"""The training loop: optimizer steps, measured losses, saving and resuming. Importing this module imports torch."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from specmoe.errors import InputError, SpecmoeError
from specmoe.files import reason, replacing
from specmoe.traces import pretrain_decoder, pretrain_model
from specmoe.traces.collect_model import pick_device
from specmoe.traces.pretrain_data import Batch
from specmoe.traces.pretrain_job import STATE, AnyPreset, DecoderPreset, require_same

History = dict[str, list[dict[str, float]]]
EAGER_STEPS = 3  # before the step is captured as a CUDA graph
GRADIENT_NORM = 1.0


class Trainer:
    """A model, its optimizer and the number of steps taken.

    On CUDA the whole step (forward, backward, clipping, update) is captured once as a graph and replayed: at this width
    launching kernels costs more than running them.
    """

    def __init__(self, preset: AnyPreset, vocabulary: int, seed: int, device: str) -> None:
        torch.manual_seed(seed)
        self.preset = preset
        self.step = 0
        self.seconds = 0.0  # of training, its measurements included
        self._family: Any = pretrain_decoder if isinstance(preset, DecoderPreset) else pretrain_model
        self.device = pick_device(device)
        if self.device.type == "cuda":  # a graph cannot be captured where autograd knows the legacy stream
            torch.cuda.set_stream(torch.cuda.Stream(self.device))  # type: ignore[no-untyped-call]  # torch leaves it untyped
        with self.device:
            self.model: Any = self._family.build(preset, vocabulary).train()
        self.sparse: list[Any] = self._family.sparse_layers(self.model)
        self.optimizer = _optimizer(self.model, preset)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs = self._targets = self._terms = torch.empty(0)

    def train(self, batch: Batch, share: float = 0.0) -> None:
        """Take one step; `share` is how much of the run's time is over, if that is limited."""
        for group in self.optimizer.param_groups:
            group["lr"].fill_(group["base"] * schedule(self.step, self.preset, share))
        inputs, targets = self._to_device(batch)
        if self.device.type == "cpu" or self.step < EAGER_STEPS:
            self.optimizer.zero_grad(set_to_none=True)
            self._terms = self._step(inputs, targets)
        else:
            self._replay(inputs, targets)
        self.step += 1

    def terms(self) -> dict[str, float]:
        """Loss (nats per target token), mean balance and z-loss, gradient norm and dropped share of the last step."""
        values = self._terms.tolist()
        return dict(zip(("loss", "balance", "router_z", "gradient_norm", "dropped"), values, strict=True))

    @torch.no_grad()
    def measure(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Mean loss (nats per target token), dropped share, and the lowest expert count and entropy of any layer."""
        self.model.eval()
        losses, load, dropped = [], [], []
        for batch in batches:
            inputs, targets = self._to_device(batch)
            losses.append(self._loss(inputs, targets) * len(inputs))
            load.append(torch.stack([layer.load for layer in self.sparse]) * len(inputs))
            dropped.append(torch.stack([layer.dropped for layer in self.sparse]).mean() * len(inputs))
        self.model.train()
        rows = sum(len(batch.inputs) for batch in batches)
        share = torch.stack(load).sum(0) / rows
        entropy = -(share * share.clamp_min(1e-12).log2()).sum(-1)
        return {
            "loss": float(sum(losses)) / rows,
            "dropped": float(sum(dropped)) / rows,
            "least_entropy_bits": float(entropy.min()),
            "fewest_experts": float((share > 0).sum(-1).min()),
        }

    def save(self, directory: Path, identity: dict[str, Any], history: History) -> None:
        """Write everything that a killed run needs to resume, atomically as one file."""
        moments = {
            f"moment.{index}.{name}": value
            for index, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        model = {f"model.{name}": value for name, value in self.model.named_parameters()}
        state = json.dumps({"step": self.step, "seconds": self.seconds, "identity": identity, "history": history})
        directory.mkdir(parents=True, exist_ok=True)
        _write({**model, **moments, **_random_state(self.device)}, directory / STATE, {"state": state})

    def resume(self, directory: Path, identity: dict[str, Any]) -> History:
        """Load the last save if there is one; raises InputError if it is damaged or belongs to another run."""
        file = directory / STATE
        if not file.exists():
            return {"training": [], "held_out": []}
        with _damage(file), safe_open(file, "pt", device=str(self.device)) as stored:
            saved = json.loads(stored.metadata()["state"])
            require_same(file, saved["identity"], identity)
            self._load({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118  # no mapping
            self.step, self.seconds = int(saved["step"]), float(saved["seconds"])
            history: History = saved["history"]
        return history

    def export(self, directory: Path) -> None:
        """Save the model as an ordinary Hugging Face checkpoint in float16."""
        config = self._family.library_config(self.model)
        config.dtype = "float16"
        config.architectures = [self._family.ARCHITECTURE]
        config.save_pretrained(directory)
        _write(self._family.library_state(self.model), directory / "model.safetensors", {"format": "pt"})

    def _step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        loss = self._loss(inputs, targets)
        balance = torch.stack([layer.balance for layer in self.sparse])
        router_z = torch.stack([layer.router_z for layer in self.sparse])
        total = loss + self.preset.balance * balance.sum() + self.preset.router_z * router_z.sum()
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        dropped = torch.stack([layer.dropped for layer in self.sparse]).mean()
        return torch.stack([loss.detach(), balance.detach().mean(), router_z.detach().mean(), norm.detach(), dropped])

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = self._family.loss(self.model, inputs, targets)
        return loss

    def _replay(self, inputs: Tensor, targets: Tensor) -> None:
        if self._graph is None:
            self._inputs, self._targets = inputs.clone(), targets.clone()
            self.optimizer.zero_grad(set_to_none=True)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=torch.cuda.current_stream()):
                self._terms = self._step(self._inputs, self._targets)
        self._inputs.copy_(inputs)
        self._targets.copy_(targets)
        self._graph.replay()

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs, targets = (torch.from_numpy(ids).long() for ids in batch)
        return inputs.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)

    def _load(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
        self._load_moments(tensors)
        torch.set_rng_state(tensors["random.cpu"].cpu())
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"].cpu())

    def _load_moments(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("moment."):
                _, index, moment = name.split(".")
                state.setdefault(int(index), {})[moment] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


@contextmanager
def memory_errors(batch: int) -> Iterator[None]:
    """Raise InputError if memory of the GPU or the host runs out."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
            raise
        raise InputError(f"out of memory with batch={batch}: try --set batch={max(1, batch // 2)}") from None


def schedule(step: int, preset: AnyPreset, share: float = 0.0) -> float:
    """Learning rate as a share of its peak: linear warm-up, then cosine decay to 1 %.

    The decay follows the steps, or the `share` of the run's time that is over, whichever is further.
    """
    if step < preset.warmup:
        return (step + 1) / preset.warmup
    done = max(share, (step - preset.warmup) / max(1, preset.steps - preset.warmup))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def _optimizer(model: torch.nn.Module, preset: AnyPreset) -> torch.optim.Optimizer:
    """AdamW with a rate proportional to each tensor's initial root mean square, in powers of two to keep groups few.

    Its decay is inversely proportional, so that each step shrinks all tensors by the same share.
    """
    groups: dict[float, list[Tensor]] = {}
    for parameter in model.parameters():
        scale = max(float(parameter.detach().square().mean().sqrt()), 1e-3)
        groups.setdefault(2.0 ** round(math.log2(scale)), []).append(parameter)
    device = next(model.parameters()).device
    listed: list[dict[str, Any]] = [
        {
            "params": group,
            "base": preset.learning_rate * scale,
            "lr": torch.tensor(0.0, device=device),
            "weight_decay": preset.weight_decay / scale,
        }
        for scale, group in sorted(groups.items())
    ]
    on_gpu = device.type == "cuda"
    return torch.optim.AdamW(listed, betas=(0.9, 0.98), fused=True, capturable=on_gpu)


def _write(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically; raises InputError if it cannot be written, e.g. on a full disk."""
    with replacing(file) as fresh:
        try:
            save_file(tensors, fresh, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None


@contextmanager
def _damage(file: Path) -> Iterator[None]:
    try:
        yield
    except SpecmoeError:
        raise
    except Exception as error:  # of safetensors, JSON or torch
        raise InputError(f"{file}: damaged ({reason(error)}): delete it to begin again") from None


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["random.cuda"] = torch.cuda.get_rng_state()
    return state

"""A pretraining job: presets of models, options and their checks, and the settings that a resumed run must share."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any

from specmoe.errors import InputError, hint
from specmoe.traces.text import text_files


@dataclass(frozen=True)
class Preset:
    """Shape and recipe of one Switch Transformer.

    Every other layer is sparse, from the second on, as in google/switch-base-*. `learning_rate` is relative: each step
    changes a tensor by about this share of its initial root mean square (the scaling of Adafactor and nanoT5, without
    which T5's unequal initial scales make AdamW either diverge in `q` or never move the embeddings). `weight_decay` is
    relative too: each step shrinks a tensor by this share of the rate.
    """

    experts: int
    d_model: int
    d_ff: int
    d_kv: int
    heads: int
    layers: int
    steps: int
    batch: int = 96
    encoder_length: int = 256
    learning_rate: float = 0.02
    weight_decay: float = 0.0
    warmup: int = 300
    dropout: float = 0.1
    expert_dropout: float = 0.2
    jitter: float = 0.01
    balance: float = 0.01
    router_z: float = 0.001
    router_init: float = 0.06
    capacity_factor: float = 2.0
    vocabulary: int = 8192


@dataclass(frozen=True)
class DecoderPreset:
    """Shape and recipe of one decoder of the class Qwen3-MoE, all of whose layers are sparse.

    `length` is the number of tokens of a window. `learning_rate` and `weight_decay` are relative, as in `Preset`.
    """

    experts: int
    top_k: int
    d_model: int
    d_ff: int
    head_dim: int
    heads: int
    layers: int
    steps: int
    batch: int = 64
    length: int = 512
    learning_rate: float = 0.03
    weight_decay: float = 0.007
    warmup: int = 300
    dropout: float = 0.1
    balance: float = 0.01
    router_z: float = 0.001
    router_init: float = 0.02
    vocabulary: int = 8192


AnyPreset = Preset | DecoderPreset

# One expert makes a dense layer, because its share of the router's probability is 1. Same active sizes.
PRESETS: dict[str, AnyPreset] = {
    "switch-mini-128": Preset(experts=128, d_model=256, d_ff=512, d_kv=64, heads=4, layers=12, steps=6000),
    "dense-mini": Preset(experts=1, d_model=256, d_ff=512, d_kv=64, heads=4, layers=12, steps=6000),
    "switch-mini-16": Preset(experts=16, d_model=96, d_ff=128, d_kv=24, heads=4, layers=4, steps=6000),
    "decoder-mini-64": DecoderPreset(
        experts=64, top_k=8, d_model=256, d_ff=128, head_dim=64, heads=4, layers=12, steps=8000
    ),
    "decoder-mini-dense": DecoderPreset(
        experts=1, top_k=1, d_model=256, d_ff=1024, head_dim=64, heads=4, layers=12, steps=8000
    ),
}


STATE = "state.safetensors"  # a killed run resumes from it
FIELDS_BELOW_ONE = ("dropout", "expert_dropout", "jitter")
LOWEST_VALUES = {
    "layers": 2,
    "encoder_length": 8,
    "length": 8,
    "warmup": 0,
}  # others: 1, or 0 if not whole


@dataclass(frozen=True)
class PretrainJob:
    """Options of one training run.

    `text` names files or directories, `out` the checkpoint directory. `tokenizer` is a directory with a trained
    tokenizer; None trains one, which differs a little from run to run. `overrides` replaces fields of the preset.
    `save_every` and `measure_every` count steps. `minutes` limits the time of training, which the learning rate then
    follows; the preset's `steps` limit it in any case.
    """

    preset: str
    text: tuple[Path, ...]
    out: Path
    tokenizer: Path | None = None
    seed: int = 0
    device: str = "auto"
    save_every: int = 1000
    measure_every: int = 500
    minutes: float | None = None
    overrides: tuple[tuple[str, float], ...] = ()

    @property
    def partial(self) -> Path:
        """Directory of the state of an unfinished run."""
        return self.out / "resume"

    def check(self) -> None:
        """Raise InputError for an option out of range or an output that cannot be written."""
        for name, least in (("save_every", 1), ("measure_every", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: at least {least} expected")
        if self.minutes is not None and not 0 < self.minutes < inf:
            raise InputError(f"--minutes {self.minutes:g}: a positive number expected")
        nearest = next(path for path in (self.out, *self.out.absolute().parents) if os.access(path, os.F_OK))
        if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
            raise InputError(f"--out {self.out}: {nearest} is not a directory that can be written")

    def resolved(self) -> AnyPreset:
        """Preset with its overrides; raises InputError for an unknown preset or field, or a value out of range."""
        if self.preset not in PRESETS:
            raise InputError(f"preset {self.preset!r}: {hint(self.preset, PRESETS)}")
        preset = PRESETS[self.preset]
        changes: dict[str, Any] = {name: _checked(preset, name, value) for name, value in self.overrides}
        preset = replace(preset, **changes)
        if isinstance(preset, DecoderPreset):
            _check_decoder(preset)
        return preset

    def identity(self) -> dict[str, Any]:
        """Settings that determine the result; error messages use the names."""
        named = {"preset": self.preset, "seed": self.seed, "corpus": self.corpus(), "minutes": self.minutes}
        return named | asdict(self.resolved())

    def corpus(self) -> str:
        """Names of the text files."""
        return ", ".join(sorted(file.name for file in text_files(self.text)))


def require_same(where: Path, stored: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise InputError, naming the first difference, if the settings stored in `where` are not the expected ones."""
    for name, value in expected.items():
        if stored.get(name) != value:
            raise InputError(
                f"{where}: of a run with another {name} ({stored.get(name)}, not {value}): "
                "delete it or choose another --out"
            )


def _check_decoder(preset: DecoderPreset) -> None:
    if preset.top_k > preset.experts:
        raise InputError(f"top_k={preset.top_k}: at most {preset.experts} expected, the number of experts")
    for name, factor in (("d_model", 8), ("d_ff", 8), ("head_dim", 2)):
        if getattr(preset, name) % factor:
            raise InputError(f"{name}={getattr(preset, name)}: a multiple of {factor} expected")


def _checked(preset: AnyPreset, name: str, value: float) -> float:
    """Value of a preset's field, in the type of the field."""
    names = [field.name for field in fields(preset)]
    if name not in names:
        raise InputError(f"{name!r} is not a field of a preset; they are {', '.join(names)}")
    kind = type(getattr(preset, name))
    least, limit = LOWEST_VALUES.get(name, int(kind is int)), 1 if name in FIELDS_BELOW_ONE else inf
    if not least <= value < limit or kind(value) != value:
        bounds = f">= {least}" + (f" and < {limit}" if limit < inf else "")
        raise InputError(f"{name}={value:g}: a {'whole ' * (kind is int)}number {bounds} expected")
    return kind(value)  # type: ignore[no-any-return]  # int or float

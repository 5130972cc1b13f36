"""What is to be collected, and which wishes contradict each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from specmoe.errors import InputError
from specmoe.traces.schema import Kind, Phase
from specmoe.traces.text import Split


@dataclass(frozen=True)
class CollectJob:
    """What to record, from what, and how; `out`, `restart`, `overwrite` and `part_rows` do not change the routing.

    `model` is a bundled name, a directory or a hub id; either `text` files or a `dataset` of `traces.datasets`. With
    phase "both", `out` is a directory for encode.parquet and decode.parquet. `sequences` limits their number, `window`
    their input tokens. `candidates` are kept of each layer, by default 8, or all experts where there are fewer.
    `lookahead_depth` is the furthest layer ahead whose router is asked early. `generate` is the most greedy decoding
    steps, which then replace teacher forcing; `capacity` is the tokens of a sequence that a Switch expert takes before
    it drops some (None: it never does). `kind` overrides what the checkpoint says of its origin. `part_rows` is about
    what a kill can cost.
    """

    model: str
    out: Path
    text: tuple[Path, ...] = ()
    dataset: str | None = None
    split: Split = "all"
    phase: Literal["encode", "decode", "both"] = "decode"
    sequences: int | None = None
    window: int = 256
    candidates: int | None = None
    lookahead_depth: int = 1
    batch: int = 8
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    generate: int | None = None
    capacity: int | None = None
    random_init: bool = False
    kind: Kind | None = None
    restart: bool = False
    overwrite: bool = False
    part_rows: int = 8192

    @property
    def targets(self) -> dict[Phase, Path]:
        """The trace file of each phase asked for."""
        if self.phase == "both":
            return {"encode": self.out / "encode.parquet", "decode": self.out / "decode.parquet"}
        return {self.phase: self.out}

    @property
    def partial(self) -> Path:
        """Where finished parts are kept until all are."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def sequences_per_part(self) -> int:
        """Whole batches of about `part_rows` tokens."""
        return self.batch * max(1, self.part_rows // (self.batch * self.window))

    def check(self) -> None:
        """Raise InputError for options that contradict each other or an output that cannot be written."""
        if bool(self.text) == (self.dataset is not None):
            raise InputError("either --text or --dataset expected, and not both")
        if self.generate is not None and self.capacity is not None:
            raise InputError("--generate with --capacity: a step has one token, so no expert is ever full")
        if self.phase not in ("encode", "decode", "both"):
            raise InputError(f"--phase {self.phase}: encode, decode or both expected")
        for name in ("sequences", "candidates", "lookahead_depth", "batch", "generate", "capacity"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: at least 1 expected")
        self._check_out()
        self._check_finished()

    def _check_out(self) -> None:
        if not self.out.parent.is_dir():
            raise InputError(f"{self.out}: there is no directory {self.out.parent}")
        if self.phase == "both" and self.out.is_file():
            raise InputError(f"{self.out}: is a file: --phase both wants a directory")
        if self.phase != "both" and self.out.is_dir():
            raise InputError(f"{self.out}: is a directory: a file name expected")

    def _check_finished(self) -> None:
        """A finished trace is not lost by chance; what a killed run has begun goes on."""
        for target in self.targets.values():
            if target.exists() and not self.overwrite and not self.partial.exists():
                raise InputError(f"{target}: is there already: another --out, or --overwrite, expected")

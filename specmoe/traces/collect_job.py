"""A collection job: its options and their checks, and the finished parts that a killed job resumes from.

    T.parquet.partial/job.json                settings that determine the output, and the start date
    T.parquet.partial/decode-00000.parquet    a complete trace file with the first sequences; then 00001, ...

A part is renamed into place when it is complete, so every part that exists is finished. The record job.json is written
first and removed first: parts without a record belong to no job and are removed before a collection starts.
"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

from specmoe.errors import InputError
from specmoe.files import replacing, today
from specmoe.traces.schema import Block, Kind, Phase, TraceMeta, regroup
from specmoe.traces.store import Trace, write_trace
from specmoe.traces.text import Split

RECORD = "job.json"
PART_FILES = re.compile(r"(encode|decode)-\d{5,}\.parquet|\..*\.\d+\.tmp")  # parts, and what a kill leaves of one


@dataclass(frozen=True)
class CollectJob:
    """Options of one collection; `out`, `restart`, `overwrite` and `part_rows` do not change the routing.

    `model` is a bundled name, a directory or a hub id. The text is either `text` files or a `dataset`, a name in
    `traces.text.DATASETS`. With phase "both", `out` is a directory for encode.parquet and decode.parquet. `sequences`
    limits the number of sequences, `window` the input tokens of each. `candidates` is the number of experts recorded
    for each layer (default: 8, or all if there are fewer). `lookahead_depth` is the number of following layers whose
    routers are evaluated early. `generate` replaces teacher forcing by at most this many decoding steps, whose tokens
    are the likeliest or sampled at a `temperature`. `capacity` is the number of tokens of a sequence that a Switch
    expert accepts before it drops tokens (None: no limit). `kind` overrides the origin that the checkpoint declares.
    `part_rows` is the approximate number of tokens per part, which is the work that a kill can cost.
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
    temperature: float | None = None
    capacity: int | None = None
    random_init: bool = False
    kind: Kind | None = None
    restart: bool = False
    overwrite: bool = False
    part_rows: int = 8192

    @property
    def targets(self) -> dict[Phase, Path]:
        """Trace file of each requested phase."""
        if self.phase == "both":
            return {"encode": self.out / "encode.parquet", "decode": self.out / "decode.parquet"}
        return {self.phase: self.out}

    @property
    def partial(self) -> Path:
        """Directory of the finished parts until all are merged."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def sequences_per_part(self) -> int:
        """Sequences per part: whole batches of about `part_rows` tokens."""
        return self.batch * max(1, self.part_rows // (self.batch * self.window))

    def check(self) -> None:
        """Raise InputError for options that contradict each other or an output that cannot be written."""
        if bool(self.text) == (self.dataset is not None):
            raise InputError("either --text or --dataset expected, and not both")
        if self.generate is not None and self.capacity is not None:
            raise InputError("--generate with --capacity: a step has one token, so no expert is ever full")
        if self.temperature is not None and (self.generate is None or not 0 < self.temperature < inf):
            raise InputError(f"--temperature {self.temperature:g}: a positive number, and --generate, expected")
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
        """Refuse to overwrite a finished trace by accident; an unfinished collection may resume."""
        for target in self.targets.values():
            if target.exists() and not self.overwrite and not self.partial.exists():
                raise InputError(f"{target}: is there already: another --out, or --overwrite, expected")


@dataclass(frozen=True)
class Parts:
    """Parts of one collection; `date` is the day on which it started."""

    directory: Path
    date: str

    def has(self, number: int, phases: Iterable[Phase]) -> bool:
        """Whether a part is finished in all given phases."""
        return all(self._path(phase, number).exists() for phase in phases)

    def write(self, number: int, blocks: Mapping[Phase, Block], metas: Mapping[Phase, TraceMeta]) -> None:
        """Write a finished part: one file per phase."""
        for phase, block in blocks.items():
            write_trace(self._path(phase, number), metas[phase], [block])

    def merge(self, count: int, targets: Mapping[Phase, Path], metas: Mapping[Phase, TraceMeta]) -> None:
        """Merge `count` parts into the final traces, streaming by row group, then remove the parts."""
        for phase, target in targets.items():
            target.parent.mkdir(exist_ok=True)
            parts = (Trace(self._path(phase, number)) for number in range(count))
            write_trace(target, metas[phase], regroup(block for part in parts for block in part.blocks()))
        _clear(self.directory)

    def _path(self, phase: Phase, number: int) -> Path:
        return self.directory / f"{phase}-{number:05}.parquet"


def open_parts(directory: Path, settings: dict[str, Any], restart: bool) -> Parts:
    """Start a collection, or resume the one in `directory` if its `settings` (JSON values) are the same.

    Raises InputError, naming a setting that differs, unless `restart` discards the finished parts.
    """
    record = directory / RECORD
    if restart or not record.exists():
        if directory.is_dir():
            _clear(directory)
        _write_record(record, settings)
    stored = _read(record)
    for name, value in settings.items():
        if stored["settings"].get(name) != value:
            raise InputError(f"{directory}: begun with another {name}: delete it, or pass --restart to begin again")
    return Parts(directory, stored["date"])


def _clear(directory: Path) -> None:
    """Remove the record, then the parts, then the directory if it is empty."""
    (directory / RECORD).unlink(missing_ok=True)
    for path in [path for path in directory.glob("*") if PART_FILES.fullmatch(path.name)]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()


def _write_record(record: Path, settings: dict[str, Any]) -> None:
    try:
        record.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{record.parent}: cannot be made: {error.strerror}") from None
    with replacing(record) as temporary:
        temporary.write_text(json.dumps({"date": today(), "settings": settings}, indent=1))


def _read(record: Path) -> dict[str, Any]:
    try:
        begun = json.loads(record.read_text())
        return {"date": str(begun["date"]), "settings": dict(begun["settings"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{record}: damaged: delete {record.parent}, or pass --restart") from None

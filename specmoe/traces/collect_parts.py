"""What a killed collection leaves behind, and how it goes on: numbered parts beside a record of what they belong to.

    T.parquet.partial/job.json                what determines the output, and the day it was begun
    T.parquet.partial/decode-00000.parquet    a whole trace file with the first sequences, and so on

A part is renamed into place when it is whole, so what exists is finished. The record is the first to be written and
the first to be removed: parts without one are nobody's, and are removed before a collection begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specmoe.errors import InputError
from specmoe.files import replacing
from specmoe.traces.blocks import regroup
from specmoe.traces.schema import Block, Phase, TraceMeta
from specmoe.traces.store import Trace, today, write_trace

RECORD = "job.json"
OWN = re.compile(r"(encode|decode)-\d{5,}\.parquet|\..*\.\d+\.tmp")  # names of parts and of what a kill leaves of one


@dataclass(frozen=True)
class Parts:
    """The parts of one collection; `date` is the day it was begun."""

    directory: Path
    date: str

    def has(self, number: int, phases: Iterable[Phase]) -> bool:
        """Whether a part is finished in all phases."""
        return all(self._path(phase, number).exists() for phase in phases)

    def write(self, number: int, blocks: Mapping[Phase, Block], metas: Mapping[Phase, TraceMeta]) -> None:
        """Finish a part."""
        for phase, block in blocks.items():
            write_trace(self._path(phase, number), metas[phase], [block])

    def merge(self, count: int, targets: Mapping[Phase, Path], metas: Mapping[Phase, TraceMeta]) -> None:
        """Write the final traces from `count` parts, row group by row group, then remove the parts."""
        for phase, target in targets.items():
            target.parent.mkdir(exist_ok=True)
            parts = (Trace(self._path(phase, number)) for number in range(count))
            write_trace(target, metas[phase], regroup(block for part in parts for block in part.blocks()))
        _clear(self.directory)

    def _path(self, phase: Phase, number: int) -> Path:
        return self.directory / f"{phase}-{number:05}.parquet"


def open_parts(directory: Path, settings: dict[str, Any], restart: bool) -> Parts:
    """Begin a collection, or go on with the one in `directory` if `settings` (JSON values) are the same.

    Raises InputError, naming a setting that differs, unless `restart` says to throw the finished parts away.
    """
    record = directory / RECORD
    if restart or not record.exists():
        if directory.is_dir():
            _clear(directory)
        _begin(record, settings)
    begun = _read(record)
    for name, value in settings.items():
        if begun["settings"].get(name) != value:
            raise InputError(f"{directory}: begun with another {name}: delete it, or pass --restart to begin again")
    return Parts(directory, begun["date"])


def _clear(directory: Path) -> None:
    """Remove the record, then the parts, which belong to no collection without it; then the directory, if empty."""
    (directory / RECORD).unlink(missing_ok=True)
    for path in [path for path in directory.glob("*") if OWN.fullmatch(path.name)]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()


def _begin(record: Path, settings: dict[str, Any]) -> None:
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

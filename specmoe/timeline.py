"""Runs as timelines: Chrome's trace event format, which ui.perfetto.dev opens."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from specmoe.files import replacing

LANES = ("host", "compute", "copy", "disk", "cpu")


class Span(NamedTuple):
    """Something in a lane, one of `LANES`, that takes time; `args` is what a viewer shows of it besides its name."""

    lane: str
    name: str
    start_ns: int
    end_ns: int
    args: Mapping[str, Any]


def write_spans(path: Path, processes: Mapping[str, Sequence[Span]]) -> None:
    """Write the spans of runs by their names, each run with all lanes and as if it began at 0.

    Times in the file are microseconds. Raises InputError if the place cannot be written.
    """
    events = [event for pid, process in enumerate(processes.items(), start=1) for event in _events(pid, *process)]
    with replacing(path) as fresh:
        fresh.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}))


def _events(pid: int, process: str, spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": process}}
    for tid, lane in enumerate(LANES, start=1):
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": lane}}
    begin = min((span.start_ns for span in spans), default=0)
    for lane, name, start, end, args in spans:
        when = {"ts": (start - begin) / 1e3, "dur": (end - start) / 1e3}
        yield {"ph": "X", "pid": pid, "tid": LANES.index(lane) + 1, "name": name, **when, "args": dict(args)}

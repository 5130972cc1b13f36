"""What was routed: the trace schema, its Parquet store, and everything that makes, checks and reads traces."""

from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.store import Trace, TraceWriter, open, write_trace  # noqa: A004 (the documented name)

__all__ = ["Block", "Trace", "TraceMeta", "TraceWriter", "open", "write_trace"]

"""Routing traces: the schema, the Parquet store, and everything that makes, checks and reads traces.

`specmoe.traces()` lists the bundled traces as a DataFrame, and `specmoe.traces.open(name)` opens one. To read the code,
start with `schema.py` (what a trace holds), `store.py` (Parquet) and `workload.py` (batches and their demands).
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.store import Trace, TraceWriter, names, open, write_trace  # noqa: A004 (the documented name)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Block", "Trace", "TraceMeta", "TraceWriter", "open", "write_trace"]


class _Callable(ModuleType):
    """Class of this module, which makes the module callable."""

    def __call__(self) -> "pd.DataFrame":
        """Bundled traces as a table: phase, tokens, layers, experts, top-k and model."""
        import pandas as pd

        def row(name: str) -> dict[str, object]:
            trace = open(name)
            meta = trace.meta
            sizes = {"layers": meta.num_layers, "experts": meta.num_experts, "top_k": meta.top_k}
            return {"name": name, "phase": meta.phase, "tokens": len(trace), **sizes, "model": meta.model}

        return pd.DataFrame([row(name) for name in names()])


sys.modules[__name__].__class__ = _Callable

"""specmoe: which expert-offloading policy is fastest, by how much, and how far from the best possible.

Start with `specmoe.simulate`, `sweep`, `advise` and `budget` (see `specmoe.api`); `specmoe.policies()`,
`evictions()`, `misses()`, `predictors()`, `profiles()`, `hosts()`, `shapes()` and `traces()` list what there is, as
DataFrames.

To read the code, start with three files: `sim/decide/director.py` (what is loaded and evicted), `sim/timing/engine.py`
(when everything happens) and `sim/run.py` (how the two become a result). `docs/design.md` says why.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specmoe.api import (
        advise,
        budget,
        evictions,
        hosts,
        misses,
        policies,
        predictors,
        profiles,
        shapes,
        simulate,
        sweep,
    )

__version__ = "0.1.0"
__all__ = [
    "advise",
    "budget",
    "evictions",
    "hosts",
    "misses",
    "policies",
    "predictors",
    "profiles",
    "shapes",
    "simulate",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """The functions of `specmoe.api`, imported when they are first used: `import specmoe` loads no library."""
    if name not in __all__:
        raise AttributeError(f"module 'specmoe' has no attribute {name!r}")
    from specmoe import api

    return getattr(api, name)

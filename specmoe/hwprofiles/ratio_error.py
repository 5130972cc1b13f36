"""Expected error of the ratio of two policies' mean steps on one machine, from past replays.

Two policies on the same machine share most of the error of a prediction, so their ratio is known better than either.
`data/ratio_error.json` holds the figures of docs/validation.md and is generated with it. An error is that of the
simulated ratio against the measured one, of two held-out cells that differ in policy only.
"""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from specmoe.hwprofiles.shape import Format, is_compressed
from specmoe.hwprofiles.style import Style, style_of

FEWEST_PAIRS = 20  # of cells, for a style to be judged by its own replays


class RatioError(NamedTuple):
    """Errors of ratios over the pairs of one machine's replay in one style."""

    replay: str
    style: str
    pairs: int
    median: float
    p95: float
    worst: float

    def covers(self, held: Format, style: Style) -> bool:
        """Whether experts in a format were replayed in a style; how they are multiplied matters if compressed."""
        own = style_of(self.style)
        return own.launch == style.launch and (own.multiply == style.multiply or not is_compressed(held))


@cache
def ratio_errors() -> tuple[RatioError, ...]:
    """All replays in the package."""
    file = files("specmoe.hwprofiles") / "data" / "ratio_error.json"
    return tuple(RatioError(**row) for row in json.loads(file.read_text(encoding="utf-8"))["rows"])


def ratio_error(held: Format, style: Style, validated: bool, known: tuple[RatioError, ...] | None = None) -> float:
    """Expected error of the ratio of two policies with experts in slots of format `held`, computed in a style.

    On a validated machine 95% of the pairs of every replay in that style are within it, else all pairs. A style of few
    pairs is judged by the replays in all styles.
    """
    every = ratio_errors() if known is None else known
    rows = [row for row in every if row.covers(held, style)]
    rows = rows if sum(row.pairs for row in rows) >= FEWEST_PAIRS else list(every)
    return max(row.p95 if validated else row.worst for row in rows)

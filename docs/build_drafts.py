"""Tables of docs/guides/simulate.md on speculative decoding: `python docs/build_drafts.py [bundled] [TRACE]`.

`bundled` measures the bundled trace anew, and TRACE that of openai/gpt-oss-20b, imported with `specmoe traces import
--format gptoss` and not shipped. What was measured is kept in docs/runs/drafts.json.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from page_tables import fill

from specmoe.sim.config import RunConfig
from specmoe.sim.sweep.evaluate import evaluate

DOCS = Path(__file__).parent
RUN, PAGE = DOCS / "runs" / "drafts.json", DOCS / "guides" / "simulate.md"
BUNDLED = "switch-mini-128/decode/test"
DRAFTED, CHANCES = (1, 3, 7), (0.5, 0.8, 0.95)


class Place(NamedTuple):
    """Where experts are, in words, and the policy and slots of a run."""

    words: str
    policy: str
    slots: int


PLACES = {
    "gpt-oss-20b": (
        Place("all in VRAM", "gpu-only", 768),
        Place("half in VRAM (384 slots), LRU", "on-demand-lru", 384),
        Place("a quarter in VRAM (192 slots), LRU", "on-demand-lru", 192),
        Place("all on the CPU (`n-cpu-moe:24`)", "n-cpu-moe:24", 1),
    ),
    "switch-base-128": (
        Place("all in VRAM", "gpu-only", 768),
        Place("half in VRAM (384 slots), LRU", "on-demand-lru", 384),
        Place("a fifth in VRAM (154 slots), LRU", "on-demand-lru", 154),
        Place("all on the CPU (`n-cpu-moe:6`)", "n-cpu-moe:6", 1),
    ),
}
STEPS = {"gpt-oss-20b": 300, "switch-base-128": 1000}


def main() -> None:
    """Measure the traces that are named, and fill in the page's tables."""
    rows = json.loads(RUN.read_text())
    for name in sys.argv[1:]:
        shape, trace = ("switch-base-128", BUNDLED) if name == "bundled" else ("gpt-oss-20b", name)
        rows[shape] = [measure(trace, shape, place) for place in PLACES[shape]]
    RUN.write_text(json.dumps(rows, indent=1) + "\n")
    fill(PAGE, {f"drafts {shape}": table(some) for shape, some in rows.items()})


def measure(trace: str, shape: str, place: Place) -> dict[str, Any]:
    """Tokens/s without drafts, and with them for each chance."""
    base = rate(trace, shape, place)
    drafts = {str(count): [rate(trace, shape, place, count, chance) for chance in CHANCES] for count in DRAFTED}
    return {"experts": place.words, "without": base, "with": drafts}


def rate(trace: str, shape: str, place: Place, verify: int = 0, chance: float | None = None) -> float:
    """Tokens/s of a run, kept ones."""
    chances = () if chance is None else (chance,)
    asked = {"shape": shape, "slots": place.slots, "steps": STEPS[shape]}
    (row,) = evaluate([RunConfig(trace, place.policy, **asked, verify=verify, assumed_acceptance=chances)], bounds=())
    return round(float(row["tokens_per_second"]), 3)


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A row for each place, rates with drafts relative to that without."""
    yield f"| experts | without drafts | {' | '.join(f'{count} drafted' for count in DRAFTED)} |"
    yield f"|---|---|{'---|' * len(DRAFTED)}"
    for row in rows:
        cells = (", ".join(f"{rate / row['without']:.2f}" for rate in row["with"][str(count)]) for count in DRAFTED)
        yield f"| {row['experts']} | {row['without']:.0f} tok/s | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

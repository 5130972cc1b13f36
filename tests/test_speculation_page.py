"""docs/speculation.md shows what docs/runs/speculation holds, and its headline is what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doc_pages import builder_of

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "speculation.md"


def scores(trace: str) -> dict[str, dict[str, Any]]:
    rows = json.loads((DOCS / "runs" / "speculation" / f"{trace}.json").read_text())["predictors"]
    return {row["predictor"]: row for row in rows if "error" not in row}


def test_tables_are_those_of_the_runs() -> None:
    build = builder_of("speculation")
    assert build.filled(PAGE.read_text()) == PAGE.read_text()


def test_networks_beat_all_that_sees_the_same_with_intervals_apart() -> None:
    for trace in ("decode", "encode", "gptoss"):
        found = scores(trace)
        blind = [
            name for name in found if name.startswith("learned-") and (name != "learned-fusion" or trace == "gptoss")
        ]
        tables = [row for name, row in found.items() if not name.startswith("learned-") and not row["peeks"]]
        best = max(row["top1_interval"][1] for row in tables if row["predictor"] != "lookahead")
        assert blind and min(found[name]["top1_interval"][0] for name in blind) > best
    for trace in ("decode", "encode"):
        found = scores(trace)
        assert found["learned-fusion"]["top1_interval"][0] > found["lookahead"]["top1_interval"][1]


def test_headline() -> None:
    found, text = scores("decode"), " ".join(PAGE.read_text().split())
    for name in ("lookahead", "learned-transformer", "token_identity", "learned-fusion"):
        assert f"{100 * found[name]['top1']:.0f} %" in text.partition("## Accuracy")[0]
    latency = {row["policy"]: row for row in json.loads((DOCS / "runs/speculation/latency.json").read_text())["227"]}
    assert latency["lookahead"]["charged_ns"] < latency["on-demand-lru"]["charged_ns"]
    learned = [row["charged_ns"] for name, row in latency.items() if name.startswith("learned-")]
    assert min(learned) > latency["on-demand-lru"]["charged_ns"]


def test_the_tables_of_drafts_are_what_was_measured_and_is_measured_now() -> None:
    build = builder_of("drafts")
    rows, page = json.loads(build.RUN.read_text()), build.PAGE.read_text()
    for some in rows.values():
        assert "\n".join(build.table(some)) in page
    half, place = rows["switch-base-128"][1], build.PLACES["switch-base-128"][1]
    assert build.rate(build.BUNDLED, "switch-base-128", place, 3, 0.8) == half["with"]["3"][1]

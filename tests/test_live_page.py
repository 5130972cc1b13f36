"""docs/live.md is made of the committed records."""

from types import ModuleType

import pytest
from doc_pages import DOCS, builder_of


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return builder_of("generate")


def test_the_tables_are_those_of_the_records(builder: ModuleType) -> None:
    text = builder.PAGE.read_text()
    for name, lines in builder.tables().items():
        assert f"<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- end {name} -->" in text


def test_texts_and_decisions_are_equal_and_errors_are_those_that_the_pages_say(builder: ModuleType) -> None:
    rows, text = builder.rows_of(*builder.MODELS), builder.PAGE.read_text()
    assert len(rows) >= 20 and all(row["same_text"] and row["as_foretold"] for row in rows)
    errors, single = [row["error"] for row in rows], [error for row in rows for error in row["error_of"]]
    (middle, worst), (middle_of_each, worst_of_each) = map(builder.middle_and_worst, (errors, single))
    assert middle <= 0.03
    assert f"Over all cells the median is {100 * middle:.1f} % and the worst {100 * worst:.1f} %" in text
    assert f"{sum(abs(error) > 0.08 for error in errors)} of the {len(rows)} cells are beyond 8 %" in text
    together = [row["error"] for row in builder.rows_of(*set(builder.MODELS) - {"switch-mini-128"})]
    (middle_then, worst_then), count = builder.middle_and_worst(together), len(together)
    then = f"{count} cells have a median of {100 * middle_then:.1f} % and a worst of {100 * worst_then:.1f} %"
    assert then in " ".join(text.split())
    of_medians = max(abs(row["foretold_ms"] / row["step_ms"] - 1) for row in rows)
    assert f"worst is {100 * of_medians:.1f} %" in " ".join(text.split())
    costs = [one for one in builder.record("switch-mini-128")["costs_ns"] if not one["depth"]]
    host = [(sum(one["lead"]) + one["head"]) / 1e6 for one in costs]
    assert f"{min(host):.0f} to {max(host):.0f} ms for one and the same step" in text
    assert f"The worst single round is off by {100 * worst_of_each:.0f} %" in text
    spans = [(row["foretold_ms"], min(row["step_ms_of"]), max(row["step_ms_of"])) for row in rows]
    outside = sum(not least <= foretold <= most for foretold, least, most in spans)
    assert f"{outside} of the {len(rows)} foretold steps lie outside" in text
    for page in (DOCS.parent / "README.md", DOCS / "guides" / "generate.md"):
        words = " ".join(page.read_text().split())
        assert f"median error of {100 * middle:.1f} % and a worst cell of {100 * worst:.1f} %" in words
        assert f"off by {100 * middle_of_each:.1f} % in the median" in words

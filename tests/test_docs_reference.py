"""Pages that are made from the code are as the code is: `make reference` after a change."""

from __future__ import annotations

import pytest
from doc_pages import DOCS, builder_of

PAGES = builder_of("reference").PAGES


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page]().rstrip() + "\n", "run `make reference`"


def test_the_table_of_generated_texts_is_that_of_the_runs() -> None:
    build, text = builder_of("generate"), (DOCS / "guides" / "generate.md").read_text()
    assert "<!-- foretold -->\n" + "\n".join(build.foretold()) + "\n<!-- end foretold -->" in text
    rows = [row for model in build.MODELS for row in build.cells(model)]
    assert all(row["same_text"] and row["as_foretold"] for row in rows)
    middle, worst = build.errors(rows)
    assert f"the median is {100 * middle:.1f} %, the worst\n{100 * worst:.1f} %" in text
    shares = [row["host_ms"] / row["step_ms"] for row in rows]
    assert f"{100 * min(shares):.0f} % to {100 * max(shares):.0f} % of the measured steps" in text
    spread = max(max(row["step_ms_of"]) / min(row["step_ms_of"]) for row in rows)
    assert f"differ by up to {100 * spread - 100:.0f} % between" in text
    outside = [row for row in rows if not min(row["step_ms_of"]) <= row["foretold_ms"] <= max(row["step_ms_of"])]
    assert f"\n{len(outside)} of the {len(rows)} foretold steps lie outside" in text
    first = [row for model in build.FIRST for row in build.cells(model)]
    middle, worst = build.errors(first)
    found = f"a median error of {100 * middle:.1f} % and a worst of {100 * worst:.1f} %"
    assert f"has {len(first)} cells with {found}" in text

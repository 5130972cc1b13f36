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

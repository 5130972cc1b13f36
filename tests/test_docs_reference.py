"""Pages that are made from the code are as the code is: `make reference` after a change."""

from __future__ import annotations

import pytest
from doc_pages import DOCS, builder_of

PAGES = builder_of("reference").PAGES


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page]().rstrip() + "\n", "run `make reference`"

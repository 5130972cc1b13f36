"""Pages that are made from the code are as the code is: `make reference` after a change."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from doc_pages import DOCS


def builder() -> Any:
    spec = importlib.util.spec_from_file_location("build_reference", DOCS / "build_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = builder().PAGES


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page]().rstrip() + "\n", "run `make reference`"

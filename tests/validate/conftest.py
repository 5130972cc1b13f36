"""Every replay begins with a collection of garbage, which takes longer than a fake one itself."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def no_collections(request: pytest.FixtureRequest) -> Iterator[None]:
    """But on a real device, where what is left over takes memory."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("gpu"):
            patch.setattr(gc, "collect", lambda *_: 0)
        yield

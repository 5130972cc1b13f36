"""Everything here runs on one thread: products are tiny, and several threads would only wait for each other.

Every measurement begins with a collection of garbage, which takes longer than most of these.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def no_collections(request: pytest.FixtureRequest) -> Iterator[None]:
    """But on a real device, where what is left over takes memory."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("gpu"):
            patch.setattr(gc, "collect", lambda *_: 0)
        yield

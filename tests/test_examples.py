"""Two runs of the suite try the same examples."""

from __future__ import annotations

import re

import pytest
from doc_pages import ROOT
from examples import PROFILE, examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.mark.skipif(PROFILE != "ci", reason="new examples are asked for")
def test_the_same_examples_in_every_run_and_none_of_an_earlier_one() -> None:
    drawn: list[list[int]] = []
    for _ in range(2):
        drawn.append([])

        @examples(20)
        @given(st.integers())
        def note(number: int) -> None:
            drawn[-1].append(number)

        note()
    assert drawn[0] == drawn[1]
    assert settings.default is not None
    assert settings.default.database is None


def test_nothing_waits_for_a_clock() -> None:
    for chosen in (settings.default, examples(5), examples(5, HealthCheck.function_scoped_fixture)):
        assert chosen is not None
        assert chosen.deadline is None
        assert HealthCheck.too_slow in chosen.suppress_health_check


def test_every_test_has_its_number_of_examples_from_one_place() -> None:
    own = [path.name for path in (ROOT / "tests").rglob("*.py") if re.search(r"\bmax_examples=", path.read_text())]
    assert own == ["examples.py"]

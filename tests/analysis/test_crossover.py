"""Where another policy becomes the fastest: the sentence, by hand."""

from typing import Any

import pytest
from sweep_rows import LINK, guess, oracle, row, table

from specmoe.analysis.answer import crossover_of
from specmoe.analysis.figures.setting import settings_of

SCALED = "scale.host_to_device.pinned.bandwidth"
Times = tuple[float, float, float]


def crossover(*at: Times, column: str = LINK, unit: float = 1e9, **changes: Any) -> str:
    """Of on-demand-lru and lookahead: value, and mean step of both, ms."""
    rows = [
        one
        for value, ms, other in at
        for here in ({column: int(value) if column == "slots" else value * unit, **changes},)
        for one in (row(ms=ms, **here), guess("lookahead", other, **here), oracle(1.5, **here))
    ]
    (found,) = settings_of(table(*rows))
    return crossover_of(found)


def test_by_hand_a_crossing_is_where_times_linear_in_that_of_a_byte_are_equal() -> None:
    # a byte takes 1/10 and 1/20 ns; the difference, -1 and 1 ms, is none at 3/40 ns
    assert crossover((10, 4.0, 5.0), (20, 3.0, 2.0)) == "on-demand-lru is fastest below 13.3 GB/s, lookahead above."


def test_by_hand_along_slots_times_are_linear_in_their_number() -> None:
    assert crossover((64, 4.0, 7.0), (128, 3.0, 2.0), column="slots") == (
        "on-demand-lru is fastest below 112 slots, lookahead above."
    )


def test_factors_of_the_link_are_told_as_such() -> None:
    assert crossover((0.5, 4.0, 5.0), (2, 3.0, 2.0), column=SCALED, unit=1.0) == (
        "on-demand-lru is fastest below 0.800 times the profile's own link, lookahead above."
    )


def test_two_crossings() -> None:
    found = crossover((10, 4.0, 5.0), (20, 3.0, 2.0), (40, 1.8, 1.9))
    assert found == "on-demand-lru is fastest below 13.3 GB/s, lookahead up to 36.7 GB/s, on-demand-lru above."


def test_many_crossings_are_counted() -> None:
    times = [(10.0 + n, 4.0, 3.0 if n % 2 else 5.0) for n in range(6)]
    assert crossover(*times) == (
        "The fastest policy changes 5 times from 10.0 to 15.0 GB/s: on-demand-lru at 10.0 GB/s and lookahead at "
        "15.0 GB/s."
    )


@pytest.mark.parametrize("at", [[(10, 4.0, 5.0), (20, 3.0, 3.5)], [(10, 4.0, 5.0)]])
def test_where_one_policy_is_fastest_nothing_is_said(at: list[Times]) -> None:
    assert crossover(*at) == ""


def test_where_they_are_level_is_said() -> None:
    at = [(10, 4.0, 5.0), (20, 3.0, 2.9), (40, 2.0, 1.5)]
    assert crossover(*at, expected_error=0.1).endswith(" GB/s, lookahead above; they are level at 20.0 GB/s.")


def test_who_is_level_everywhere_does_not_cross() -> None:
    at = [(10, 4.0, 4.1), (20, 3.0, 2.9)]
    assert crossover(*at, expected_error=0.1) == "on-demand-lru and lookahead are level from 10.0 to 20.0 GB/s."

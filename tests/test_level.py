"""Who is level with the fastest, by hand."""

from typing import Any

import pytest

from specmoe.uncertainty import Timed, band, fits, is_level, lead_of, listed, real_lead, sentence, timed


def lead_words(*each: Timed) -> str:
    return sentence(lead_of(each))


def test_by_hand_a_lead_beyond_the_error_is_one() -> None:
    found = lead_of([Timed("b", 2_500_000, 0, 0.1), Timed("a", 2_000_000, 0, 0.1)])
    assert (found.best.policy, found.level) == ("a", ())
    assert found.ahead == pytest.approx(0.2)
    assert sentence(found) == "a is fastest: 2.000 ms a step, 20 % ahead of b"


def test_by_hand_a_lead_within_the_error_is_none() -> None:
    found = lead_of([Timed("b", 2_009_400, 0, 0.109), Timed("a", 2_000_000, 0, 0.109), Timed("c", 3e6, 0, 0.109)])
    assert ([each.policy for each in found.leaders], found.ahead) == (["a", "b"], None)
    assert found.behind == Timed("c", 3e6, 0, 0.109)
    assert (
        sentence(found)
        == "a and b are level: 2.000 to 2.009 ms a step, within ±10.9 %, the expected error of such a comparison"
    )


@pytest.mark.parametrize(("error", "level"), [(0.25, True), (0.24, False)])
def test_by_hand_the_larger_error_counts_to_its_end(error: float, level: bool) -> None:
    best, other = Timed("a", 100, 0, 0.01), Timed("b", 125, 0, error)
    assert is_level(best, other) is level
    assert is_level(best._replace(error=error), other._replace(error=0.01)) is level


def test_by_hand_noise_is_two_standard_errors_of_the_difference() -> None:
    best = Timed("a", 100, 3)
    assert is_level(best, Timed("b", 110, 4))  # the root of 9 + 16 is 5
    assert not is_level(best, Timed("b", 110.1, 4))
    assert lead_words(best, Timed("b", 110, 4)).endswith(
        "within the expected error of a comparison or the noise of routing"
    )


def test_equally_fast_policies_are_level_whatever_is_known() -> None:
    assert lead_words(Timed("b", 1e6), Timed("a", 1e6)).startswith("a and b are level: 1.000 to 1.000 ms a step")


def test_many_are_counted() -> None:
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d"]) == "a and 3 others"


def row(policy: str, mean: int, **changes: Any) -> dict[str, Any]:
    return {"policy": policy, "latency_mean_ns": mean, "yardstick": False} | changes


def test_yardsticks_lead_nobody() -> None:
    assert real_lead([row("oracle", 1, yardstick=True)]) is None
    found = real_lead([row("oracle", 1, yardstick=True), row("a", 2)])
    assert found is not None and found.leaders == (Timed("a", 2.0),)


def test_what_is_not_known_is_nothing() -> None:
    empty: dict[str, Any] = {"latency_sem_ns": float("nan"), "expected_error": None}
    assert timed(row("a", 1) | empty) == Timed("a", 1.0, 0.0, 0.0)
    assert band(empty) == ""


def test_a_comparison_has_an_error_of_its_own_where_it_is_known() -> None:
    assert timed(row("a", 1, expected_error=0.1, ratio_error=0.02)).error == 0.02
    assert timed(row("a", 1, expected_error=0.1, ratio_error=None)).error == 0.1  # a file of version 0.1.0


def test_bands_say_where_they_come_from() -> None:
    sure = {"expected_error": 0.0449, "validated": True, "error_basis": "95% of 89 cells"}
    assert band(sure) == "±4.49 %: 95% of 89 cells"
    assert band(sure | {"validated": False}) == "±4.49 % or worse: 95% of 89 cells"


def test_what_fits_is_said() -> None:
    held = {"fits": True, "vram_peak_bytes": 3 << 29, "shape": "s", "format": "int4"}
    assert fits(held) == "fits: nothing to offload: all experts of s in int4 take 1.5 GiB of VRAM"
    assert fits(held | {"fits": False}) == fits({}) == ""

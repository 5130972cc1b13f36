"""A cell judged, worked out by hand; what cannot be compared is refused; correlation and noise are what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_cells import cell, judged, run_of, steps

from specmoe.errors import InputError
from specmoe.results import DECISIONS
from specmoe.validate.fidelity import compare, correlation_of, judge, noise_of, require_quiet, rows
from specmoe.validate.measured import hash_of_decisions, steps_of
from specmoe.validation_table import PARTS, Side

MEASURED = [[100, 200, 300, 400], [110, 210, 310, 410], [120, 220, 320, 380]]  # means 250, 260, 260


def test_by_hand() -> None:
    runs = [
        run_of(latency, compute, stall)
        for latency, compute, stall in zip(MEASURED, (30, 31, 40), (20, 21, 19), strict=True)
    ]
    found = compare(cell(), run_of([90, 200, 300, 398], 29, 22), runs)
    # Per-step medians 110, 210, 310, 400; a step's compute 60, 62, 80 and stall 40, 42, 38, two layers each.
    assert found.measured == Side(257.5, 260, pytest.approx(386.5), 62, 40, 155.5)
    assert found.simulated == Side(247, 250, pytest.approx(383.3), 58, 44, 145)
    assert found.error == pytest.approx(247 / 257.5 - 1)
    assert found.p50_error == pytest.approx(-10 / 260)
    assert found.p95_error == pytest.approx(383.3 / 386.5 - 1)
    assert [found.part_error(part) for part in PARTS] == pytest.approx([-4 / 257.5, 4 / 257.5, -10.5 / 257.5])
    assert found.spread == pytest.approx(10 / 260)
    assert found.repeats == 3
    assert found.step_correlation == pytest.approx(np.corrcoef([110, 210, 310, 400], [90, 200, 300, 398])[0, 1])


def test_errors_of_parts_add_up() -> None:
    found = judge(cell(), steps([[90, 130]], 31, [[7, 50]]), steps([[100, 120], [104, 140]], [[30, 20]], [[10], [14]]))
    assert sum(found.part_error(part) for part in PARTS) == pytest.approx(found.error)
    for side in (found.measured, found.simulated):
        assert side.compute_ns + side.stall_ns + side.host_ns == pytest.approx(side.mean_ns)


def test_a_perfect_simulation_has_no_error() -> None:
    found = judge(cell(), steps(MEASURED[:1]), steps([MEASURED[0]] * 2))
    assert (found.error, found.p50_error, found.p95_error, found.spread, found.noise_ns) == (0, 0, 0, 0, 0)
    assert found.step_correlation == pytest.approx(1)
    assert found.measured == found.simulated


def test_one_slow_repeat_of_three_moves_neither_mean_nor_steps() -> None:
    quiet = judge(cell(), steps(MEASURED[:1]), steps([MEASURED[0]] * 3))
    slow = judge(cell(), steps(MEASURED[:1]), steps([*[MEASURED[0]] * 2, [10 * latency for latency in MEASURED[0]]]))
    assert slow.measured == quiet.measured
    assert slow.spread == pytest.approx(9)


def test_steps_interrupted_in_one_repeat_each_move_nothing() -> None:
    """Each of the repeats has a mean of its own, and none is that of an undisturbed run."""
    once = np.array([MEASURED[0]] * 3)
    for repeat, step in enumerate((0, 1, 3)):
        once[repeat, step] += 1000 * (repeat + 1)
    quiet = judge(cell(), steps(MEASURED[:1]), steps([MEASURED[0]] * 3))
    assert judge(cell(), steps(MEASURED[:1]), steps(once)).measured == quiet.measured


@pytest.mark.parametrize("column", DECISIONS)
def test_other_decisions_are_refused(column: str) -> None:
    other = run_of(MEASURED[0], **{column: np.arange(8) + 5})
    for simulated, measured in ((run_of(MEASURED[0]), other), (other, run_of(MEASURED[0]))):
        with pytest.raises(InputError, match=f"fp16/b1/lookahead/154: decisions differ in {column}"):
            compare(cell(), simulated, [simulated, measured])
        with pytest.raises(InputError, match="lookahead/154: simulated and measured decisions differ"):
            judge(cell(), steps_of([simulated]), steps_of([measured] * 2))
    with pytest.raises(InputError, match=f"decisions differ in {column}"):
        steps_of([run_of(MEASURED[0]), other])


def test_decisions_are_told_apart_by_what_they_are_not_by_time() -> None:
    table = run_of(MEASURED[0]).table
    assert hash_of_decisions(table) == hash_of_decisions(run_of(MEASURED[1], 7, 8).table)
    narrow = {name: column.astype(np.int32) for name, column in table.items()}
    assert hash_of_decisions(narrow) == hash_of_decisions(table)
    swapped = table | {"demands": table["layer"], "layer": table["demands"]}
    assert hash_of_decisions(swapped) != hash_of_decisions(table)


@pytest.mark.parametrize("repeats", [0, 1])
def test_two_repeats_are_the_least(repeats: int) -> None:
    with pytest.raises(InputError, match=f"measured {repeats} times: 2 or more expected"):
        compare(cell(), run_of(MEASURED[0]), [run_of(MEASURED[0])] * repeats)


def test_one_stored_repeat_is_too_few() -> None:
    with pytest.raises(InputError, match="measured 1 times"):
        judge(cell(), steps(MEASURED[:1]), steps(MEASURED[:1]))


def test_steps_of_runs() -> None:
    found = steps_of([run_of(MEASURED[0], 3, 4), run_of(MEASURED[1], 5, 6)])
    assert found.latency.tolist() == MEASURED[:2]
    assert found.compute.tolist() == [[6] * 4, [10] * 4]
    assert found.stall.tolist() == [[8] * 4, [12] * 4]
    assert found.typical.tolist() == [105, 205, 305, 405]


@pytest.mark.parametrize("repeats", [2, 3, 7])
def test_noise_is_the_standard_deviation_of_normal_noise(repeats: int) -> None:
    rng = np.random.default_rng(repeats)
    latency = 10**6 + 10**5 * rng.random(4000) + 500 * rng.standard_normal((repeats, 4000))
    assert noise_of(latency.astype(np.int64)) == pytest.approx(500, rel=0.05)


def test_noise_is_neither_a_slow_repeat_nor_interrupted_steps() -> None:
    rng = np.random.default_rng(1)
    latency = (10**6 + 500 * rng.standard_normal((3, 4000))).astype(np.int64)
    expected = noise_of(latency)
    latency[1] += 10**5
    assert noise_of(latency) == pytest.approx(expected)
    latency[2, ::50] += 10**7
    assert noise_of(latency) == pytest.approx(expected, rel=0.05)


def test_noise_is_of_every_two_repeats() -> None:
    still, restless = [100] * 4, [90, 110, 95, 105]
    assert noise_of(np.array([still, still, restless])) == noise_of(np.array([restless, still, still])) > 0


def test_no_correlation_where_the_simulated_steps_differ_by_no_more_than_noise() -> None:
    simulated, measured = np.array([99.0, 101.0] * 50), np.array([98.0, 102.0] * 50)  # standard deviation 1
    assert correlation_of(simulated, measured, 1.01) is None
    assert correlation_of(simulated, measured, 1.0) is None
    assert correlation_of(simulated, measured, 0.99) == pytest.approx(1)
    assert correlation_of(simulated, measured[::-1], 0.99) == pytest.approx(-1)
    assert correlation_of(np.full(100, 7.0), measured, 0.0) is None


def test_real_steps_that_are_all_equal_are_not_what_was_said_of_them() -> None:
    assert correlation_of(np.array([1.0, 2.0]), np.array([5.0, 5.0]), 0.0) == 0


def test_a_flat_cell_has_no_correlation_and_an_uneven_one_has() -> None:
    rng = np.random.default_rng(2)
    shape = 10**6 + np.array([0, 0, 50_000, 0] * 50)
    noisy = (shape + 2_000 * rng.standard_normal((3, 200))).astype(np.int64)
    flat = (10**6 + 2_000 * rng.standard_normal((3, 200))).astype(np.int64)
    ripple = [10**6 + 32 * (step // 32) for step in range(200)]
    assert judge(cell(), steps([ripple]), steps(flat)).step_correlation is None
    found = judge(cell(), steps([shape]), steps(noisy)).step_correlation
    assert found is not None
    assert 0.99 < found < 1


def test_a_busy_device() -> None:
    quiet = [judged(cell(slots=slots), spread=0.02) for slots in (1, 2, 3)]
    require_quiet([])
    require_quiet([*quiet, judged(cell("oracle"), spread=0.9)])
    require_quiet([judged(cell(), spread=0.10)])
    busy = [quiet[0], judged(cell("oracle"), spread=0.35), judged(cell("static"), spread=0.121)]
    with pytest.raises(InputError) as told:
        require_quiet(busy)
    assert str(told.value) == (
        "the device is busy: repeated runs differ by 12 % in the median and by 35 % in "
        "switch-base-128/decode/fp16/b1/oracle/154: at most 10 % expected of one that is idle"
    )


def test_rows_for_people() -> None:
    fitted = judged(cell("static", 77, "fit"), 2_345_600, -0.0123, 0.0156, None)
    first, second = rows([judged(cell(), 1e6, 0.02, 0.01, 0.99876), fitted])
    expected: dict[str, Any] = {
        "group": "switch-base-128/decode/fp16/b1",
        "policy": "lookahead",
        "slots": "154",
        "role": "held out",
        "measured ms": "1.000",
        "simulated ms": "1.020",
        "error": "+2.00 %",
        "p50": "+2.00 %",
        "p95": "+2.00 %",
        "compute": "+0.00 %",
        "stall": "+0.00 %",
        "host": "+2.00 %",
        "correlation": "0.9988",
        "spread": "1 %",
    }
    assert first == expected
    assert list(second) == list(expected)
    assert (second["role"], second["error"], second["correlation"], second["spread"]) == ("fit", "-1.23 %", "", "1.6 %")

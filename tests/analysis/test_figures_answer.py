"""The answer that a table gives, by hand on tiny tables."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sweep_rows import LINK, MS, failed, grid, guess, oracle, resident, row, table

from specmoe.analysis.answer import SettingAnswer, answer_of
from specmoe.errors import InputError

BANDWIDTH = "scale.host_to_device.pinned.bandwidth"


def only(*rows: dict[str, Any]) -> SettingAnswer:
    (found,) = answer_of(table(*rows)).settings
    return found


def test_by_hand_the_fastest_that_could_be_built_wins() -> None:
    found = only(row(ms=4.0), guess("lookahead", 3.0), oracle(2.0), resident())
    assert (found.policy, found.latency_ns, found.runner_up, found.ahead) == ("lookahead", 3e6, "on-demand-lru", 0.25)
    assert (found.of_oracle, found.of_floor, found.vram_gib) == (1.5, 3.0, 1.0)
    assert found.tokens_per_second == pytest.approx(1000 / 3)
    assert (found.trace_kind, found.evidence, found.semantics) == ("trained-here", "assumed", "event-atomic")
    assert found.sentences == (
        "lookahead is fastest, 3.00 ms a step (333 tokens/s), 25 % less than on-demand-lru; 1.50 times the oracle; "
        "3.00 times the floor.",
        "With perfect knowledge (the oracle) in the same slots a step takes 33 % less time (2.00 ms a step).",
    )


def test_by_hand_levers_are_neighbouring_cells() -> None:
    found = answer_of(grid()).settings[0]
    assert found.where == "256 slots, host_to_device.pinned.bandwidth=10 GB/s"
    assert [(lever.name, round(lever.gain, 3)) for lever in found.levers] == [
        ("predictor", 0.273),
        ("link", 0.136),
        ("slots", -0.273),
    ]
    assert found.sentences[1:] == (
        "What helps: a faster link (host_to_device.pinned.bandwidth=20 GB/s, from 10 GB/s): a step takes 14 % less "
        "time (2.38 ms a step).",
        "128 slots instead of 256 (2.00 GiB less): a step takes 27 % more time (3.50 ms a step).",
        "With perfect knowledge (the oracle) in the same slots a step takes 27 % less time (2.00 ms a step).",
    )


def test_a_smaller_budget_is_no_advice() -> None:
    found = only(row(ms=4.0), row(ms=3.0, slots=128))
    assert (
        found.sentences[1] == "64 slots instead of 128 (1.00 GiB less): a step takes 33 % more time (4.00 ms a step)."
    )


def test_by_hand_policies_within_the_error_are_level() -> None:
    known = {"expected_error": 0.1, "validated": True, "error_basis": "95% of 89 cells"}
    found = only(row(ms=4.0, **known), guess("lookahead", 4.3, **known), row("static", 5.0, **known))
    assert (found.level, found.runner_up, found.ahead) == (("lookahead",), "static", None)
    assert found.headline == "on-demand-lru and lookahead are level: 250 tokens/s"
    assert found.sentences[0].startswith(
        "on-demand-lru and lookahead are level, 4.00 ms a step (250 tokens/s), within ±10 %, the expected error of "
        "such a comparison; "
    )
    assert found.sentences[1] == "Expected error: ±10 %: 95% of 89 cells."


def test_where_all_fits_it_is_said_first_and_the_resident_policy_wins() -> None:
    held: dict[str, Any] = {"slots": 768, "fits": True, "bytes_loaded": 0}
    rows = [resident(), row(ms=4.0), row("gpu-only", 1.0, style="grouped-wait", **held), row(ms=1.5, **held)]
    found = only(*rows)
    assert (found.policy, found.runner_up) == ("gpu-only", "on-demand-lru")
    assert found.sentences[0] == "Fits: nothing to offload: all experts of model in fp16 take 1.0 GiB of VRAM."


def test_an_oracle_that_is_beaten_is_not_said_to_cost_time() -> None:
    found = only(row(ms=2.0, oracle_ns=2.5 * MS))
    assert found.sentences[1:] == ("The oracle, which knows what is to come, is no faster (2.50 ms a step).",)


def test_a_lever_counts_the_policy_that_is_fastest_there() -> None:
    rows = [row(ms=3.0, **{LINK: 1e10}), guess("lookahead", 4.0, **{LINK: 1e10})]
    rows += [row(ms=2.9, **{LINK: 2e10}), guess("lookahead", 1.5, **{LINK: 2e10})]
    (link,) = [lever for lever in only(*rows).levers if lever.name == "link"]
    assert link.gain == 0.5
    assert link.sentence.endswith("a step takes 50 % less time (1.50 ms a step, by lookahead).")


def test_a_lever_is_the_next_step_and_not_the_last() -> None:
    found = only(*[row(ms=ms, slots=slots) for slots, ms in ((32, 5.0), (64, 4.0), (128, 3.0), (256, 2.0))])
    (slots,) = [lever for lever in found.levers if lever.name == "slots"]
    assert slots.gain == -0.5


def test_a_link_that_was_scaled_is_a_lever_too() -> None:
    found = only(row(ms=4.0), row(ms=5.0, **{BANDWIDTH: 0.8}), row(ms=3.0, **{BANDWIDTH: 1.2}))
    (link,) = [lever for lever in found.levers if lever.name == "link"]
    assert link.gain == 0.25
    assert "host_to_device.pinned.bandwidth x 1.2, from the profile's own" in link.sentence


def test_of_a_link_that_is_not_known_nothing_is_said() -> None:
    found = only(row(ms=4.0), row("static", ms=5.0), row(ms=3.0, **{LINK: 1e10}))
    assert [lever.name for lever in found.levers] == ["predictor"]


def test_by_hand_a_smaller_format_in_no_more_memory() -> None:
    small: dict[str, Any] = {"format": "int8", "expert_bytes": 2**23}
    rows = [row(ms=4.0), row("static", 5.0), row("belady", 4.5, yardstick=True)]
    rows += [row(ms=3.0, slots=128, **small), row(ms=1.0, slots=512, vram_peak_bytes=2**32, **small)]
    (found,) = [lever for lever in only(*rows).levers if lever.name == "format"]
    assert found.gain == 0.25
    assert found.sentence == (
        "experts in int8 (128 slots, 1.00 GiB for all weights): a step takes 25 % less time (3.00 ms a step); "
        "what it costs in quality is not simulated."
    )


def test_nothing_helps() -> None:
    found = only(row(ms=2.0, **{LINK: 1e10}), row("static", ms=3.0, **{LINK: 1e10}), row(ms=2.5, **{LINK: 2e10}))
    link = found.levers[-1]
    assert (link.name, link.gain) == ("link", -0.25)
    assert found.sentences[1].startswith("Nothing that was tried helps: a faster link")
    assert "25 % more time" in found.sentences[1]


def test_unknown_bounds_are_left_out() -> None:
    unknown = {"floor_ns": math.nan, "oracle_ns": math.nan}
    found = only(row(ms=4.0, **unknown), row("static", 5.0, **unknown))
    assert math.isnan(found.of_oracle)
    assert found.levers == ()
    assert found.sentences == ("on-demand-lru is fastest, 4.00 ms a step (250 tokens/s), 20 % less than static.",)


def test_one_policy_has_no_runner_up() -> None:
    found = only(row())
    assert (found.runner_up, found.ahead) == (None, None)
    assert found.sentences[0].startswith(
        "on-demand-lru is fastest, 4.00 ms a step (250 tokens/s); 2.00 times the oracle"
    )


def test_yardsticks_alone_give_no_answer() -> None:
    found = answer_of(table(oracle(), resident()))
    assert found.settings == ()
    assert found.sentences == ("The results hold only yardsticks, which no runtime could build.",)


def test_failures_are_counted_and_the_first_is_told() -> None:
    found = answer_of(grid())
    assert (found.cells, found.failed) == (25, 1)
    assert found.sentences[-1] == "1 of 25 cells failed, the first with: moe-infinity: no train split."


def test_failures_alone_are_refused() -> None:
    with pytest.raises(InputError, match="no cell"):
        answer_of(table(failed("x")))


def test_each_setting_has_an_answer() -> None:
    found = answer_of(table(row(ms=4.0), row(ms=2.0, profile="fast"), oracle(profile="third")))
    assert [(one.where, one.latency_ns) for one in found.settings] == [("box", 4e6), ("fast", 2e6)]
    assert found.sentences[0].startswith("box: on-demand-lru is fastest")

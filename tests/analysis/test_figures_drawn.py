"""The figures of a sweep: which there are, what is drawn, what they say, and that it can be read."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from sweep_rows import LINK, MS, crowd, failed, grid, guess, oracle, resident, row, table

from specmoe.analysis.figures import Drawn, figures_of
from specmoe.analysis.figures.batch import draw_batch
from specmoe.analysis.figures.link import draw_speed_up, speed_ups
from specmoe.analysis.figures.pareto import draw_pareto
from specmoe.analysis.figures.precision import draw_break_even, draw_precision, spread_out
from specmoe.analysis.figures.setting import Cell, Setting, settings_of
from specmoe.analysis.figures.tornado import swings_of
from specmoe.analysis.style import Line, broken, save
from specmoe.errors import InputError
from specmoe.sweep_table import SweepTable

ASSUMED = "set.predictor.assumed_precision"
FLOOR, ISSUE, SYNC = "scale.dense.layer_floor", "scale.host.graph.issue", "scale.host.graph.sync"


def drawn(made: SweepTable) -> dict[str, Drawn]:
    found = figures_of(made)
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


@cache
def drawn_of(name: str) -> dict[str, Drawn]:
    """The figures of one of the `TABLES`, drawn when a test first asks for them."""
    return drawn(TABLES[name]())


def curves(axes: Any) -> dict[str, list[tuple[float, float]]]:
    return {str(line.get_label()): [tuple(xy) for xy in np.asarray(line.get_xydata())] for line in axes.lines}


def batches() -> SweepTable:
    rows = [
        values
        for batch in (1, 4, 16)
        for values in (
            row("on-demand-lru", 4.0 * batch, batch=batch, tokens_per_second=250),
            guess("lookahead", 2.0 * batch**0.5, batch=batch, tokens_per_second=500 * batch**0.5),
        )
    ]
    return table(*rows, oracle(2.0, batch=1))


def one_at_a_time() -> SweepTable:
    """A faster link gives most to one policy, a smaller floor to the other."""
    scaled = {
        "lookahead": {FLOOR: (2.7, 3.3), ISSUE: (2.97, 3.03), SYNC: (3.0, 3.6)},
        "on-demand-lru": {FLOOR: (3.8, 4.2), ISSUE: (3.6, 4.4), SYNC: (4.0, 4.0)},
    }
    rows = [row("on-demand-lru", 4.0), guess("lookahead", 3.0), guess("frequency", 5.0), oracle(2.0)]
    for policy, numbers in scaled.items():
        for name, times in numbers.items():
            rows += [row(policy, ms, **{name: f}) for f, ms in zip((0.8, 1.2), times, strict=True)]
    return table(*rows)


def guesses() -> SweepTable:
    """Guesses begin to pay at 40 % precision."""
    rows = [row("on-demand-lru", 4.0), guess("lookahead", 3.5, 0.7), resident()]
    for assumed, ms in ((0.0, 5.0), (0.5, 4.0 / 1.1), (1.0, 2.0)):
        precision = 0.2 + 0.6 * assumed
        rows.append(guess("noisy-oracle", ms, precision, yardstick=True, **{ASSUMED: assumed}))
    return table(*rows)


def machines() -> SweepTable:
    rows = [
        values
        for profile, ms in (("slow", 9.0), ("fast", 3.0))
        for tier, more in (("host-pinned", 0.0), ("nvme", 30.0))
        for values in (row(ms=ms + more, profile=profile, tier=tier), guess("lookahead", ms / 2, 0.5, profile=profile))
    ]
    return table(*rows)


TABLES = {
    "grid": grid,
    "crowd": crowd,
    "batches": batches,
    "one-at-a-time": one_at_a_time,
    "guesses": guesses,
    "machines": machines,
}


def test_the_figures_are_those_that_the_variation_supports() -> None:
    grown = ["memory", "hit-rate", "distance"]
    assert list(drawn_of("grid")) == ["latency", *grown, "link", "pareto-vram", "copies", "tail"]
    assert list(drawn_of("batches")) == ["latency", "copies", "tail", "batch"]
    assert list(drawn_of("one-at-a-time")) == ["latency", "pareto-bytes", "copies", "tornado", "tail"]
    assert list(drawn_of("guesses")) == ["latency", "precision", "copies", "tail"]
    assert list(drawn(table(row()))) == []
    each = ["latency", "copies", "tail", "by-tier"]
    assert list(drawn_of("machines")) == ["settings", *(f"{name}-{n}" for n in (1, 2) for name in each)]


def test_yardsticks_alone_are_drawn_without_a_winner() -> None:
    sizes: dict[str, Any] = {"slots": 128, "batch": 8, LINK: 1e10, FLOOR: 0.8}
    found = drawn(table(oracle(), resident(), *(oracle(**{name: value}) for name, value in sizes.items())))
    assert list(found) == ["latency", "tail"]
    assert {one.reading for one in found.values()} == {
        "The results hold only yardsticks, which no runtime could build."
    }


def test_parameters_of_policies_are_choices_too() -> None:
    rows = [guess("lookahead", ms, **{"set.eviction": word}) for word, ms in (("lru", 3.0), ("lfu", 2.0))]
    one = drawn(table(row(), *rows, row(**{"set.eviction": "lfu"})))["by-eviction"]
    assert one.reading.startswith("Fastest is lookahead with eviction=lfu, 2.00 ms a step;")


def test_every_figure_has_a_name_of_its_own() -> None:
    """A link's order is no link's bandwidth."""
    links = itertools.product((1e10, 2e10), ("fifo", "priority"))
    cells = [made(3.0, **{LINK: v, "link": order}) for v, order in links for made in (_lru, _lookahead)]
    names = [one.name for one in figures_of(table(*cells))]
    assert {"link", "by-link"} < set(names) and len(set(names)) == len(names)


def _lru(ms: float, **changes: Any) -> dict[str, Any]:
    return row(ms=ms, **changes)


def _lookahead(ms: float, **changes: Any) -> dict[str, Any]:
    return guess("lookahead", ms, **changes)


def test_a_choice_of_which_only_one_has_policies_is_not_drawn() -> None:
    rows = [row(format="fp16"), guess("lookahead", 3.0, format="fp16")]
    assert "by-format" not in drawn(table(*rows, resident(format="fp32")))
    assert "by-format" in drawn(table(*rows, row(format="fp32")))


def test_a_table_of_failures_is_refused() -> None:
    with pytest.raises(InputError, match="no cell"):
        figures_of(table(failed("x")))


@pytest.mark.parametrize("name", TABLES)
def test_every_figure_says_what_was_run_and_how_good_it_is(name: str) -> None:
    for one in drawn_of(name).values():
        caption = one.figure.get_supxlabel().replace("\n", " ")
        for part in ("a/decode/test (trained-here)", "(evidence: assumed)", "replay event-atomic", "steps of batch"):
            assert part in caption, one.name
        assert one.figure.get_suptitle().replace("\n", " ") == one.title
        assert one.reading.endswith(".")
        assert "\n" not in one.reading + one.title


@pytest.mark.parametrize("name", TABLES)
def test_all_words_of_every_figure_are_inside_it_and_apart(name: str) -> None:
    for one in drawn_of(name).values():
        words_are_inside_and_apart(one.figure)


def words_are_inside_and_apart(chart: Figure) -> None:
    chart.draw_without_rendering()
    words = [t for t in chart.findobj(Text) if any(map(str.isalpha, t.get_text())) and t.get_visible()]
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in words]
    for text, box in boxes:
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= chart.bbox.x1 + 1, text
        assert box.y1 <= chart.bbox.y1 + 1, text
    shrunk = [(text, box.padded(-1.5)) for text, box in boxes]
    for (text, box), (other, its) in itertools.combinations(shrunk, 2):
        assert not box.overlaps(its), (text, other)


def test_warnings_that_hold_for_all_are_in_the_caption() -> None:
    warned = {"warnings": ["routing of a timed with the shape of b"]}
    (one, *_) = figures_of(table(row(**warned), guess("lookahead", 3.0, **warned)))
    assert "Warning: routing of a timed with the shape of b." in one.figure.get_supxlabel()


def test_by_hand_latency() -> None:
    one = drawn_of("grid")["latency"]
    assert one.title == (
        "lookahead is fastest: 2.75 ms per step, 8.3 % ahead of on-demand-lru "
        "(256 slots, host_to_device.pinned.bandwidth=10 GB/s)"
    )
    assert one.reading == (
        "lookahead is fastest: 2.75 ms per step, 8.3 % less than on-demand-lru, and 1.38 times what the oracle needs."
    )
    names = [label.get_text() for label in one.figure.axes[0].get_yticklabels()]
    assert names == ["gpu-only", "oracle", "lookahead", "on-demand-lru"]


def test_by_hand_memory() -> None:
    (axes,) = drawn_of("grid")["memory"].figure.axes
    found = curves(axes)
    assert found["on-demand-lru"] == [(1, 6), (2, 4), (4, 3)]
    assert found["lookahead"] == [(1, 5), (2, 3.5), (4, 2.75)]
    assert found["floor"] == [(1, 1), (2, 1), (4, 1)]
    assert drawn_of("grid")["memory"].reading == (
        "No policy comes within 10 % of the floor: the nearest is lookahead with 4.00 GiB, 2.75 times it."
    )


def test_by_hand_the_memory_that_is_enough() -> None:
    rows = [
        row(slots=64),
        row(slots=128, ms=1.09),
        guess("lookahead", 1.2, slots=64),
        guess("lookahead", 1.1, slots=256),
    ]
    assert drawn(table(*rows))["memory"].reading == (
        "on-demand-lru needs 2.00 GiB for experts to come within 10 % of the floor, the least of all."
    )


def test_by_hand_hits_and_distance() -> None:
    assert drawn_of("grid")["hit-rate"].reading == (
        "With 1.00 GiB lookahead hits 70 % of the demands and on-demand-lru 50 %: the largest difference in the table."
    )
    assert drawn_of("grid")["distance"].reading == (
        "Perfect knowledge would gain most with 1.00 GiB for experts, where the best policy, lookahead, "
        "takes 2.50 times the oracle's time, and least with 4.00 GiB (1.38 times)."
    )


def test_the_most_hits_where_no_policy_is_better_than_the_baseline() -> None:
    rows = [row(ms=4.0, hit_rate=0.2), row(ms=3.0, slots=128, hit_rate=0.6), row(ms=2.0, slots=256, hit_rate=0.6)]
    assert drawn(table(*rows))["hit-rate"].reading == (
        "With 2.00 GiB on-demand-lru hits 60 % of the demands, the most of all."
    )


def test_hits_are_not_compared_where_the_baseline_is_unknown() -> None:
    rows = [row(hit_rate=0.2), guess("lookahead", 3.0, hit_rate=0.5), row(slots=128, hit_rate=0.6)]
    rows.append(guess("lookahead", 3.0, slots=256, hit_rate=0.7))
    assert drawn(table(*rows))["hit-rate"].reading == (
        "With 1.00 GiB lookahead hits 50 % of the demands and on-demand-lru 20 %: the largest difference in the table."
    )


def test_slow_policies_may_hit_most() -> None:
    """Of a crowd the slow ones are told apart by no colour."""
    rows = [*crowd().rows.to_dict("records"), *(guess("slow", 90.0, slots=slots, hit_rate=0.9) for slots in (64, 128))]
    assert "GiB slow hits 90 %" in drawn(table(*rows))["hit-rate"].reading


def test_an_oracle_that_is_beaten_everywhere() -> None:
    rows = [row(ms=2.0, slots=slots, oracle_ns=2.5 * MS) for slots in (64, 128)]
    assert drawn(table(*rows))["distance"].reading == (
        "Perfect knowledge, as the oracle uses it, would gain nothing over the best policy with any VRAM."
    )


def test_by_hand_speed_up_against_the_link() -> None:
    one = drawn_of("grid")["link"]
    found = curves(one.figure.axes[0])
    assert found["lookahead"] == [(10, pytest.approx(3 / 2.75)), (20, pytest.approx(2.5 / 2.375))]
    assert found["oracle"] == [(10, 1.5), (20, 1.25)]
    assert one.title == "lookahead gains most over on-demand-lru: 1.09 times as fast at 10 GB/s (256 slots)"
    assert one.reading == (
        "At 10 GB/s lookahead is fastest, 1.09 times as fast as on-demand-lru; "
        "at 20 GB/s lookahead is fastest, 1.05 times as fast as on-demand-lru."
    )


def test_a_link_on_which_nothing_beats_the_baseline() -> None:
    rows = [(1e10, 3.0, 4.0), (2e10, 2.5, 2.0)]
    cells = [values for v, a, b in rows for values in (row(ms=a, **{LINK: v}), guess("lookahead", b, **{LINK: v}))]
    cells += [guess("prefetch-all", 300, **{LINK: v}) for v, _, _ in rows]
    one = drawn(table(*cells))["link"]
    assert one.reading == (
        "At 10 GB/s nothing beats on-demand-lru; at 20 GB/s lookahead is fastest, 1.25 times as fast as on-demand-lru."
    )
    assert "Too slow to draw: prefetch-all, at most 0.0100 times as fast." in one.figure.get_supxlabel()


def test_as_fast_as_the_baseline_is_not_faster() -> None:
    cells = [values for v in (1e10, 2e10) for values in (row(ms=4, **{LINK: v}), guess("lookahead", 4, **{LINK: v}))]
    assert drawn(table(*cells))["link"].reading == (
        "At 10 GB/s nothing beats on-demand-lru; at 20 GB/s nothing beats on-demand-lru."
    )


def test_one_speed_up_is_no_line() -> None:
    cells = [row(ms=4, **{LINK: 1e10}), row(ms=3, **{LINK: 2e10}), guess("lookahead", 2, **{LINK: 1e10})]
    assert "link" not in drawn(table(*cells))


def test_without_a_baseline_there_is_no_speed_up() -> None:
    cells = [guess("lookahead", 4.0, **{LINK: link}) for link in (1e10, 2e10)]
    assert "link" not in drawn(table(*cells))


def test_by_hand_break_even_precision() -> None:
    one = drawn_of("guesses")["precision"]
    found = curves(one.figure.axes[0])
    assert found["noisy oracle"] == [(20, pytest.approx(-20)), (50, pytest.approx(10)), (80, pytest.approx(100))]
    assert found["policies"] == [(70, pytest.approx(100 * (4 / 3.5 - 1)))]
    assert one.reading == "Prefetching one expert ahead pays above 40 %."
    assert {text.get_text() for text in one.figure.axes[0].texts} == {"40 %", "lookahead"}


@pytest.mark.parametrize(("ms", "told"), [((3.0, 2.0), "at any precision"), ((6.0, 5.0), "at none")])
def test_break_even_where_there_is_none(ms: tuple[float, float], told: str) -> None:
    rows = [row("on-demand-lru", 4.0)]
    rows += [guess("noisy-oracle", t, p, yardstick=True, **{ASSUMED: p}) for t, p in zip(ms, (0.2, 0.9), strict=True)]
    assert drawn(table(*rows))["precision"].reading == f"Prefetching one expert ahead pays {told}."


def test_break_even_has_a_line_for_each_link() -> None:
    rows = [row("on-demand-lru", 4.0, **{LINK: link}) for link in (1e10, 2e10)]
    rows += [guess("lookahead", 3.0, **{LINK: link}) for link in (1e10, 2e10)]
    for link, ms in ((1e10, (5.0, 3.0)), (2e10, (3.0, 2.0))):
        for t, p in zip(ms, (0.2, 0.9), strict=True):
            rows.append(guess("noisy-oracle", t, p, yardstick=True, **{ASSUMED: p, LINK: link}))
    one = drawn(table(*rows))["precision"]
    assert one.reading == "Prefetching one expert ahead pays above 46 % (10 GB/s); at any precision (20 GB/s)."
    assert {"10 GB/s", "20 GB/s", "policies (10 GB/s)"} <= set(curves(one.figure.axes[0]))
    assert "bandwidth" not in one.figure.get_supxlabel()


def test_of_many_links_the_ends_and_some_between_are_drawn() -> None:
    lines = [Line(str(n), [], []) for n in range(9)]
    assert [line.name for line in spread_out(lines, 7)] == ["0", "1", "3", "4", "5", "7", "8"]
    assert spread_out(lines[:7], 7) == lines[:7]


def test_by_hand_front_of_latency_and_vram() -> None:
    one = drawn_of("grid")["pareto-vram"]
    found = curves(one.figure.axes[0])
    assert found["Pareto front"] == [(1, 5), (2, 3.5), (4, 2.75)]
    assert found["dominated"] == [(1, 6), (2, 4), (4, 3)]
    assert one.reading == (
        "3 of 6 configurations are on the Pareto front: from lookahead (1.00 GiB, 5.00 ms) to "
        "lookahead (4.00 GiB, 2.75 ms)."
    )
    assert [text.get_text() for text in one.figure.axes[0].texts] == ["lookahead"]


def test_a_front_over_formats_names_them() -> None:
    rows = [row(ms=4.0, slots=slots) for slots in (64, 65)]  # of one name, so that not all are named
    rows += [row(ms=3.0, format="int8", vram_peak_bytes=2**29), row("a", ms=2.0, vram_peak_bytes=2**31)]
    one = drawn(table(*rows))["pareto-vram"]
    assert [text.get_text() for text in one.figure.axes[0].texts] == ["on-demand-lru, int8", "a, fp16"]
    assert "fp16, int8" in one.figure.get_supxlabel()


def test_by_hand_front_of_latency_and_bytes() -> None:
    moved = {"a": (4.0, 10), "b": (3.0, 20), "c": (3.0, 22), "d": (9.9, 15), "e": (2.0, 25)}
    rows = [row(name, ms, bytes_loaded=mb * 100 * 10**6) for name, (ms, mb) in moved.items()]
    one = drawn(table(*rows, oracle(1.5, bytes_loaded=10**9), resident()))["pareto-bytes"]
    found = curves(one.figure.axes[0])
    assert found["Pareto front"] == [(10, 4), (20, 3), (25, 2)]
    assert sorted(found["dominated"]) == [(22, 3)]
    assert found["yardstick"] == [(10, 1.5)]
    assert one.reading == "a moves least (10.0 MB per step); e moves 150 % more and takes 50 % less time."
    assert "Not shown: configurations slower than 4.00 ms (1)." in one.figure.get_supxlabel()


def test_by_hand_tornado() -> None:
    one = drawn_of("one-at-a-time")["tornado"]
    assert one.reading == (
        "With \N{PLUS-MINUS SIGN}20 %, host.graph.sync matters most to lookahead (0 % to +20 % of its mean step), "
        "then dense.layer_floor (-10 % to +10 %)."
    )
    assert [axes.get_title() for axes in one.figure.axes] == ["lookahead", "on-demand-lru"]
    names = [label.get_text() for label in one.figure.axes[0].get_yticklabels()]
    assert names == ["host.graph.sync", "dense.layer_floor", "host.graph.issue"]
    (setting,) = settings_of(one_at_a_time())
    swings = swings_of(setting, "on-demand-lru", (0.8, 1.2))
    assert [swing.name for swing in swings] == ["host.graph.issue", "dense.layer_floor", "host.graph.sync"]
    assert [swing.more for swing in swings] == pytest.approx([0.1, 0.05, 0.0])


def test_a_tornado_needs_two_numbers_and_both_factors() -> None:
    rows = [row(), guess("lookahead", 3.0)]
    alone = [row(ms=5.0, **{FLOOR: 0.8}), row(ms=6.0, **{FLOOR: 1.2})]
    less = [row(ms=5.0, **{ISSUE: 0.8}), row(ms=5.0, **{SYNC: 0.8})]
    assert "tornado" not in drawn(table(*rows, *alone))
    assert "tornado" not in drawn(table(*rows, *less))


def test_a_tornado_says_which_numbers_it_knows_nothing_of() -> None:
    """A cell of the number that matters most failed; every panel has a legend's entries all the same."""
    rows = [row(), guess("lookahead", 5.0)]
    for name, factor, ms in (("a", 0.8, 4.4), ("a", 1.2, 3.6), ("b", 0.8, 4.2), ("b", 1.2, 3.8), ("c", 0.8, 8.0)):
        changed: dict[str, Any] = {f"scale.{name}": factor}
        rows.append(row(ms=ms, **changed))
    for name, factor in itertools.product("bc", (0.8, 1.2)):
        rows.append(guess("lookahead", 5.1, **{f"scale.{name}": factor}))
    one = drawn(table(*rows))["tornado"]
    assert one.reading.endswith("then b (+5.0 % to -5.0 %); not known of c.")
    legend = one.figure.axes[-1].get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == {"x 0.8", "x 1.2"}


def test_by_hand_tail() -> None:
    rows = [row(ms=4.0, latency_p99_ns=4.1 * MS), guess("lookahead", 3.0, latency_p99_ns=5 * MS)]
    one = drawn(table(*rows, guess("prefetch-all", 400)))["tail"]
    assert one.reading == (
        "One step in a hundred of lookahead, the fastest on average, takes 5.00 ms or more, 1.67 times its median; "
        "the lowest 99th percentile is that of on-demand-lru, 4.10 ms."
    )
    found = curves(one.figure.axes[0])
    assert found["p50"] == [(3, 0), (4, 1)]
    assert found["max"] == [(9, 0), (12, 1)]
    assert "p50 400, max 1200 \N{RIGHTWARDS ARROW}" in [text.get_text() for text in one.figure.axes[0].texts]
    assert "decided by the slowest 1 of 100 steps" in one.figure.get_supxlabel()


def test_by_hand_batches() -> None:
    one = drawn_of("batches")["batch"]
    rates, times = one.figure.axes
    assert curves(rates)["lookahead"] == [(1, 500), (4, 1000), (16, 2000)]
    assert curves(times)["lookahead"] == [(1, 2), (4, 4), (16, 8)]
    assert curves(times)["floor"] == [(1, 1), (4, 1), (16, 1)]
    assert curves(rates)["floor"][0] == (1, 1000), "tokens of a step over the floor"
    assert "steps of batch 1 to 16" in one.figure.get_supxlabel()
    assert one.reading == (
        "Batch 16 gives 4.00 times the throughput of batch 1, each with its best policy: 2000 tokens/s (lookahead) and "
        "500 (lookahead); a step takes 4.00 times as long."
    )


def test_by_hand_settings_and_choices() -> None:
    one = drawn_of("machines")["settings"]
    assert one.reading == (
        "Fastest is lookahead with fast, host-pinned, 1.50 ms a step; with slow, host-pinned it is lookahead, 4.50 ms."
    )
    assert "on fast, slow (evidence: assumed)" in one.figure.get_supxlabel()
    both = drawn(table(row(), row(ms=90.0, trace="a/encode/test", phase="encode")))["settings"]
    assert both.reading == (
        "Fastest is on-demand-lru with a/decode/test, 4.00 ms a step; with a/encode/test it is on-demand-lru, 90.0 ms: "
        "steps of different work."
    )
    tier = drawn_of("machines")["by-tier-1"]
    assert tier.title == "lookahead is fastest with 1 of 2 values of tier (slow)"
    assert [label.get_text() for label in tier.figure.axes[0].get_yticklabels()] == ["host-pinned", "nvme"]


def test_bounds_of_settings_are_those_of_the_slots() -> None:
    rows = [values for name in "ab" for values in (resident(profile=name, oracle_ns=7 * MS), row(profile=name))]
    found = curves(drawn(table(*rows))["settings"].figure.axes[0])
    assert found["oracle"] == [(2, 0), (2, 1)]


def test_far_values_do_not_set_the_scale() -> None:
    for name in ("latency", "memory", "distance", "pareto-vram", "pareto-bytes"):
        one = drawn_of("crowd")[name]
        axis = one.figure.axes[0].get_xlim() if name == "latency" else one.figure.axes[0].get_ylim()
        assert axis[1] < 20, name
    caption = drawn_of("crowd")["memory"].figure.get_supxlabel()
    assert "Too slow to draw: prefetch-all, 400 ms." in caption


def test_texts_are_broken_between_words_and_not_between_number_and_unit() -> None:
    assert broken("aa bb 12 GB/s", 10) == "aa bb\n12 GB/s"
    assert broken("one\ntwo three", 5) == "one\ntwo\nthree"
    assert broken("", 5) == ""


def test_names_are_no_formulas(tmp_path: Path) -> None:
    """What matplotlib could not parse is drawn as it stands, and later figures of others parse theirs."""
    odd = "a$r_^$"
    cells = [row(odd, trace=odd), guess("lookahead", 3.0, trace=odd), row(odd, trace=odd, **{LINK: 1e10})]
    for one in figures_of(table(*cells)):
        save(one.figure, tmp_path / "a.png")
    assert odd in one.figure.get_supxlabel()
    assert matplotlib.rcParams["text.parse_math"]


def along(name: str, *columns: str) -> tuple[Setting, list[Cell]]:
    """The first setting of a table, and its cells along the columns."""
    setting = settings_of(TABLES[name]())[0]
    return setting, setting.along(*columns)


def speed_up_panel(ax: Any) -> Any:
    setting, cells = along("grid", LINK)
    return draw_speed_up(setting, cells, speed_ups(cells, LINK, "on-demand-lru"), LINK, ax)


def pareto_panel(ax: Any) -> Any:
    setting, cells = along("grid", "slots")
    return draw_pareto(setting, cells, lambda cell: cell.point.peak_gib, "VRAM, GiB", ax)


def precision_panel(ax: Any) -> Any:
    setting, cells = along("guesses", ASSUMED)
    return draw_precision(setting, [Line("noisy oracle", [20, 80], [-10, 30])], None, cells[0].point, ax)


def break_even_panel(ax: Any) -> Any:
    summaries = [row("lookahead", precision=0.7) | {"assumed": []}]
    return draw_break_even([(5e9, 0.9), (10e9, 0.6), (20e9, None)], 0.6, summaries, ax)


@pytest.mark.parametrize(
    "draw",
    [
        speed_up_panel,
        pareto_panel,
        precision_panel,
        break_even_panel,
        lambda ax: draw_batch(*along("batches", "batch"), by_time=True, ax=ax),
        lambda ax: draw_batch(*along("batches", "batch"), by_time=False, ax=ax),
    ],
)
def test_panels_of_a_sweep_are_drawn_on_the_axes_that_are_given(draw: Callable[[Any], Any]) -> None:
    ax = Figure().subplots()
    assert draw(ax) is ax
    assert ax.lines and ax.get_xlabel() and ax.get_ylabel()
    assert not ax.figure.get_suptitle()
    assert draw(None).figure is not ax.figure

"""Which configurations are tried, which wins, what is compared."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from advise_cases import GIB, FormulaTrials, configuration, setting, trial

from specmoe.errors import InputError
from specmoe.sim.advise.levers import Lever, Reach, fewer_bytes, larger_batch, levers, lower, more_vram, reach
from specmoe.sim.advise.search import LEVEL, Found, best_of, by_policy, placed, screened, search, searched, tuned
from specmoe.sim.advise.setting import Setting
from specmoe.sim.claims import is_yardstick
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES

# The best of some


def test_the_fastest_wins() -> None:
    assert best_of([trial("static", 100), trial("lookahead", 120), trial("frequency", 110)]).rate == 120


def test_among_level_ones_the_simplest_wins() -> None:
    level = [trial("transition", 100.5), trial("on-demand-lru", 100), trial("lookahead", 98)]
    assert best_of(level).config.policy == "on-demand-lru"
    fetched = [trial("lookahead", 100, settings=(("prefetch.limit", 4),)), trial("lookahead", 99.5)]
    assert best_of(fetched).config.settings == ()


def test_a_ranking_has_the_best_of_each_policy_fastest_first() -> None:
    many = [trial("static", 50), trial("lookahead", 80), trial("static", 70, batch=2), trial("frequency", 70)]
    ranked = [(one.config.policy, one.rate) for one in by_policy(many)]
    assert ranked == [("lookahead", 80), ("frequency", 70), ("static", 70)]


# What is searched


def test_no_yardstick_is_advice() -> None:
    names = searched(drawn=False)
    assert not any(is_yardstick(POLICIES[name]) for name in names)
    assert {"gpu-only", "oracle", "belady", "pregated", "pregated-lru", "noisy-oracle"}.isdisjoint(names)
    assert {"on-demand-lru", "lookahead", "static", "moe-infinity"} <= set(names)


def test_neither_are_policies_that_keep_nothing_or_ask_a_network() -> None:
    names = set(searched(drawn=False))
    assert names.isdisjoint(("on-demand", "prefetch-all"))
    assert not any(name.startswith("learned") for name in names)


def test_nothing_predicts_on_drawn_routing() -> None:
    assert searched(drawn=True) == [
        "on-demand-lru",
        "on-demand-lfu",
        "on-demand-lfu-perfect",
        "on-demand-lfu-decayed",
        "on-demand-lfru",
        "on-demand-least-stale",
        "static",
    ]


def test_policies_on_the_cpu_are_tried_where_the_host_has_one() -> None:
    with_cpu, without = set(searched(drawn=True, has_cpu=True)), set(searched(drawn=True))
    assert {"n-cpu-moe", "cpu-experts", "ktransformers", "fiddler", "law-split"} <= with_cpu - without
    assert not any(POLICIES[name].approximate for name in with_cpu)
    assert all(POLICIES[name].uses_cpu for name in with_cpu - without)


def test_every_allowed_format_and_home_is_tried_with_its_slots() -> None:
    here = setting(formats=("fp16", "int8"), home_formats=("int8",))
    found = list(screened(here))
    assert {(one.format, one.home.format) for one in found} == {("fp16", None), ("fp16", "int8"), ("int8", None)}
    assert {one.slots for one in found if one.format == "fp16"} == {here.slots("fp16", 8 * GIB)}


def test_a_home_is_tried_only_with_slots_that_it_can_fill() -> None:
    found = list(screened(setting(formats=("fp16", "bf16"), home_formats=("int8",))))
    assert {(one.format, one.home.format) for one in found} == {("fp16", None), ("fp16", "int8"), ("bf16", None)}


def test_by_default_no_format_of_fewer_bits_is_tried() -> None:
    assert {one.format for one in screened(setting())} == {"fp32"}


def test_an_lru_for_each_layer_is_tried_too() -> None:
    assert [one.settings for one in screened(setting()) if one.policy == "on-demand-lru"] == [
        (),
        (("sharing", "per-layer"),),
    ]


def test_where_all_fits_nothing_is_offloaded() -> None:
    here = setting(vram=64 * GIB)
    assert {(one.policy, one.slots) for one in screened(here)} == {("gpu-only", 768)}


def test_what_does_not_fit_is_left_out() -> None:
    wanted = [configuration(format="fp32", vram=GIB // 2), configuration(format="int4", vram=GIB // 2)]
    assert [one.format for one in placed(setting(), wanted)] == ["int4"]


def test_the_best_three_that_prefetch_are_tuned() -> None:
    names = ("lookahead", "frequency", "transition", "adaptive", "on-demand-lru")
    found = list(tuned([trial(name, 100 - 5 * rank) for rank, name in enumerate(names)]))
    assert {one.policy for one in found} == {"lookahead", "frequency", "transition"}
    settings = [dict(one.settings) for one in found if one.policy == "frequency"]  # named with a limit of 2
    assert len(settings) == 7
    assert {"sharing": "per-layer"} in settings
    assert {"prefetch.limit": 4, "prefetch.depth": 2} in settings
    assert {} in settings
    assert not any(chosen.get("prefetch.limit") == 2 for chosen in settings)


def searched_in(here: Setting) -> tuple[FormulaTrials, Found]:
    trials = FormulaTrials(here)
    return trials, search(trials, here)


def test_a_search_finds_the_best() -> None:
    _, found = searched_in(setting())
    assert found.best.config.policy == "lookahead"
    assert found.ranking[0] == found.best
    names = [one.config.policy for one in found.contenders]
    assert names == ["lookahead", "adaptive", "cpu-experts", "fiddler", "on-demand-lru"]
    assert found.simplest.config.policy == "on-demand-lru"


def test_changes_are_tried_with_what_hits_most_too() -> None:
    names = ("transition", "on-demand-lru", "frequency", "lookahead", "mixtral-offloading")
    trials = [trial(name, 100 - rank) for rank, name in enumerate(names)]
    trials[3].row["hit_rate"], trials[4].row["hit_rate"] = 0.9, 0.95  # the last is too slow to win
    assert [one.config.policy for one in Found(trials[0], trials).few] == [
        "transition",
        "on-demand-lru",
        "lookahead",
    ]
    assert Found(trials[3], trials[3:]).few == [trials[3], trials[4]]


def test_what_cannot_run_is_named_and_does_no_harm() -> None:
    trials, found = searched_in(setting())
    assert trials.failures == {"mixtral-offloading": "needs a look-ahead"}
    assert trials.runs == len(trials.asked) - 1
    assert all(one.config.policy != "mixtral-offloading" for one in found.ranking)


def test_nothing_runs_twice() -> None:
    trials, found = searched_in(setting())
    before = len(trials.asked)
    trials.run([one.config for one in found.ranking])
    assert len(trials.asked) == before


def test_the_reason_is_told_if_nothing_can_run() -> None:
    with pytest.raises(InputError, match="needs a look-ahead"):
        FormulaTrials(setting()).run([configuration("mixtral-offloading")])


# Changes


def test_formats_of_fewer_bits() -> None:
    assert lower("fp32") == ["fp16", "int8", "int4"]
    assert lower("bf16") == ["int8", "int4"]
    assert lower("int4") == []


def test_formats_that_were_allowed_are_no_change() -> None:
    here = setting(formats=("fp32", "fp16"))
    found = list(fewer_bytes(here, [configuration()]))
    assert [change.what for change in found] == ["experts in int8", "experts in int4"]
    assert all(change.caveat == "if its quality is acceptable" for change in found)


def test_a_smaller_format_gets_more_slots_and_is_tried_at_home_alone() -> None:
    here = setting()
    (change, _) = fewer_bytes(here, [configuration(format="fp16", slots=3)])
    held, home = change.configs
    assert (held.format, held.home.format, held.slots) == ("int8", None, here.slots("int8", 8 * GIB))
    assert (home.format, home.home.format, home.slots) == ("fp16", "int8", here.slots("fp16", 8 * GIB))


def test_nothing_compressed_is_tried_at_home_for_slots_that_it_cannot_fill() -> None:
    (change, _) = fewer_bytes(setting(), [configuration(format="bf16", slots=3)])
    assert [(one.format, one.home.format) for one in change.configs] == [("int8", None)]


def test_vram_goes_up_to_the_whole_model() -> None:
    here = setting()
    found = list(more_vram(here, [configuration()], (1.5, 2, 3, 100)))
    assert [change.configs[0].vram for change in found][:3] == [12 * GIB, 16 * GIB, 24 * GIB]
    assert found[-1].configs == (configuration("gpu-only", slots=768, vram=here.whole_bytes("fp32")),)
    assert found[0].caveat == ""
    assert found[2].caveat == "rtx3090 has 23.6 GiB"
    assert found[0].what == f"12 GiB of VRAM for {here.slots('fp32', 12 * GIB)} slots"
    assert found[-1].what.endswith("for every expert")


def test_vram_never_shrinks() -> None:
    here = setting()
    roomy = configuration("gpu-only", format="int4", vram=here.whole_bytes("int4") + GIB)
    assert list(more_vram(here, [roomy], (0.5, 1, 2))) == []


def test_batches_end_at_64() -> None:
    assert [one.what for one in larger_batch(setting(), [configuration(batch=16)], (2, 4, 8))] == [
        "a batch of 32",
        "a batch of 64",
    ]


# Levers


def gains(here: Setting) -> dict[str, float]:
    trials, found = searched_in(here)
    return {lever.kind: lever.gain for lever in levers(trials, here, found)}


def test_levers_are_what_the_formula_says() -> None:
    here = setting()
    share = 1 - here.slots("fp32", 8 * GIB) / 768
    doubled = 1 - here.slots("fp32", 16 * GIB) / 768
    halved = 1 - here.slots("fp16", 8 * GIB) / 768
    base = 1 + 6 * share
    expected = {
        "vram": base / (1 + 6 * doubled) - 1,
        "link": base / (1 + 3 * share) - 1,
        "predictor": base / (1 + 3 * share) - 1,
        "format": base / (1 + 3 * halved) - 1,
        "batch": 2 * base / (1.1 + 6 * share) - 1,
    }
    found = gains(here)
    assert found == pytest.approx(expected)
    assert list(found) == sorted(found, key=lambda kind: (-found[kind], kind))


def test_where_all_fits_vram_link_and_predictor_are_no_levers() -> None:
    assert set(gains(setting(vram=64 * GIB))) == {"batch"}  # the formula's fp16 computes no faster


@pytest.mark.parametrize("vram", [8, 64])  # some experts fit, and all
def test_a_batch_beyond_the_trace_is_no_lever(vram: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = FormulaTrials._evaluate

    def short(self: FormulaTrials, fresh: Sequence[RunConfig], bounds: Sequence[str]) -> None:
        usual(self, fresh, bounds)
        self._known |= {one: self._known[one] | {"error": "too few sequences"} for one in fresh if one.batch > 1}

    monkeypatch.setattr(FormulaTrials, "_evaluate", short)
    assert "batch" not in gains(setting(vram=vram * GIB))


def test_a_home_format_that_nothing_expands_is_not_tried_and_alone_is_refused() -> None:
    here = setting(formats=("fp16", "fp32"), home_formats=("int8",))
    here.require_homes()
    assert {(one.format, one.home.format) for one in screened(here)} == {
        ("fp16", None),
        ("fp16", "int8"),
        ("fp32", None),
    }
    with pytest.raises(InputError, match="int8 at home is expanded to fp16: --format fp16 expected"):
        setting(formats=("fp32",), home_formats=("int8",)).require_homes()


def test_what_gives_nothing_is_no_lever() -> None:
    here = setting(formats=("int4",), vram=2 * GIB)
    trials, found = searched_in(here)
    assert all(lever.gain > 0.01 for lever in levers(trials, here, found))
    assert "format" not in {lever.kind for lever in levers(trials, here, found)}


def test_what_a_prediction_cannot_tell_apart_is_no_lever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gains at the threshold and below."""
    here = setting()
    trials, found = searched_in(here)
    made = [Lever("predictor", "better guesses", "", 1.0, 1.0, gain, 1.0, None) for gain in (0.005, LEVEL, 0.011)]
    monkeypatch.setattr("specmoe.sim.advise.levers.doubled", lambda setting, found: iter(()))
    monkeypatch.setattr("specmoe.sim.advise.levers.foreseen", lambda found: made)
    assert levers(trials, here, found) == [made[2]]


# A target


def reached(target: float, **changes: object) -> Reach:
    here = setting(**changes)  # type: ignore[arg-type]  # fields of a Question
    trials, found = searched_in(here)
    return reach(trials, here, found, target)


def test_a_target_that_is_reached() -> None:
    found = reached(100)
    assert (found.reached, found.ways, found.most) == (True, (), None)


def test_the_mildest_way_of_each_kind() -> None:
    """186 tokens/s in fp32 on this link, 255 on one 1.5 times as fast, 314 on one twice as fast."""
    found = reached(300)
    ways = {way.kind: way.what for way in found.ways}
    assert not found.reached
    assert len(found.ways) == len(ways) == 5
    assert ways["link"] == "a link twice as fast"
    assert ways["format"] == "experts in fp16"
    assert ways["batch"] == "a batch of 2"
    assert ways["predictor"] == "a perfect predictor on the same slots"
    assert ways["vram"].startswith("24 GiB")
    assert all(way.rate >= 300 for way in found.ways)


def test_beyond_the_ceiling_neither_vram_nor_link_is_tried() -> None:
    here = setting()
    trials, best = searched_in(here)
    searched_for = len(trials.asked)
    found = reach(trials, here, best, 1500)
    assert found.ceiling == pytest.approx(1000)
    assert {way.kind for way in found.ways} == {"batch"}
    assert {(one.vram, one.scales) for one in trials.asked[searched_for:]} == {(8 * GIB, ())}


def test_a_combination_where_nothing_alone_does() -> None:
    """A batch of 16 alone gives 2,300 or so in fp32; with fp16 it passes 3,000."""
    found = reached(3000)
    assert [(way.kind, way.what) for way in found.ways] == [("batch", "experts in fp16 and a batch of 16")]
    assert found.ways[0].caveat == "if its quality is acceptable, all sequences together"


def test_a_target_beyond_everything() -> None:
    found = reached(1e6)
    assert (found.reached, found.ways) == (False, ())
    assert found.most is not None
    assert found.most.what == "experts in int8 and a batch of 16"  # all of which fits, so int4 gives no more


def test_all_resident_already_and_still_too_slow() -> None:
    found = reached(1e6, vram=64 * GIB)
    assert found.ways == ()
    assert found.most is not None
    assert found.most.kind == "batch"

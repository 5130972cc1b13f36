"""The five lines, on made-up findings."""

from __future__ import annotations

import dataclasses
from typing import Any

import advise_cases
import pytest
from advise_cases import GIB, FormulaTrials, setting

from specmoe.hwprofiles.expected_error import Expected
from specmoe.sim.advise.advice import Advice, described, limits, lines, rate
from specmoe.sim.advise.levers import levers, reach
from specmoe.sim.advise.search import search
from specmoe.sim.config import Home, RunConfig

SURE, UNSURE = Expected(0.02, True, "95% of 73 cells"), Expected(0.11, False, "not validated, as it is a guess")


def advice(expected: Expected = SURE, target: float | None = None, drawn: bool = False, **changes: Any) -> Advice:
    here = setting(drawn=drawn, target=target, **changes)
    trials = FormulaTrials(here)
    found = search(trials, here)
    return Advice(
        setting=here,
        found=found,
        expected=expected,
        levers=tuple(levers(trials, here, found)),
        reach=None if target is None else reach(trials, here, found, target),
        extremes=tuple(trials.drawn_with(chance, found.best) for chance in here.routings.extremes),
        sequences=trials.sequences(found.best),
        runs=trials.runs,
        failures=trials.failures,
    )


def told(**changes: Any) -> dict[str, str]:
    """The lines by their heads."""
    heads = (line.partition(": ") for line in lines(advice(**changes)))
    return {head: rest for head, _, rest in heads}


def test_there_are_five_lines_that_end() -> None:
    for changes in ({}, {"target": 100}, {"drawn": True}, {"vram": 64 * GIB}):
        found = lines(advice(**changes))
        assert len(found) == 5
        assert all(line.endswith(".") and "\n" not in line for line in found)


def test_the_best_and_why() -> None:
    line = told()["Best"]
    assert line.startswith("lookahead in fp32, 209 slots (both stacks have as many slots for each layer): ")
    assert "27% hits, 81% of a step waits for loads; 41% faster than adaptive, the next; " in line
    assert line.endswith("the next; the link limits it most, then VRAM.")


def test_what_limits_it_are_the_parts_of_the_machine_by_their_gain() -> None:
    of = {lever.kind: lever for lever in advice().levers}
    less = of["vram"]._replace(gain=of["link"].gain / 2)
    memory = of["link"]._replace(kind="memory", gain=of["link"].gain / 3)
    found = dataclasses.replace(advice(), levers=(memory, less, of["link"], of["format"]))
    assert limits(found) == ["the link", "VRAM", "host memory (DRAM)"]
    none = dataclasses.replace(advice(), levers=(of["format"],))
    assert "; the GPU itself limits it most." in lines(none)[0]


def test_settings_and_homes_are_named() -> None:
    one = RunConfig(
        "none", "lookahead", format="fp16", slots=5, settings=(("prefetch.limit", 4),), home=Home(format="int8")
    )
    assert described(one) == "lookahead in fp16 (int8 at home), 5 slots, prefetch.limit=4"


def test_where_all_fits_nothing_is_offloaded() -> None:
    line = lines(advice(vram=64 * GIB))[0]
    assert line.startswith("Fits: nothing to offload: the whole model in fp32 takes ")
    assert line.endswith(" of 64 GiB (gpu-only).")


def test_a_lead_within_the_error_of_a_comparison_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, words in ((0.42, "level with adaptive, the next; "), (0.40, "41% faster than adaptive")):
        monkeypatch.setattr(advise_cases, "RATIO_ERROR", error)
        assert words in told()["Best"]


def test_a_validated_prediction_has_its_band() -> None:
    assert told()["Predicted"] == "186 tokens/s, 5.37 ms a step of batch 1; ±2.0% (183 .. 190: 95% of 73 cells)."


def test_an_unvalidated_one_says_that_it_may_be_worse() -> None:
    assert "±11.0% or worse (166 .. 207: not validated, as it is a guess)" in told(expected=UNSURE)["Predicted"]


def test_what_is_unknown_of_the_machine_is_told_apart_from_the_error() -> None:
    row = {"policy": "lookahead", "profile": "rtx3090", "draws": 200, "yardstick": False, "fastest_share": 0.97}
    row |= {"tokens_per_second_p5": 151.26, "tokens_per_second_p95": 203.0}
    row |= {"latency_mean_ns": 1000, "step_p5_ns": 920, "step_p95_ns": 1235}
    row |= {"unknown": ["cpu.call", "router.floor"], "unknown_effect": [0.2, -0.1]}
    slower = row | {"policy": "static", "fastest_share": 0.03}
    line = lines(dataclasses.replace(advice(), drawn=(row, slower)))[1]
    assert "batch 1; the timing model's own error ±2.0% (183 .. 190: 95% of 73 cells); apart from that, " in line
    assert line.endswith(
        "what is unknown of rtx3090 changes a step by -8.0 % to +23.5 %; lookahead is fastest on 97 % of 200 machines "
        "that fit what is known of rtx3090; lookahead: 151.3 .. 203 tokens/s on 90 % of them; measure cpu.call first: "
        "from its low to its high end, it alone makes a step 20 % longer."
    )


def test_formats_are_candidates_and_nothing_is_said_of_their_quality() -> None:
    best = lines(advice(formats=("fp32", "fp16")))[0]
    assert best.startswith("Best: ") and " in fp16, " in best
    assert best.endswith(" tokens/s (lookahead); formats differ in quality, and nothing here measured it.")
    assert "; in fp32 " in best and "quality" not in lines(advice())[0]


def test_quality_is_spoken_of_where_one_of_two_formats_could_be_simulated() -> None:
    both = advice(formats=("fp32", "fp16"))
    one = dataclasses.replace(both, found=both.found._replace(formats=[both.found.best]))
    words = "; in fp32 no policy could be simulated; formats differ in quality, and nothing here measured it."
    assert lines(one)[0].endswith(words)


def test_the_two_best_levers_with_what_they_give() -> None:
    line = told()["Next"]
    assert line.count("tokens/s") == 2
    first, second = line.split("; ")
    assert first == "experts in fp16: 436 tokens/s (+134%, if its quality is acceptable)"
    assert second == "a batch of 2: 366 tokens/s (+96%, all sequences together)."


def test_nothing_to_gain_is_told() -> None:
    found = dataclasses.replace(advice(), levers=())
    assert lines(found)[2] == "Next: nothing that was tried gives more than a percent."


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (None, "none given (e.g. --target 20tok/s); with every expert in VRAM it would be 1,000 tokens/s."),
        (100, "100 tokens/s is reached, with 86% to spare."),
        (185, "185 tokens/s is reached, with 1% to spare, but not at the low end of the error."),
        (1500, "1,500 tokens/s is missed by 88%; reached with a batch of 16 (2,330 tokens/s, all sequences together)."),
        (1e6, "1,000,000 tokens/s: nothing that was tried reaches it. With every expert in VRAM it is 1,000 at "),
    ],
)
def test_the_target(target: float | None, line: str) -> None:
    assert told(target=target)["Target"].startswith(line)


def test_all_ways_to_the_target_are_told() -> None:
    line = told(target=300)["Target"]
    for way in ("24 GiB of VRAM", "a link twice as fast", "experts in fp16", "a batch of 2", "a perfect predictor"):
        assert way in line


def test_evidence_names_what_all_rests_on() -> None:
    line = told()["Evidence"]
    for part in (
        "assumed for rtx3090 (assumed: host.graph.issue)",
        "routing: switch-mini-128/decode/test (trained-here; 2 text domains)",
        "event-atomic, 10 steps of 3 sequences: fewer than the 256 steps of 2 sequences that an answer should rest on",
        "KV cache of 1 tokens in f16, 0 B reserve (assumed), ",
        "29 policies in fp32, ",
        "not tried: learned ones, mixtral-offloading",
        "mind the gap",
    ):
        assert part in line


def test_drawn_routing_is_told_in_three_lines() -> None:
    found = told(drawn=True)
    assert found["Best, on drawn routing"].startswith("on-demand-lru in fp32")
    assert "; 66.2 .. 265 as routing may be, timing ±2.0%" in found["Predicted"]
    evidence = found["Evidence"]
    assert "no trace of switch-base-128 is at hand, nor one of 128 experts, top-1, for a batch of 1" in evidence
    assert "with probability 0.2 (0 .. 0.4), which no predictor is judged on (--trace gives a real one)" in evidence
    assert "routing is synthetic" not in evidence


def test_routing_of_another_model_is_named_in_two_lines() -> None:
    found = advice()
    routings = found.setting.routings._replace(borrowed="it is that of another")
    first, *_, last = lines(dataclasses.replace(found, setting=found.setting._replace(routings=routings)))
    assert first.startswith("Best, on another model's routing: ")
    assert "; it is that of another; " in last


@pytest.mark.parametrize(("value", "shown"), [(0.01234, "0.0123"), (9.876, "9.88"), (99.96, "100"), (1234.5, "1,234")])
def test_rates(value: float, shown: str) -> None:
    assert rate(value) == shown

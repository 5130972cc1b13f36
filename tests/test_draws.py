"""Machines drawn out of a profile's ranges, and how policies fare on them."""

import dataclasses
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.sim.sweep.grid import cells_of
from specmoe.sim.sweep.retiming import Draws, machines, require_drawable, shares_of
from specmoe.summary import SPREAD, Row, summary
from specmoe.uncertainty import add_fastest_shares, effects, fastest_on, fastest_shares, first_to_measure, two_errors

pytest.importorskip("numba")
NAMES = ["on-demand-lru", "lookahead", "oracle"]
RUN = RunConfig("switch-mini-128/decode/test", profile="rtx3090", format="fp16", slots=154, steps=40)


def specmoe(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@cache
def known() -> HardwareProfile:
    return load_profile("rtx3090")


def narrowed(*names: str) -> HardwareProfile:
    """The profile with ranges of these numbers alone."""
    bare = {name: dataclasses.replace(each, low=None, high=None) for name, each in known().quantities.items()}
    return dataclasses.replace(known(), quantities={**bare, **{name: known().quantities[name] for name in names}})


def test_every_draw_lies_in_the_ranges_and_its_median_is_the_value() -> None:
    ranges, drawn = known().ranges, machines(known(), 400, seed=1)
    for name in set(ranges) & set(known().quantities):
        low, high = ranges[name]
        values = np.array([machine[name] for machine in drawn])
        assert ((low <= values) & (values <= high)).all(), name
        if low < known()[name] < high:
            assert 0.4 < (values < known()[name]).mean() < 0.6, name


def test_draws_repeat_with_their_seed() -> None:
    one, same, other = (machines(known(), 3, seed)[2].hash for seed in (5, 5, 6))
    assert one == same != other


def test_a_number_is_drawn_alike_whatever_other_numbers_have_a_range() -> None:
    """Golden: the generator is PCG64, seeded by 0 and the bytes of the name."""
    name = "host_to_device.pinned.bandwidth"
    alone, among = shares_of(narrowed(name), 3, seed=0), shares_of(known(), 5, seed=0)
    wanted = [0.12954940916417768, 0.9861973491737103, 0.7958754774093981]
    assert alone[name].tolist() == among[name][:3].tolist() == pytest.approx(wanted)
    correlations = np.corrcoef(np.array(list(shares_of(known(), 400, seed=0).values())))
    assert abs(np.triu(correlations, 1)).max() < 0.25, "names differ, so numbers are drawn independently"


def spreads(names: list[str], draws: int = 20, seed: int = 0, **changes: Any) -> list[Row]:
    scenario, drawn = Scenario(dataclasses.replace(RUN, draws=draws, seed=seed, **changes)), Draws()
    rows = [summary(drawn.run(scenario, name).result) for name in names]
    add_fastest_shares(rows)
    return rows


def test_the_same_decisions_are_timed_on_each_machine() -> None:
    """One draw is what the engine says of that machine."""
    (machine,) = machines(known(), 1, seed=3)
    again = Scenario(dataclasses.replace(RUN, profile=machine))
    rows = spreads(NAMES, draws=1, seed=3)
    for row in rows:
        run = again.run(row["policy"])
        steps = np.diff(run.timing.step_end, prepend=0)[again.warm_up() :]
        assert row["step_p50_ns"] == row["drawn_step_ns"][0] == round(steps.mean())
    assert [row["fastest_share"] for row in rows] in ([0, 1, None], [1, 0, None]), "the oracle is a yardstick"


def test_simulate_draws_unless_it_is_told_not_to() -> None:
    """A what-if's machine is taken as it is; a cache in bytes is timed on the drawn machines too."""
    run = ("simulate", RUN.trace, "--policy", "on-demand-lru,lookahead", "--steps", 20)

    def drawn(*more: object) -> list[int | None]:
        result = specmoe(*run, *more, "--json")
        assert result.exit_code == 0, result.output
        return [row["draws"] for row in json.loads(result.stdout)]

    assert drawn("--slots", 154) == [200, 200]
    assert drawn("--cache-bytes", "500MiB") == [200, 200]
    assert drawn("--slots", 154, "--draws", 0) == [None, None]
    assert drawn("--slots", 154, "--set", "nvme.bandwidth=7GB/s") == [None, None]
    assert drawn("--slots", 154, "--link", "priority") == [None, None]
    assert " is fastest on " in specmoe(*run, "--slots", 154).stdout


def test_a_sweep_draws_the_same_machines_as_a_single_run() -> None:
    cells = [dataclasses.replace(RUN, policy=name, draws=20) for name in NAMES]
    alone = spreads(NAMES)
    for cell, row in zip(evaluate(cells), alone, strict=True):
        assert {name: cell[name] for name in SPREAD if name != "fastest_share"} == {
            name: row[name] for name in SPREAD if name != "fastest_share"
        }


def test_a_number_that_no_policy_needs_spreads_nothing() -> None:
    for row in spreads(NAMES, draws=5, profile=narrowed("nvme.latency")):
        assert row["step_p5_ns"] == row["step_p95_ns"] and row["unknown"] == []


def test_a_link_that_may_be_slower_spreads_who_waits_for_it() -> None:
    (row,) = spreads(["on-demand-lru"], profile=narrowed("host_to_device.pinned.bandwidth"))
    assert row["step_p5_ns"] < row["step_p95_ns"] and row["fastest_share"] == 1
    assert row["unknown"] == ["host_to_device.pinned.bandwidth"] and row["unknown_effect"][0] < 0
    assert first_to_measure(row).startswith("measure host_to_device.pinned.bandwidth first: ")


def test_effects_of_numbers_are_those_of_a_product() -> None:
    """Closed form: a step 3 * 2^a * 0.5^(b/2) doubles with a, and b takes 1 - 0.5^0.5 of it; c does nothing."""
    a, b, c = np.random.default_rng(0).random((3, 60))
    found = effects(3 * 2.0**a * 0.5 ** (b / 2), {"a": a, "b": b, "c": c})
    assert list(found) == ["a", "b", "c"]
    assert list(found.values()) == pytest.approx([1, 0.5**0.5 - 1, 0])
    assert effects(np.ones(3), {"a": a[:3]}) == {}, "three draws say nothing of one number"


def test_each_machine_has_one_fastest_policy() -> None:
    assert fastest_shares([[1, 3, 2, 9], [2, 2, 2, 2]]) == [0.5, 0.5], "of equal ones the first"
    assert fastest_shares([]) == []


def test_wrong_draws_end_in_one_line() -> None:
    with pytest.raises(InputError, match="draws: 0: 1 or more expected"):
        machines(known(), 0)
    with pytest.raises(InputError, match="no number has a range"):
        require_drawable(Scenario(dataclasses.replace(RUN, profile="h100-sxm5-80gb")))
    with pytest.raises(InputError, match="draws: link order priority: fifo expected"):
        require_drawable(Scenario(dataclasses.replace(RUN, link="priority")))
    result = specmoe("simulate", RUN.trace, "--policy", "lru", "--draws", -1)
    assert result.exit_code != 0 and "draws" in result.output


def test_what_is_not_unknown_is_not_drawn() -> None:
    """By default a sweep draws the machines that profiles describe, not those of a what-if, and fewer of many."""
    grid = {"trace": [RUN.trace], "policy": ["on-demand-lru"], "slots": [154]}
    assert [cell.draws for cell in cells_of(grid)] == [200]
    assert [cell.draws for cell in cells_of(grid | {"format": ["fp32", "fp16", "bf16", "int8", "int4"]})] == [160] * 5
    assert [cell.draws for cell in cells_of(grid | {"scale": {"expert.speed": [1.0, 2.0]}})] == [0, 0]
    assert [cell.draws for cell in cells_of(grid | {"draws": 7})] == [7]
    assert all(row["draws"] is None for row in spreads(["on-demand-lru"], profile="h100-sxm5-80gb"))


def test_the_sentence() -> None:
    row = {"profile": "mine", "draws": 200, "yardstick": False}
    rows = [row | {"policy": name, "fastest_share": won} for name, won in (("a", 0.03), ("b", 0.97))]
    assert fastest_on(rows) == "b is fastest on 97 % of 200 machines that fit what is known of mine"
    assert fastest_on(rows[:1]) == "only a was timed on 200 machines that fit what is known of mine"
    yardstick = row | {"yardstick": True}
    assert fastest_on([yardstick]) == "only yardsticks were timed on 200 machines that fit what is known of mine"
    assert fastest_on([row | {"draws": None}]) == ""


def test_the_models_own_error_is_told_apart_from_what_is_unknown() -> None:
    row = {"profile": "mine", "draws": 200, "latency_mean_ns": 100, "step_p5_ns": 90, "step_p95_ns": 130}
    row |= {"expected_error": 0.12, "validated": False}
    assert two_errors(row) == (
        "two errors, of which both apply: the timing model's own is ±12 % or worse of a step, and what is unknown of "
        "mine changes a step by -10.0 % to +30.0 %"
    )
    assert two_errors(row | {"draws": None}) == two_errors(row | {"expected_error": None}) == ""


def test_simulate_prints_draws() -> None:
    arguments = ("simulate", RUN.trace, "--format", "fp16", "--slots", 154, "--steps", 40, "--draws", 20)
    result = specmoe(*arguments, "--policy", "on-demand-lru,oracle")
    assert result.exit_code == 0, result.output
    assert "only on-demand-lru was timed on 20 machines that fit what is known of rtx3090" in result.stdout
    rows = json.loads(specmoe(*arguments, "--policy", "on-demand-lru,oracle", "--json").stdout)
    assert [row["fastest_share"] for row in rows] == [1.0, None]
    assert rows[0]["step_p5_ns"] < rows[0]["latency_mean_ns"] < rows[0]["step_p95_ns"]

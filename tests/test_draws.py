"""Machines drawn out of a profile's ranges, and how policies fare on them."""

import dataclasses
import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.config import RunConfig
from specmoe.sim.draws import machines, sentence, spreads
from specmoe.sim.run import Scenario

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


def test_the_same_decisions_are_timed_on_each_machine() -> None:
    """One draw is what the engine says of that machine."""
    scenario = Scenario(RUN)
    found = spreads(scenario, NAMES, draws=1, seed=3)
    (machine,) = machines(known(), 1, seed=3)
    again = Scenario(dataclasses.replace(RUN, profile=machine), routing=scenario.routing)
    for row in found.to_dict("records"):
        run = again.run(row["policy"])
        steps = np.diff(run.timing.step_end, prepend=0)[scenario.warm_up() :]
        assert row["step_p50_ns"] == pytest.approx(steps.mean())
    assert found["fastest_share"].tolist()[:2] in ([0, 1], [1, 0])
    assert np.isnan(found["fastest_share"].tolist()[2]), "the oracle is a yardstick"


def test_a_number_that_no_policy_needs_spreads_nothing() -> None:
    found = spreads(Scenario(dataclasses.replace(RUN, profile=narrowed("nvme.latency"))), NAMES, draws=5)
    assert (found["step_p5_ns"] == found["step_p95_ns"]).all()


def test_a_link_that_may_be_slower_spreads_who_waits_for_it() -> None:
    scenario = Scenario(dataclasses.replace(RUN, profile=narrowed("host_to_device.pinned.bandwidth")))
    found = spreads(scenario, ["on-demand-lru"], draws=20)
    assert (found["step_p5_ns"] < found["step_p95_ns"]).all()
    assert found["fastest_share"].tolist() == [1.0]


def test_wrong_draws_end_in_one_line() -> None:
    with pytest.raises(InputError, match="draws: 0: 1 or more expected"):
        machines(known(), 0)
    with pytest.raises(InputError, match="no number has a range"):
        machines(load_profile("h100-sxm5-80gb"), 3)
    with pytest.raises(InputError, match="draws: link order priority: fifo expected"):
        spreads(Scenario(dataclasses.replace(RUN, link="priority")), NAMES, 3)


def test_the_sentence() -> None:
    rows = pd.DataFrame({"policy": ["a", "b", "c"], "fastest_share": [0.03, 0.97, np.nan]})
    assert sentence(rows, 200, "mine") == "b is fastest on 97 % of 200 machines drawn from what is known of mine"
    assert sentence(rows[2:], 200, "mine") == "only yardsticks were timed on 200 machines"


def test_simulate_prints_draws() -> None:
    arguments = ("simulate", RUN.trace, "--format", "fp16", "--slots", 154, "--steps", 40, "--draws", 20)
    result = specmoe(*arguments, "--policy", "on-demand-lru,oracle")
    assert result.exit_code == 0, result.output
    assert "on-demand-lru is fastest on 100 % of 20 machines drawn from what is known of rtx3090" in result.stdout
    rows = json.loads(specmoe(*arguments, "--policy", "on-demand-lru,oracle", "--json").stdout)
    assert [row["fastest_share"] for row in rows] == [1.0, None]
    assert rows[0]["step_p5_ns"] < rows[0]["latency_mean_ns"] < rows[0]["step_p95_ns"]

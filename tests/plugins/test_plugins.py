"""Entry points as tables find them: what may be plugin_versions, what is refused, and what is then said."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
from plug_in import install

from specmoe.errors import InputError
from specmoe.plugins import Table
from specmoe.sim.claims import is_yardstick, plugin_versions
from specmoe.sim.config import RunConfig, sorted_overrides
from specmoe.sim.decide.evictions import EVICTIONS, make_eviction
from specmoe.sim.decide.policy import POLICIES, policy
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.predictors import PREDICTORS, keywords, make_predictor
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.sim.sweep.grid import Contents

TABLES = {"policies": POLICIES, "evictions": EVICTIONS, "predictors": PREDICTORS}
MODULE = '''
import dataclasses
from specmoe.sim.decide.evictions.lru import Lru
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.decide.policy import Policy, Prefetch
from specmoe.sim.speculate.predictors.counted import Frequency

class Mine(Lru):
    """An LRU."""

class Guess(Frequency):
    """A count."""

MINE = dataclasses.replace(POLICIES["lookahead"], name="mine", eviction="mine")
GUESS = Policy("guess", "a test", predictor="guess", prefetch=Prefetch())
'''
POLICY = "from specmoe.sim.decide.policy import Policy\n"
GOOD = {
    "specmoe.policies": {"mine": "mine:MINE", "guess": "mine:GUESS"},
    "specmoe.evictions": {"mine": "mine:Mine"},
    "specmoe.predictors": {"guess": "mine:Guess"},
}


def bring(site: Path, group: str, name: str, source: str, *, package: str = "odd-one") -> None:
    """One plug-in: a module's `IT`."""
    module = package.replace("-", "_")
    install(site, package, {f"specmoe.{group}": {name: f"{module}:IT"}}, {module: source})


def test_all_three_kinds_stand_behind_the_built_in_ones(site: Path) -> None:
    sizes = {kind: len(table) for kind, table in TABLES.items()}
    for table in TABLES.values():
        table._plug_ins = None
    install(site, "mine-and-yours", GOOD, {"mine": MODULE}, "2.1")
    assert list(POLICIES)[sizes["policies"] :] == ["guess", "mine"]
    assert list(EVICTIONS)[sizes["evictions"] :] == ["mine"]
    assert list(PREDICTORS)[sizes["predictors"] :] == ["guess"]
    assert len(POLICIES) == sizes["policies"] + 2
    assert POLICIES["mine"].eviction == "mine"
    assert EVICTIONS["mine"].__name__ == "Mine"
    assert type(make_predictor("guess", {"depth": 2})).__name__ == "Guess"
    assert "depth" in keywords("guess")


def test_a_brought_policy_takes_overrides_and_can_be_one(site: Path) -> None:
    from specmoe.hwprofiles import load_profile

    install(site, "mine-and-yours", GOOD, {"mine": MODULE})
    assert policy("mine", {"prefetch.limit": 3}).prefetch.limit == 3  # type: ignore[union-attr]
    profile = load_profile("rtx3090")
    assert sorted_overrides({"eviction": "mine", "predictor": "guess"}, profile).policy == {
        "eviction": "mine",
        "predictor": "guess",
    }


def test_results_can_name_who_brought_what(site: Path) -> None:
    install(site, "mine-and-yours", GOOD, {"mine": MODULE}, "2.1")
    assert POLICIES.versions("mine") == EVICTIONS.versions("mine") == {"mine-and-yours": "2.1"}
    assert POLICIES.versions("oracle") == POLICIES.versions("nobody") == {}
    assert plugin_versions(policy("oracle")) == {}
    for changed in ({"eviction": "mine"}, {"predictor": "guess"}):
        assert plugin_versions(policy("lookahead", changed)) == {"mine-and-yours": "2.1"}
    bring(site, "policies", "theirs", POLICY + "IT = Policy('theirs', '', eviction='mine')")
    POLICIES._plug_ins = None
    assert plugin_versions(policy("theirs")) == {"odd-one": "0.1", "mine-and-yours": "2.1"}


def test_nothing_is_imported_for_a_built_in_name(site: Path) -> None:
    bring(site, "policies", "loud", "raise SystemExit('imported')")
    assert policy("oracle").name == "oracle"
    assert "lru" in EVICTIONS
    with pytest.raises(InputError, match="SystemExit: imported"):
        policy("loud")


def test_a_module_that_was_imported_before_the_table_looked(site: Path) -> None:
    install(site, "mine-and-yours", GOOD, {"mine": MODULE})
    import mine  # type: ignore[import-not-found]  # the plug-in

    assert POLICIES["mine"] is mine.MINE


def test_one_that_reads_all_names_while_it_is_imported(site: Path) -> None:
    source = "from specmoe.sim.decide import policy\nSEEN = list(policy.POLICIES)\n"
    bring(site, "policies", "reader", source + "IT = policy.Policy('reader', ' '.join(SEEN))")
    assert POLICIES["reader"].source.split() == [name for name in POLICIES if name != "reader"]


BROKEN = [
    ("policies", "import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    ("policies", "raise RuntimeError('two\\nlines')", "RuntimeError: two"),
    ("policies", "def IT(:", "SyntaxError: "),
    ("policies", "import sys\nsys.exit(3)", "SystemExit: 3"),
    ("policies", "raise GeneratorExit", "GeneratorExit: "),
    ("policies", "that = 1", "AttributeError: .*IT"),
    ("policies", "IT = 'lru'", "str: a specmoe.sim.decide.policy.Policy expected"),
    ("policies", POLICY + "IT = Policy('other', '')", "a Policy named 'other': the entry point's name expected"),
    ("evictions", "IT = dict", "a class that implements specmoe.sim.decide.eviction.Eviction expected"),
    ("evictions", "from specmoe.sim.decide.eviction import Eviction as IT", "that implements .*Eviction expected"),
    ("predictors", "IT = print", "a class that implements specmoe.sim.speculate.predictor.Predictor expected"),
    ("predictors", "from specmoe.sim.speculate.predictor import Predictor as IT", "that implements .*Predictor"),
]


def ask(group: str, name: str) -> None:
    """As a run asks."""
    if group == "policies":
        policy(name)
    elif group == "evictions":
        make_eviction(name, None, 1, {})  # type: ignore[arg-type]  # not reached
    else:
        make_predictor(name)


@pytest.mark.parametrize(("group", "source", "why"), BROKEN)
def test_one_that_cannot_be_used_is_one_line_that_names_its_package(
    site: Path, caplog: pytest.LogCaptureFixture, group: str, source: str, why: str
) -> None:
    bring(site, group, "odd", source)
    with pytest.raises(InputError, match=f"^odd-one 0.1: specmoe.{group} 'odd': .*{why}") as raised:
        ask(group, "odd")
    assert "\n" not in str(raised.value)
    assert not caplog.records, "said once"
    table = TABLES[group]
    assert "odd" not in list(table)
    assert [record.getMessage() for record in caplog.records] == [f"left out: {raised.value}"]
    list(table)
    assert len(caplog.records) == 1, "said once"


def test_a_broken_one_does_not_stop_the_others(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    bring(site, "policies", "aaa", "import nowhere")
    install(site, "mine-and-yours", GOOD, {"mine": MODULE})
    assert policy("mine").name == "mine"
    with caplog.at_level(logging.WARNING), pytest.raises(InputError, match=r"policy 'minee': did you mean 'mine'"):
        policy("minee")
    assert "odd-one" in caplog.text


def test_a_built_in_name_cannot_be_taken(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    built_in = policy("oracle")
    bring(site, "policies", "oracle", POLICY + "IT = Policy('oracle', 'mine')")
    assert list(POLICIES).count("oracle") == 1
    assert policy("oracle") is built_in
    assert "odd-one 0.1: specmoe.policies 'oracle': a built-in one has this name: another expected" in caplog.text


def test_a_name_that_two_bring_is_the_first_packages(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    for package in ("zebra", "apple"):
        bring(site, "policies", "both", POLICY + f"IT = Policy('both', '{package}')", package=package)
    assert list(POLICIES).count("both") == 1
    assert POLICIES["both"].source == "apple"
    assert "zebra 0.1: specmoe.policies 'both': apple has this name: another expected" in caplog.text


def test_a_table_is_a_dictionary_to_those_who_read_it() -> None:
    table = Table("specmoe.nothing", {"one": 1, "two": 2}, lambda name, value: "")
    assert dict(table) == {"one": 1, "two": 2}
    table["three"] = 3
    del table["one"]
    assert (list(table), len(table), "one" in table, table.get("one")) == (["two", "three"], 2, False, None)
    with pytest.raises(KeyError, match="one"):
        table["one"]
    table.require_usable("one")


def test_the_command_line_says_it_in_one_line(site: Path) -> None:
    from typer.testing import CliRunner

    from specmoe.cli import app

    bring(site, "policies", "odd", "import nowhere")
    done = CliRunner().invoke(app, ["simulate", "switch-mini-128/decode/test", "--policy", "odd", "--steps", "5"])
    assert done.exit_code == 1
    expected = "error: odd-one 0.1: specmoe.policies 'odd': ModuleNotFoundError: No module named 'nowhere'\n"
    assert done.stderr == expected


def test_what_rests_on_a_plug_in_is_known_by_its_version(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps keep cells, and results tell what made them."""
    install(site, "mine-and-yours", GOOD, {"mine": MODULE}, "2.1")
    brought_one = RunConfig("switch-mini-128/decode/test", "on-demand-lru", "rtx3090", slots=8, steps=5)
    mine = dataclasses.replace(brought_one, settings=(("eviction", "mine"),))
    keys = [Contents().key(mine), Contents().key(brought_one)]
    assert Scenario(Contents().loaded(mine)).run("on-demand-lru").result.manifest.versions["mine-and-yours"] == "2.1"
    monkeypatch.setattr(EVICTIONS, "versions", lambda name: {"mine-and-yours": "2.2"} if name == "mine" else {})
    assert Contents().key(mine) != keys[0] and Contents().key(brought_one) == keys[1]


PEEKING = """
from functools import partial
from specmoe.sim.decide.evictions.next_use import Belady
from specmoe.sim.decide.evictions.lru import Lru
from specmoe.sim.decide.policy import Policy, Prefetch
from specmoe.sim.speculate.predictors.counted import Frequency

class Clairvoyant(Belady):
    pass

class Cheat(Lru):
    peeks = True

class Seer(Frequency):
    peeks = True

class Honest(Frequency):
    pass

CLAIRVOYANT, CHEAT = (Policy(name, "a test", eviction=name) for name in ("clairvoyant", "cheat"))
SEER, HONEST = (Policy(name, "a test", predictor=name, prefetch=Prefetch()) for name in ("seer", "honest"))
"""


def test_a_part_that_peeks_makes_its_policy_a_yardstick(site: Path) -> None:
    classes = {"evictions": ("clairvoyant", "cheat"), "predictors": ("seer", "honest")}
    groups = {f"specmoe.{kind}": {name: f"peeking:{name.title()}" for name in names} for kind, names in classes.items()}
    groups["specmoe.policies"] = {
        name: f"peeking:{name.upper()}" for name in ("clairvoyant", "cheat", "seer", "honest")
    }
    install(site, "peeking", groups, {"peeking": PEEKING})
    brought_here = {name: policy(name) for name in ("clairvoyant", "cheat", "seer", "honest")}
    expected = {"clairvoyant": True, "cheat": True, "seer": True, "honest": False}
    assert {name: is_yardstick(each) for name, each in brought_here.items()} == expected
    scenario = Scenario(RunConfig("switch-mini-128/decode/test", slots=64, steps=3))
    results = {name: scenario.run(name).result for name in expected}
    assert {name: result.manifest.yardstick for name, result in results.items()} == expected
    rows = evaluate([RunConfig("switch-mini-128/decode/test", name, "rtx3090", slots=64, steps=3) for name in expected])
    assert [row["yardstick"] for row in rows] == list(expected.values())

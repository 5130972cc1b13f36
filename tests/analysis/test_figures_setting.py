"""Which cells a figure shows: one configuration, never a mean over several."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_rows import LINK, crowd, failed, grid, guess, oracle, resident, row, table

from specmoe.analysis.figures.setting import Setting, settings_of, told
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile

ASSUMED = "set.predictor.assumed_precision"
FLOOR, ISSUE = "scale.dense.layer_floor", "scale.host.graph.issue"


def setting(*rows: dict[str, Any]) -> Setting:
    (found,) = settings_of(table(*rows))
    return found


def test_rows_of_other_traces_machines_and_models_are_other_settings() -> None:
    found = settings_of(table(row(), row(profile="b"), row("static"), row(profile="b", shape="m")))
    assert [(one.name, len(one.cells)) for one in found] == [("box, model", 2), ("b, model", 1), ("b, m", 1)]
    assert settings_of(table(row(), row("static")))[0].name == ""


def test_a_table_without_figures_is_refused_with_the_first_error() -> None:
    with pytest.raises(InputError, match=r"no cell of the sweep has figures: no room$"):
        settings_of(table(failed("x"), failed("y", "other")))


def test_by_hand_main_values() -> None:
    rows = [row(slots=s, batch=b, **{LINK: v}) for s in (64, 128, 256, 512) for b in (1, 8) for v in (1e10, 2e10)]
    found = setting(*rows)
    assert found.main == {LINK: 1e10, "batch": 1, "slots": 512}
    assert [cell.point.about.slots for cell in found.along()] == [512]
    assert [cell.point.about.slots for cell in found.along("slots")] == [64, 128, 256, 512]
    assert [cell.where["batch"] for cell in found.along("batch")] == [1, 8]
    assert [cell.where[LINK] for cell in found.along(LINK, slots=64)] == [1e10, 2e10]


@pytest.mark.parametrize("profile", ["rtx3090", "h200-sxm-141gb"])
def test_of_links_the_nearest_to_the_profiles_own_is_the_main_value(profile: str) -> None:
    known = load_profile(profile)
    own = known["host_to_device.pinned.bandwidth"] if profile == "rtx3090" else known.plateau("host_to_device.pinned")
    found = setting(*[row(profile=profile, **{LINK: own * factor}) for factor in (0.3, 0.5, 0.9, 1.2, 2)])
    assert found.main == {LINK: own * 0.9}


def test_the_profiles_own_link_is_the_main_one_where_it_was_run() -> None:
    found = setting(*[row(profile="rtx3090", **{LINK: rate}) for rate in (1e10, 2e10, 2.5e10)], row(profile="rtx3090"))
    assert found.main == {LINK: None}


def test_who_holds_every_expert_is_a_yardstick_but_where_all_fit() -> None:
    held: dict[str, Any] = {"slots": 768, "fits": True, "bytes_loaded": 0, "style": "grouped-wait"}
    found = setting(resident(style="grouped-wait"), row(), row(slots=768), row("gpu-only", **held))
    assert found.main == {"slots": 768}
    assert [(cell.policy, cell.point.yardstick) for cell in found.along()] == [
        ("on-demand-lru", False),
        ("gpu-only", False),
    ]
    assert {cell.policy: cell.point.yardstick for cell in found.along(slots=64)} == {
        "gpu-only": True,
        "on-demand-lru": False,
    }


def test_what_most_cells_have_is_the_main_value() -> None:
    found = setting(row(format="fp16"), row("a", format="int8"), row("b", format="int8"))
    assert found.main == {"format": "int8"}
    assert [cell.policy for cell in found.along()] == ["a", "b"]


def test_main_values_occur_together() -> None:
    rows = [row(format="fp16", slots=64), row(format="int8", slots=128), row("b", format="int8", slots=128)]
    rows += [row(name, format="fp16", slots=64) for name in "cd"]
    found = setting(*rows)
    assert found.main == {"format": "fp16", "slots": 64}
    assert len(found.along()) == 3


def test_an_empty_factor_is_one_and_the_main_value() -> None:
    found = setting(row(), row(**{FLOOR: 0.8}), row(**{FLOOR: 1.2}), row(**{ISSUE: 0.8}), row(**{ISSUE: 1.2}))
    assert found.main == {FLOOR: 1.0, ISSUE: 1.0}
    assert [cell.where[FLOOR] for cell in found.along(FLOOR)] == [1.0, 0.8, 1.2]
    assert found.columns("scale.") == [FLOOR, ISSUE]
    assert found.told() == ""


def test_who_holds_every_expert_is_in_every_slice_of_slots_and_moves_no_main_value() -> None:
    found = setting(*[row(slots=s) for s in (64, 128, 256)], *[resident()] * 9)
    assert found.main == {"slots": 256}
    assert [cell.policy for cell in found.along()] == ["on-demand-lru", "gpu-only"]


def test_a_value_of_one_policys_own_leaves_the_others_in() -> None:
    guesses = [guess("noisy-oracle", 3, yardstick=True, **{ASSUMED: p}) for p in (0.0, 0.5, 1.0)]
    found = setting(row(), row("static"), *guesses)
    assert found.main == {ASSUMED: 0.5}
    assert [cell.policy for cell in found.along()] == ["on-demand-lru", "static", "noisy-oracle"]
    assert len(found.along(ASSUMED)) == 5
    assert found.told() == "", "it does not concern all"


def test_a_number_of_the_machine_is_everybodys() -> None:
    found = setting(row(), row("static"), row("static", **{LINK: 1e10}))
    assert found.main == {LINK: None}
    assert [cell.where[LINK] for cell in found.along()] == [None, None]
    other = setting(row("a", **{LINK: 1e10}), row("b", **{LINK: 1e10}), row())
    assert [cell.policy for cell in other.along()] == ["a", "b"], "its link is another"


def test_the_slice_is_told_in_words() -> None:
    found = setting(*[row(slots=s, batch=b, **{LINK: v}) for s in (64, 128) for b in (1, 8) for v in (1e10, 2e10)])
    assert found.told() == "128 slots, batch 1, host_to_device.pinned.bandwidth=10 GB/s"
    assert found.told("slots", LINK) == "batch 1"


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("link", "priority", "priority link"),
        ("host_set", "eager", "host costs: eager"),
        ("tier", "nvme", "nvme"),
        ("home_format", "", ""),
        ("home_format", "int4", "at home in int4"),
        ("compressed_slots", 8, "8 compressed slots"),
        (FLOOR, 1.0, ""),
        (LINK, None, ""),
    ],
)
def test_values_in_words(column: str, value: object, text: str) -> None:
    assert told(column, value) == text


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([64, 128]), st.sampled_from([1, 8])), min_size=1))
def test_property_a_slice_is_never_empty_and_has_one_cell_for_a_policy(cells: list[tuple[str, int, int]]) -> None:
    found = setting(*[row(name, slots=slots, batch=batch) for name, slots, batch in cells])
    names = [cell.policy for cell in found.along()]
    assert names
    assert len(set(names)) == len(names)
    for cell in found.along():
        assert all(cell.where[column] == value for column, value in found.main.items())


def test_failed_cells_and_yardsticks_do_not_disturb() -> None:
    (found,) = settings_of(grid())
    assert {cell.policy for cell in found.along()} == {"on-demand-lru", "lookahead", "oracle", "gpu-only"}
    assert oracle()["yardstick"]


def test_looks_are_the_same_in_every_figure_of_a_setting() -> None:
    (found,) = settings_of(crowd())
    assert list(found.looks) == [*(f"a-rather-long-name-{n:02}" for n in range(6)), "on-demand-lru"]
    assert len({(look["color"], look["marker"]) for look in found.looks.values()}) == 7

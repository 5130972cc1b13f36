"""Another machine's link on this one: copies so much longer that they take as long, and only what fits its VRAM."""

from __future__ import annotations

import dataclasses
from itertools import accumulate
from typing import Any

import pytest
from fake_device import FakeDevice
from fake_machine import NAME, TRACES, machine_profile, prices
from hypothesis import assume, example, given
from hypothesis import strategies as st

from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile
from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.budget import Room
from specmoe.sim.config import ASSUMED_RESERVE, AT_HOME
from specmoe.validate.fit import Resimulation
from specmoe.validate.grid import group_of
from specmoe.validate.validation import (
    LINK,
    MAX_COPY_BYTES,
    NOT_EMULATED,
    Machine,
    emulated,
    emulating,
    fitting,
    stretch,
    validate,
)

MINE = machine_profile()
GROUP = group_of("switch-base-128", "decode", "fp16", None, 1, 3)
CELLS = [GROUP.cell("on-demand-lru", slots, "held_out") for slots in (40, 80, 160)]
MB = 1_000_000


def linked(latency_ns: int, rate: float, **changes: Any) -> HardwareProfile:
    """A machine whose link is a line."""
    link = {f"{LINK}.latency": latency_ns, f"{LINK}.bandwidth": rate}
    profile = dataclasses.replace(MINE, points={n: p for n, p in MINE.points.items() if not n.startswith(LINK)})
    return dataclasses.replace(profile.with_overrides(link), **changes)


def measured(latency_ns: int, steps: list[tuple[int, int]], name: str = "measured") -> HardwareProfile:
    """A machine whose link is measured points: bytes and ns from each to the next."""
    amounts, times = (tuple(accumulate(column)) for column in zip(*steps, strict=True))
    points = Points(amounts, tuple(latency_ns + time for time in times), "B", "measured", "made up")
    profile = linked(latency_ns, 1e9, name=name)
    quantities = {n: q for n, q in profile.quantities.items() if n != f"{LINK}.bandwidth"}
    return dataclasses.replace(profile, quantities=quantities, points={**profile.points, f"{LINK}.points": points})


lines = st.builds(linked, st.integers(0, 20_000), st.floats(1e9, 1e11))
curves = st.builds(
    measured,
    st.integers(0, 20_000),
    st.lists(st.tuples(st.integers(1, 4 * MB), st.integers(1, 400_000)), min_size=2, max_size=6),
)
links = st.one_of(lines, curves)


@given(mine=links, other=links, size=st.integers(1, 20 * MB))
@example(mine=linked(8_000, 54e9), other=linked(10_000, 12e9), size=9_437_184)
@example(mine=linked(0, 50e9), other=linked(20_000, 50e9), size=1)
@example(mine=measured(0, [(1, 1), (1, 1)]), other=measured(0, [(1, 1), (1, 131_073)]), size=8_388_609)
def test_so_many_bytes_take_here_what_an_expert_takes_there(
    mine: HardwareProfile, other: HardwareProfile, size: int
) -> None:
    """And one byte less takes less, or is less than an expert."""
    here, wanted = mine.curve(LINK), other.curve(LINK)(size)
    assume(here(size) <= wanted)
    if here(MAX_COPY_BYTES) < wanted:
        with pytest.raises(InputError, match="cannot be emulated here: an expert's copy takes"):
            stretch(mine, other, size)
        return
    copied = round(size * stretch(mine, other, size))
    assert copied >= size
    assert here(copied) >= wanted
    assert copied == size or here(copied - 1) < wanted


def test_a_stretch_by_hand() -> None:
    """10 MB at 10 GB/s is 1 ms, in which 50 GB/s bring 50 MB; with 100 us of latency here, 45."""
    assert stretch(linked(0, 50e9), linked(0, 10e9), 10 * MB) == pytest.approx(5, rel=1e-6)
    assert stretch(linked(100_000, 50e9), linked(0, 10e9), 10 * MB) == pytest.approx(4.5, rel=1e-6)


def test_its_own_link_needs_no_more_bytes() -> None:
    assert stretch(MINE, MINE, 9_437_184) == 1


def test_a_faster_link_cannot_be_emulated() -> None:
    slow = linked(0, 10e9, name="slow")
    with pytest.raises(InputError, match="fast's link is faster than slow's: it cannot be emulated here"):
        stretch(slow, linked(0, 11e9, name="fast"), 10 * MB)


def test_a_link_may_be_too_slow() -> None:
    """The longest copy here is 1 TiB, which takes 1.1 s at 1 TB/s: 10 MB there do too at 9.1 MB/s."""
    fast, rate = linked(0, 1e12, name="fast"), 10 * MB / (MAX_COPY_BYTES / 1e12)
    assert stretch(fast, linked(0, rate * 1.001), 10 * MB) == pytest.approx(MAX_COPY_BYTES / (10 * MB), rel=2e-3)
    with pytest.raises(InputError, match=r"slow's link cannot be emulated here: an expert's copy takes 1\.1 s there"):
        stretch(fast, linked(0, rate / 1.001, name="slow"), 10 * MB)


OTHER = measured(9_000, [(MB, 90_000), (9 * MB, 900_000)], "other").with_overrides({"device.vram": 10e9})


def test_an_emulated_profile_has_the_others_link_and_vram() -> None:
    found = emulated(MINE, OTHER)
    for size in (1, 4096, 9_437_184, 100 * MB):
        assert found.curve(LINK)(size) == OTHER.curve(LINK)(size) != MINE.curve(LINK)(size)
    link = [{name: q for name, q in profile.quantities.items() if name.startswith(LINK)} for profile in (found, OTHER)]
    assert link[0] == link[1]
    assert found["device.vram"] == 10e9 != MINE["device.vram"]
    assert found.name == "other-on-fake"
    assert found.title.endswith(f"with the link and VRAM of {OTHER.title}")


def test_all_else_is_this_machines() -> None:
    theirs = {"device.memory_bandwidth": 1e9, "host.graph.issue": 7, "host_to_device.pageable.latency": 5}
    other = OTHER.with_overrides(theirs)
    found = emulated(MINE, other)
    changed = {"device.vram", *(name for name in (*MINE.quantities, *OTHER.quantities) if name.startswith(f"{LINK}."))}
    for name in {*found.quantities, *MINE.quantities} - changed:
        assert found.quantities[name] == MINE.quantities[name], name
    assert {n: p for n, p in found.points.items() if not n.startswith(LINK)} == {
        n: p for n, p in MINE.points.items() if not n.startswith(LINK)
    }
    for field in ("expert_curves", "dense_curves", "machine", "calibration", "fitted_by"):
        assert getattr(found, field) == getattr(MINE, field)


def test_nothing_of_this_machines_link_is_left() -> None:
    """Points would go before a bandwidth."""
    mine = measured(1_000, [(MB, 20_000), (9 * MB, 180_000)])
    found = emulated(mine, linked(10_000, 12e9))
    assert f"{LINK}.points" not in found.points
    assert found.curve(LINK)(12 * MB) == 1_010_000


def test_its_contention_is_this_machines() -> None:
    mine, other = (profile.with_calibrated({"link.contention": c}, "x") for profile, c in ((MINE, 1.1), (OTHER, 1.5)))
    assert emulated(mine, other).contention == 1.1


def vram_for(slots: int, more: int = 0) -> HardwareProfile:
    """A machine that holds just so many."""
    scenario = Resimulation(TRACES, MINE).scenario(GROUP)
    room = Room(scenario.shape, scenario.format, AT_HOME).with_slots(slots)
    return linked(20_000, 1e9, name="small").with_overrides({"device.vram": room + ASSUMED_RESERVE + more})


@pytest.mark.parametrize(("vram", "fits"), [((80, 0), [40, 80]), ((80, -1), [40]), ((160, 0), [40, 80, 160])])
def test_cells_that_do_not_fit_are_left_out(vram: tuple[int, int], fits: list[int]) -> None:
    other = vram_for(*vram)
    assert [cell.slots for cell in fitting(CELLS, Resimulation(TRACES, emulated(MINE, other)), other)] == fits


def test_a_plan_says_what_is_emulated_and_left_out() -> None:
    found = emulating(CELLS, TRACES, MINE, vram_for(40))
    assert [cell.slots for cell in found.cells] == [40]
    assert found.notes == (
        f"emulated: {LINK} and VRAM of small; {NOT_EMULATED}",
        "2 cells left out: their slots do not fit into its VRAM",
    )
    assert found.profile == emulated(MINE, vram_for(40))
    assert len(emulating(CELLS, TRACES, MINE, vram_for(160)).notes) == 1


def test_nothing_fits() -> None:
    with pytest.raises(InputError, match="no cell of the grid fits into the VRAM of small"):
        emulating(CELLS, TRACES, MINE, vram_for(30))


def test_longer_copies_on_this_machine_are_the_other_machines_link() -> None:
    """The replay of `--emulate`: a device of this machine's costs, whose copies are stretched."""
    other = vram_for(160)
    planned = emulating(CELLS, TRACES, MINE, other)
    mine = Resimulation(TRACES, MINE).scenario(GROUP)
    size = mine.shape.expert_bytes("fp16")
    longer = MINE.curve(LINK)(round(size * stretch(MINE, other, size)))

    def make(scenario: Any, slots: int) -> FakeDevice:
        priced = prices(mine)
        return FakeDevice(lambda work: priced(work)._replace(copy=[longer] * len(work.table.loads.key)))

    found = validate(planned, Machine(make, {"device": NAME}), repeats=2)
    assert max(abs(cell.error) for cell in found.cells) < 1e-6
    plain = Resimulation(TRACES, MINE).run(CELLS[0]).result
    assert found.cells[0].measured.mean_ns > 2 * plain.table["end_ns"][-1] / (GROUP.config.steps or 1)


def test_a_shipped_machine_can_be_emulated_on_a_faster_one() -> None:
    mine, other = linked(8_000, 54e9), load_profile("rtx3090")
    assert 1.5 < stretch(mine, other, 9_437_184) < 6

"""A row of a sweep and a whole result tell the same of a run."""

from __future__ import annotations

import math

import pytest
from sweep_rows import LINK, failed, resident, row, table

from specmoe.analysis.point import changes, point_of_row, shown, unit_of


def test_by_hand_a_point_of_a_row() -> None:
    found = point_of_row(row("p", 4.0, slots=128, prefetch_loads=100, prefetch_wasted=40, precision=0.6))
    assert (found.compute_ns, found.stall_ns, found.idle_ns, found.latency_ns) == (1e6, 2e6, 1e6, 4e6)
    assert (found.vram_gib, found.peak_gib, found.bytes_loaded) == (2.0, 1.0, 1e7)
    assert (found.useful_share, found.precision, found.prefetches) == (0.9, 0.6, True)
    assert (found.tail.p50, found.tail.p95, found.tail.p99, found.tail.max) == (4e6, 6e6, 8e6, 12e6)
    assert point_of_row(row()).precision is None


def test_who_loads_nothing_and_is_a_yardstick_holds_every_expert() -> None:
    assert point_of_row(resident()).all_resident
    assert not point_of_row(row(bytes_loaded=0)).all_resident
    assert not point_of_row(row(yardstick=True)).all_resident


def test_changes_are_what_is_not_usual() -> None:
    assert changes(row()) == ()
    assert changes(row(**{LINK: math.nan, "scale.dense.layer_floor": 1.0})) == ()
    assert changes(row(link="priority", home_format="int8", compressed_slots=4)) == (
        "link=priority",
        "home-format=int8",
        "compressed-slots=4",
    )
    assert changes(row(**{LINK: 1.2e10, "scale.dense.layer_floor": 0.8})) == (
        "host_to_device.pinned.bandwidth=12 GB/s",
        "dense.layer_floor x 0.8",
    )


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("set.host.graph.issue", 4500.0, "host.graph.issue=4.5 us"),
        ("set.device.vram", 2.0**34, "device.vram=16 GiB"),
        ("set.gemm.fp16.rate", 7.1e13, "gemm.fp16.rate=71 TFLOP/s"),
        ("set.gemm.fp16.efficiency", 0.5, "gemm.fp16.efficiency=0.5"),
        ("set.prefetch.limit", 2.0, "prefetch.limit=2"),
        ("scale.device.vram", 1.25, "device.vram x 1.25"),
    ],
)
def test_values_have_units_that_are_read_at_a_glance(column: str, value: float, text: str) -> None:
    assert shown(column, value) == text


def test_names_that_no_profile_knows_have_no_unit() -> None:
    assert unit_of("prefetch.limit") == ("", 1.0)


def test_a_failed_row_is_not_among_the_good() -> None:
    made = table(row(), failed("x"))
    assert len(made.good) == 1

"""Profiles from TOML: what is read, what is refused, what a hash sees, what `--set` does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hw_tables import points, profile_table, put, quantity, tiles, to_toml, write

from specmoe.errors import InputError
from specmoe.hwprofiles import HardwareProfile, load_profile
from specmoe.hwprofiles.curves import Interpolated, Line, Range
from specmoe.hwprofiles.profile import Calibration
from specmoe.hwprofiles.quantity import COPIES, QUANTITIES, REQUIRED, TILES

Maker = Callable[..., HardwareProfile]


def refused(tmp_path: Path, text: str) -> str:
    """The one line that a file is refused with, without its own name."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_profile(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def refused_change(tmp_path: Path, name: str, value: object) -> str:
    return refused(tmp_path, to_toml(put(profile_table(), name, value)))


def test_every_number_arrives_in_base_units(profile: HardwareProfile) -> None:
    assert (profile.name, profile.title) == ("hand", "Worked by hand")
    assert profile["device.vram"] == 2**30
    assert profile["host_to_device.pinned.bandwidth"] == 1e9
    assert profile["gemm.fp16.rate"] == 2e9
    assert profile.ns("dense.layer_floor") == 10_000
    assert profile.ns("host.eager.bookkeeping") == 6000
    assert set(REQUIRED) <= set(profile.quantities) <= set(QUANTITIES)
    assert profile.quantities["nvme.latency"].ref == "by hand"


@pytest.mark.parametrize("copy_name", COPIES)
def test_a_copy_is_a_line_or_points(make_profile: Maker, copy_name: str) -> None:
    assert make_profile().curve(copy_name) == Line(1000, 1e9)
    fitted = make_profile({f"{copy_name}.fitted_to": points([[10, 5], [20, 9]])})
    assert fitted.curve(copy_name) == Line(1000, 1e9, Range(10, 20))
    measured = make_profile({f"{copy_name}.bandwidth": None, f"{copy_name}.points": points([[10, 5], [20, 9]])})
    curve = measured.curve(copy_name)
    assert isinstance(curve, Interpolated)
    assert (curve(10), curve(20), curve.measured) == (5, 9, Range(10, 20))
    assert f"{copy_name}.points" in measured.names_under(copy_name)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_number_is_named(tmp_path: Path, name: str) -> None:
    message = refused_change(tmp_path, name, None)
    assert message == f"{name}: missing: value, unit, source and ref expected"


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    table = profile_table()
    for name in ("title", "device.vram", "host.eager.sync", "nvme.bandwidth"):
        table = put(table, name, None)
    assert refused(tmp_path, to_toml(table)) == (
        "4 fields missing: title, device.vram, host.eager.sync, nvme.bandwidth"
    )


@pytest.mark.parametrize("part", ["value", "unit", "source", "ref"])
@pytest.mark.parametrize("name", [*REQUIRED, "nvme.bandwidth", f"{TILES}.rows"])
def test_a_number_without_a_part_is_refused(tmp_path: Path, name: str, part: str) -> None:
    table = put(profile_table(), TILES, tiles())
    assert refused(tmp_path, to_toml(put(table, f"{name}.{part}", None))) == f"{name}.{part}: missing"


@pytest.mark.parametrize("name", REQUIRED)
def test_a_number_in_a_wrong_dimension_is_refused(tmp_path: Path, name: str) -> None:
    wrong = "B" if REQUIRED[name] != "B" else "s"
    assert f"{name}.unit: '{wrong}' is not" in refused_change(tmp_path, f"{name}.unit", wrong)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("name", None, "name: missing"),
        ("title", None, "title: missing"),
        ("title", 3, "title: 3: a text expected"),
        ("name", " ", "name: ' ': a text expected"),
        ("titel", "x", "titel: unknown field: did you mean 'title'?"),
        ("colour", "x", "colour: unknown field: the nearest of 25 names are "),
        ("devize", {}, "devize: unknown field: did you mean 'device'?"),
        ("device.vrm", quantity(1, "B"), "device.vrm: unknown field: did you mean 'vram'?"),
        ("host.graf", {}, "host.graf: unknown field: did you mean 'graph'?"),
        ("host.graph.lunch", quantity(1, "us"), "host.graph.lunch: unknown field: did you mean 'launch'?"),
        ("host_to_device.pined", {}, "host_to_device.pined: unknown field: did you mean 'pinned'?"),
        ("device", 3, "device: 3: a table expected"),
        ("nvme.latency", 3, "nvme.latency: 3: a table expected"),
        ("nvme.bandwidth", None, "nvme: either bandwidth or points expected, one of the two"),
        ("nvme.points", points([[1, 1]]), "nvme: either bandwidth or points expected, one of the two"),
        ("nvme.fitted_to", points([[1, 1]], ("flop", "ns")), "nvme.fitted_to.unit: 'flop' is not bytes"),
        ("gemm.fp32.fitted_to", points([[1, 1]]), "gemm.fp32.fitted_to.unit: 'B' is not operations"),
        ("gemm.fp32.held_out", points([[1, 1]]), "gemm.fp32.held_out: unknown field"),
        ("gemm.fp32.efficiency.value", 1.5, "gemm.fp32.efficiency.value: 1.5: a share, at most 1, expected"),
        (TILES, {"rows": quantity(1, "1")}, f"{TILES}.columns: missing: all of {TILES} or none expected"),
        ("fitted_by", "isca25", "fitted_by: 'isca25': did you mean 'isca24'?"),
        ("fitted_by", 3, "fitted_by: 3: a text expected"),
        ("expert_curve", 3, "expert_curve: an array of tables, [[expert_curve]], expected"),
        ("expert_curve", [3], "expert_curve.0: 3: a table expected"),
        ("expert_curve", [{}], "expert_curve.0: 5 fields missing: d_model, d_ff, gated, format, points"),
    ],
)
def test_bad_fields_are_named(tmp_path: Path, name: str, value: object, message: str) -> None:
    assert refused_change(tmp_path, name, value).startswith(message)


CURVE = {"d_model": 8, "d_ff": 16, "gated": False, "format": "fp32", "points": points([[1, 50]], ("token", "us"))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": "8"}, "d_model: '8': a whole number above 0 expected"),
        ({"d_model": True}, "d_model: True: a whole number above 0 expected"),
        ({"d_ff": 0}, "d_ff: 0: a whole number above 0 expected"),
        ({"gated": 1}, "gated: 1: true or false expected"),
        ({"format": "int2"}, "format: 'int2': did you mean 'int"),
        ({"format": "fp8"}, "format: 'fp8': one of bf16, fp16, fp32, int4, int8, iq3_xxs"),
        ({"format": 8}, "format: 8: one of bf16, fp16, fp32, int4, int8, iq3_xxs"),
        ({"fromat": 1}, "fromat: unknown field: did you mean 'format'?"),
        ({"kernel": "triton"}, "kernel: 'triton': one of fused, library expected"),
        ({"experts": 0}, "experts: 0: a whole number above 0 expected"),
        ({"experts": 2.0}, "experts: 2.0: a whole number above 0 expected"),
        ({"points": points([[1, 50]])}, "points.unit: 'B' is not tokens"),
        ({"points": points([[1, 5], [1, 6]], ("token", "us"))}, "points.values[1]: rising amounts expected"),
    ],
)
def test_bad_expert_curves_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    assert refused_change(tmp_path, "expert_curve", [CURVE | change]).startswith(f"expert_curve.0.{message}")


DENSE = {"part": "before", "phase": "decode", "d_model": 8, "parameters": 9, "format": "fp16", "context": 32}
DENSE |= {"points": points([[1, 50]], ("token", "us"))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "after"}, "part: 'after': one of before, head, router expected"),
        ({"phase": "prefill"}, "phase: 'prefill': one of decode, encode expected"),
        ({"d_model": 0}, "d_model: 0: a whole number above 0 expected"),
        ({"parameters": 1.0}, "parameters: 1.0: a whole number above 0 expected"),
        ({"parameters": True}, "parameters: True: a whole number above 0 expected"),
        ({"format": "int8"}, "format: 'int8': one of bf16, fp16, fp32 expected"),
        ({"context": -1}, "context: -1: a whole number, 0 or more, expected"),
        ({"context": 0}, "context: 0: more than 0 of what is before a router expected"),
        ({"part": "head"}, "context: 32: 0 of a head expected"),
        ({"contex": 1}, "contex: unknown field: did you mean 'context'?"),
        ({"points": points([[1, 50]])}, "points.unit: 'B' is not tokens"),
        ({"part": "router"}, "context: 32: 0 of a router expected"),
        ({"points": points([[2, 5], [2, 6]], ("token", "us"))}, "points.values[1]: rising amounts expected"),
    ],
)
def test_bad_dense_curves_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    assert refused_change(tmp_path, "dense_curve", [DENSE | change]).startswith(f"dense_curve.0.{message}")
    assert refused_change(tmp_path, "dense_curve", [{}]) == (
        "dense_curve.0: 7 fields missing: part, phase, d_model, parameters, format, context, points"
    )


@pytest.mark.parametrize(("name", "curve"), [("expert_curve", CURVE), ("dense_curve", DENSE)])
def test_a_curve_measured_twice_is_refused(tmp_path: Path, name: str, curve: dict[str, Any]) -> None:
    again = curve | {"points": points([[1, 60]], ("token", "us"))}
    assert (
        refused_change(tmp_path, name, [curve, again]) == f"{name}.1: a second curve of this kind: one of each expected"
    )
    assert refused_change(tmp_path, name, 3) == f"{name}: an array of tables, [[{name}]], expected"


def test_curves_machine_and_calibration_arrive(make_profile: Maker) -> None:
    calibration = {"median_abs_error": 0.01, "worst_abs_error": 0, "cells": 11, "fit_cells": 4, "met": True, "ref": "r"}
    machine = {"device": "card", "driver": "1.2", "clock": 1980, "share": 0.5}
    expert = CURVE | {"format": "int8"}
    profile = make_profile(
        {"calibration": calibration, "machine": machine, "dense_curve": [DENSE], "expert_curve": [expert]}
    )
    assert profile.calibration == Calibration(0.01, 0, 11, 4, True, "r")
    assert profile.machine == machine
    (dense,), (measured,) = profile.dense_curves, profile.expert_curves
    assert (dense.part, dense.phase, dense.context, dense.points.times_ns) == ("before", "decode", 32, (50_000,))
    assert measured.format == "int8"
    plain = make_profile()
    assert (plain.calibration, plain.machine, plain.dense_curves) == (None, {}, ())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("calibration", 3, "calibration: 3: a table expected"),
        ("calibration", {}, "calibration: 6 fields missing: median_abs_error, "),
        ("calibration.worst_abs_error", -0.1, "calibration.worst_abs_error: -0.1: 0 or more expected"),
        ("calibration.worst_abs_error", float("nan"), "calibration.worst_abs_error: nan: 0 or more expected"),
        ("calibration.worst_abs_error", "1", "calibration.worst_abs_error: '1': a number expected"),
        ("calibration.cells", 1.5, "calibration.cells: 1.5: a whole number expected"),
        ("calibration.met", 1, "calibration.met: 1: true or false expected"),
        ("calibration.by", "x", "calibration.by: unknown field"),
        ("machine", 3, "machine: 3: a table expected"),
        ("machine", {"clock": True}, "machine.clock: True: a text or a number expected"),
        ("machine", {"clocks": [1]}, "machine.clocks: [1]: a text or a number expected"),
    ],
)
def test_bad_facts_are_named(tmp_path: Path, name: str, value: object, message: str) -> None:
    table = profile_table()
    if name.startswith("calibration."):
        good = {"median_abs_error": 0.0, "worst_abs_error": 0.0, "cells": 1, "fit_cells": 1, "met": True, "ref": "r"}
        table = put(table, "calibration", good)
    assert refused(tmp_path, to_toml(put(table, name, value))).startswith(message)


@pytest.mark.parametrize("text", ["name = ", "[", 'name = "a"\nname = "b"', "\x00"])
def test_what_is_no_toml(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text).startswith("not a TOML file (")


def test_foreign_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"PAR1\xff\xfe")
    with pytest.raises(InputError, match="not a TOML file"):
        load_profile(str(tmp_path / "x.toml"))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a TOML file \(No such file or directory\)"):
        load_profile(str(tmp_path / "absent.toml"))
    with pytest.raises(InputError, match=r"rtx309: no such profile, nor a .toml file: did you mean 'rtx3090'\?"):
        load_profile("rtx309")


# The hash


def test_a_hash_does_not_see_layout_units_or_words(tmp_path: Path, profile: HardwareProfile) -> None:
    table = profile_table()
    table = put(table, "host_to_device.pinned.bandwidth", quantity(1000, "MB/s", ref="other words"))
    table = put(table, "nvme.latency", quantity(0.001, "ms"))
    table = put(table, "title", "Another title")
    shuffled = dict(reversed(table.items()))
    assert load_profile(str(write(tmp_path / "p.toml", shuffled, "# a comment\n\n"))).hash == profile.hash


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nvme.latency.value", 2),
        ("nvme.latency.source", "assumed"),
        ("name", "other"),
        ("nvme.held_out", points([[1, 1]])),
        ("expert_curve", [CURVE]),
        ("expert_curve", [CURVE | {"points": points([[1, 51]], ("token", "us"))}]),
        ("expert_curve", [CURVE | {"kernel": "fused"}]),
        ("expert_curve", [CURVE | {"experts": 2}]),
        ("host_to_device.pinned.busy", points([[1, 1]])),
        ("dequantise.int8.points", points([[1, 1]])),
        ("dense_curve", [DENSE]),
        ("dense_curve", [DENSE | {"context": 64}]),
        ("dense_curve", [DENSE | {"points": points([[1, 51]], ("token", "us"))}]),
        ("dense_curve", [DENSE | {"points": points([[1, 50]], ("token", "us"), "assumed")}]),
    ],
)
def test_a_hash_sees_every_number_and_source(make_profile: Maker, name: str, value: object) -> None:
    others = [{}, {"expert_curve": [CURVE | {"d_ff": 32}]}, {"dense_curve": [DENSE | {"phase": "encode"}]}]
    hashes = {make_profile(other).hash for other in others}
    assert make_profile({name: value}).hash not in hashes


def test_a_hash_does_not_see_order_facts_or_how_good_the_calibration_is(make_profile: Maker) -> None:
    two = [DENSE, DENSE | {"context": 64}]
    calibration = {"median_abs_error": 1, "worst_abs_error": 1, "cells": 1, "fit_cells": 1, "met": False, "ref": "r"}
    known = make_profile({"dense_curve": two}).hash
    assert make_profile({"dense_curve": two[::-1], "machine": {"a": 1}, "calibration": calibration}).hash == known


def test_profiles_without_dense_curves_keep_their_hash() -> None:
    """Results name it."""
    assert load_profile("a100-sxm4-80gb").hash == "16a83360ad682a2986fefb554ac717dde8b5e267f88ef6b723415782043d668d"


# Overrides


def test_an_override_is_assumed_and_changes_nothing_else(profile: HardwareProfile) -> None:
    before = copy.deepcopy(profile)
    changed = profile.with_overrides({"host_to_device.pinned.bandwidth": 5e10, "nvme.latency": 7.6})
    assert profile == before
    overridden = changed.quantities["host_to_device.pinned.bandwidth"]
    assert (overridden.value, overridden.unit) == (5e10, "B/s")
    assert (overridden.source, overridden.ref) == ("assumed", "set by the user")
    assert changed.ns("nvme.latency") == 8
    assert changed.assumed() == ("host_to_device.pinned.bandwidth", "nvme.latency")
    assert {name for name in profile.quantities if profile.quantities[name] != changed.quantities[name]} == {
        "host_to_device.pinned.bandwidth",
        "nvme.latency",
    }
    assert changed.hash != profile.hash
    assert profile.with_overrides({}) == profile


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("host_to_device.pined.bandwidth", 1.0, "did you mean 'host_to_device.pinned.bandwidth'?"),
        ("colour", 1.0, "colour: no such quantity: the nearest of 39 names are "),
        ("device.vram", 0.0, "device.vram: 0.0: a finite number above 0 expected, in B"),
        ("device.vram", -1.0, "device.vram: -1.0"),
        ("device.vram", float("nan"), "device.vram: nan"),
        ("gemm.fp16.efficiency", 1.5, "gemm.fp16.efficiency: 1.5: a share, at most 1, expected"),
        (f"{TILES}.rows", 128.0, f"{TILES}.rows: no such quantity"),
    ],
)
def test_bad_overrides_are_named(profile: HardwareProfile, name: str, value: float, message: str) -> None:
    with pytest.raises(InputError) as caught:
        profile.with_overrides({name: value})
    assert str(caught.value).startswith("profile hand: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_host_costs_out_of_whole_runs(profile: HardwareProfile) -> None:
    changed = profile.with_calibrated({"host.graph.issue": 12_345.6, "host.eager.begin": 0}, "least squares on 4 cells")
    issue = changed.quantities["host.graph.issue"]
    assert (issue.value, issue.unit, issue.source, issue.ref) == (12_346, "ns", "derived", "least squares on 4 cells")
    assert changed.ns("host.eager.begin") == 0 and "host.eager.begin" not in profile
    assert {n for n in changed.quantities if changed.quantities[n] != profile.quantities.get(n)} == {
        "host.graph.issue",
        "host.eager.begin",
    }
    assert profile.with_calibrated({}, "nothing") == profile
    contends = profile.with_calibrated({"link.contention": 1.0625}, "least squares").quantities["link.contention"]
    assert (contends.value, contends.unit, contends.source) == (1.0625, "1", "derived")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("host.graph.isue", 1, "host.graph.isue: not to be calibrated: did you mean 'host.graph.issue'?"),
        ("nvme.latency", 1, "nvme.latency: not to be calibrated: one of cpu.join, "),
        ("host.graph.issue", -1, "host.graph.issue: -1: a finite number, 0 or more, expected, in ns"),
        ("host.graph.issue", float("inf"), "host.graph.issue: inf: a finite number"),
        ("link.contention", -1, "link.contention: -1: a finite number, 0 or more, expected, in 1"),
    ],
)
def test_bad_host_costs_are_named(profile: HardwareProfile, name: str, value: float, message: str) -> None:
    with pytest.raises(InputError) as caught:
        profile.with_calibrated({name: value}, "r")
    assert str(caught.value).startswith(f"profile hand: {message}")


def test_plateaus_of_lines_and_points(make_profile: Maker) -> None:
    assert make_profile().plateau("nvme") == 1e9
    assert make_profile().with_plateau("nvme", 5e8)["nvme.bandwidth"] == 5e8
    curve = make_profile({"nvme.bandwidth": None, "nvme.points": points([[1000, 2000], [8000, 5000]])})
    assert curve.plateau("nvme") == 1.6e9
    slower = curve.with_plateau("nvme", 0.8e9)
    assert slower.plateau("nvme") == 0.8e9
    assert [slower.curve("nvme")(size) for size in (0, 1000, 8000)] == [1000, 3250, 10_000]
    assert slower.points["nvme.points"].source == "assumed"
    assert slower.hash != curve.hash


def test_evidence_of_some_names(make_profile: Maker) -> None:
    profile = make_profile(
        {
            "nvme.latency": quantity(1, "us", "assumed"),
            "allocation.latency": quantity(1, "us", "derived"),
            "device_copy.bandwidth": None,
            "device_copy.points": points([[1, 1]], source="published"),
        }
    )
    assert profile.evidence(("router.floor",)) == "measured"
    assert profile.evidence(profile.names_under("allocation")) == "fitted"
    assert profile.evidence(profile.names_under("device_copy")) == "published"
    assert profile.evidence(profile.quantities) == "assumed"
    assert profile.assumed() == ("nvme.latency",)
    assert profile.assumed(("router.floor",)) == () == profile.assumed(())

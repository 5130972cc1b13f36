"""Which error is to be expected, by what a profile rests on."""

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files
from typing import Any

import pytest

from specmoe.errors import InputError
from specmoe.hwprofiles import expected_error as accuracy
from specmoe.hwprofiles.catalogue import load_profile, load_shape, profile_names, shape_names
from specmoe.hwprofiles.expected_error import Accuracy, accuracies, expected_error
from specmoe.hwprofiles.kernels import Style, shares_of
from specmoe.hwprofiles.profile import HardwareProfile

H100, SWITCH = load_profile("h100-sxm5-80gb"), load_shape("switch-base-128")
MEASURED = dataclasses.replace(H100, calibration=None)
assert H100.calibration is not None
WORST = H100.calibration.worst_abs_error


def made(profile: str, constants: str, p95: float, worst: float = 0.5, cells: int = 10) -> Accuracy:
    return Accuracy(profile, constants, cells, constants == "own", 0.001, p95, worst, 1.0)


KNOWN = [
    made("h100-sxm5-80gb", "own", 0.02, WORST, 73),
    made("h100-sxm5-80gb", "microbenchmarks", 0.03, cells=80),
    made("h200", "microbenchmarks", 0.05, cells=89),
    made("h200", "carried from h100-sxm5-80gb", 0.01, 0.06),
    made("slow-on-h100", "emulated slow", 0.02, 0.11),
    made("h200", "own", 0.9, 0.9),
]


def test_a_shipped_calibrated_profile_has_the_error_of_its_held_out_cells() -> None:
    found = expected_error(H100, SWITCH, "fp32", KNOWN)
    assert (found.error, found.validated) == (0.02, True)
    assert found.basis == "95% of 73 held-out cells replayed on h100-sxm5-80gb"


@pytest.mark.parametrize(("elsewhere", "error"), [(0.04, 0.04), (0.015, 0.02)])
def test_another_machine_of_the_kind_counts_where_it_is_worse(elsewhere: float, error: float) -> None:
    rows = [*KNOWN, made("h100-two", "h100-sxm5-80gb as shipped", elsewhere, cells=5)]
    found = expected_error(H100, SWITCH, "fp32", rows)
    assert (found.error, found.validated) == (error, True)
    assert "another machine of this kind; 2.0% where it was calibrated" in found.basis


def test_where_no_other_machine_of_the_kind_was_seen_one_of_another_kind_counts() -> None:
    rows = [*KNOWN, made("a-two", "a100 as shipped", 0.04, cells=5), made("b-two", "b200 as shipped", 0.03)]
    found = expected_error(H100, SWITCH, "fp32", rows)
    assert (found.error, found.validated) == (0.04, True)
    assert found.basis == (
        "95% of 5 cells on another machine of the kind of a100, as of no other of this; 2.0% where it was calibrated"
    )


def test_ones_own_calibration_counts_by_its_own_worst_cell() -> None:
    assert H100.calibration is not None
    mine = dataclasses.replace(H100, calibration=dataclasses.replace(H100.calibration, worst_abs_error=0.07, cells=9))
    found = expected_error(mine, SWITCH, "fp32", KNOWN)  # it bears the shipped one's name, and is not it
    assert (found.error, found.validated) == (0.07, True)
    assert "worst of 9 held-out cells" in found.basis


def test_a_measured_profile_has_the_worst_error_of_those_measured_likewise() -> None:
    found = expected_error(MEASURED, SWITCH, "fp32", KNOWN)
    assert (found.error, found.validated) == (0.05, True)
    assert "89 cells of h200" in found.basis


@pytest.mark.parametrize("name", [name for name in profile_names() if load_profile(name).assumed()])
def test_a_profile_with_assumed_numbers_is_not_validated(name: str) -> None:
    found = expected_error(load_profile(name), SWITCH, "fp32", KNOWN)
    assert (found.error, found.validated) == (0.11, False)
    assert found.basis.startswith(f"not validated, as {name} has published or assumed numbers")
    assert found.basis.endswith("11.0% was seen with slow-on-h100, constants emulated slow")


def overridden() -> list[HardwareProfile]:
    return [H100.with_overrides({"device.vram": 1e9}), H100.with_plateau("host_to_device.pinned", 1e10)]


@pytest.mark.parametrize("profile", overridden(), ids=["a number", "a curve"])
def test_an_overridden_profile_is_not_validated(profile: HardwareProfile) -> None:
    assert not expected_error(profile, SWITCH, "fp32", KNOWN).validated


def test_a_model_whose_kernels_were_not_measured_is_not_validated() -> None:
    found = expected_error(H100, load_shape("olmoe-1b-7b"), "bf16", KNOWN)
    assert (found.error, found.validated) == (0.11, False)
    assert "no kernels of olmoe-1b-7b were measured" in found.basis


def test_rates_are_what_the_device_would_give() -> None:
    """A simulated step 10 % too long is a rate a tenth too low: 100 told, 110 real."""
    assert accuracy.Expected(0.1, True, "").rates(100) == pytest.approx((90, 110))


def test_the_packaged_comparisons_cover_every_calibrated_profile() -> None:
    own = {row.profile: row for row in accuracies() if row.constants == "own" and row.held_out}
    for name in profile_names():
        calibration = load_profile(name).calibration
        if calibration is not None:
            assert own[name].worst_abs_error == pytest.approx(calibration.worst_abs_error, abs=accuracy.SAME_ERROR)
            assert own[name].cells == calibration.cells
            assert expected_error(load_profile(name), SWITCH, "fp32").validated


def test_every_packaged_number_is_an_error() -> None:
    for row in accuracies():
        assert 0 <= row.median_abs_error <= row.p95_abs_error <= row.worst_abs_error < 1
        assert row.cells > 0
    assert {row.constants for row in accuracies()} >= {"own", "microbenchmarks"}


@pytest.mark.parametrize("content", ["", "{}", '{"rows": [{"profile": "x"}]}', '{"rows": 3}'])
def test_a_damaged_file_is_told_in_one_line(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Folder:
        def __truediv__(self, name: str) -> Folder:
            return self

        def read_text(self, encoding: str) -> str:
            return content

        def __str__(self) -> str:
            return "accuracy.json"

    monkeypatch.setattr(accuracy, "files", lambda package: Folder())
    accuracies.cache_clear()
    try:
        with pytest.raises(InputError, match=r"^accuracy\.json: rows of profile, constants") as caught:
            accuracies()
        assert "\n" not in str(caught.value)
    finally:
        accuracies.cache_clear()


def test_the_file_is_readable_json_with_nothing_else_in_it() -> None:
    raw: dict[str, Any] = json.loads((files("specmoe.hwprofiles") / "data" / "accuracy.json").read_text())
    assert list(raw) == ["rows"]
    assert all(set(row) | {"style"} == set(Accuracy._fields) for row in raw["rows"])


# Styles

FUSED, EXPAND = Style("fused", "separate"), Style("expand", "separate")
GROUPED = Style("fused", "grouped")


def test_old_rows_are_of_expanded_and_separate_experts() -> None:
    row = made("h100-sxm5-80gb", "own", 0.02)
    assert row.covers("int4", EXPAND) and not row.covers("int4", FUSED)
    assert row.covers("bf16", FUSED) and row.covers("bf16", EXPAND) and not row.covers("bf16", GROUPED)
    assert row._replace(style="fused/grouped").covers("int4", GROUPED)


def test_a_style_that_was_not_replayed_is_not_validated() -> None:
    assert expected_error(H100, SWITCH, "int4", KNOWN, EXPAND).validated
    for style in (FUSED, GROUPED):
        assert not expected_error(H100, SWITCH, "int4", KNOWN, style).validated


def fused(profile: HardwareProfile) -> HardwareProfile:
    """A profile with the times of a fused kernel."""
    points = dataclasses.replace(profile.expert_curves[0].points, amounts=(1, 2), times_ns=(20_000, 21_000))
    curve = dataclasses.replace(profile.expert_curves[0], format="int4", kernel="fused", points=points)
    return dataclasses.replace(profile, expert_curves=(*profile.expert_curves, curve))


def test_a_replayed_style_is_validated_and_has_its_own_errors() -> None:
    found = expected_error(fused(H100), SWITCH, "int4", KNOWN, FUSED)
    assert not found.validated and "style fused/separate was not replayed in int4" in found.basis
    rows = [*KNOWN, *(row._replace(style="fused/separate", p95_abs_error=0.033) for row in KNOWN)]
    assert expected_error(fused(H100), SWITCH, "int4", rows, FUSED)[:2] == (0.033, True)
    assert expected_error(fused(H100), SWITCH, "int4", rows, EXPAND)[:2] == (0.02, True)


def test_derived_kernels_are_as_uncertain_as_their_shares() -> None:
    shares = shares_of("int4")
    found = expected_error(load_profile("rtx4090"), load_shape("mixtral-8x7b"), "q4_k", KNOWN, GROUPED)
    assert not found.validated
    assert found.error >= 1 - shares.memory.value / shares.memory.high - 0.01
    low, high = found.rates(10)
    assert 0 <= low < 10 < high


@pytest.mark.parametrize("name", [name for name in shape_names() if name not in ("switch-base-128", "mixtral-8x7b")])
def test_no_unmeasured_shape_is_validated(name: str) -> None:
    shape = load_shape(name)
    for style in (EXPAND, FUSED, GROUPED):
        for held in ("bf16", "int4"):
            found = expected_error(H100, shape, held, style=style)  # type: ignore[arg-type]
            experts = any((c.d_model, c.d_ff) == (shape.d_model, shape.experts.d_ff) for c in H100.expert_curves)
            dense = any(c.parameters == shape.dense_parameters("decode") for c in H100.dense_curves)
            assert not found.validated or (experts and dense)


def test_dense_weights_of_another_format_are_not_validated() -> None:
    assert expected_error(H100, SWITCH, "fp16", KNOWN, dense_format="fp16").validated
    found = expected_error(H100, SWITCH, "fp16", KNOWN, dense_format="q8_0")
    assert not found.validated and "no dense parts of switch-base-128 were measured" in found.basis


def test_experts_on_the_cpu_have_at_least_the_error_of_their_replays() -> None:
    host = load_profile("h100-sxm5-80gb")
    alone = expected_error(host, SWITCH, "fp32", KNOWN, on_cpu=True)
    fitted = host.with_calibrated({"cpu.join": 190_000}, "made up")
    known = expected_error(fitted, SWITCH, "fp32", KNOWN, on_cpu=True)
    assert expected_error(host, SWITCH, "fp32", KNOWN).error < 0.1 < known.error < 0.2 < alone.error < 0.3
    assert alone.basis == "95% of 110 cells of h200-sxm-141gb with experts on the CPU"
    worse = [made("h100-sxm5-80gb", "own", 0.7, WORST)]
    assert expected_error(host, SWITCH, "fp32", worse, on_cpu=True) == expected_error(host, SWITCH, "fp32", worse)

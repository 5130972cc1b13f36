"""What must hold for every profile and every shape: each `check_*` function is run on all that are shipped."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from specmoe.files import read_toml
from specmoe.hwprofiles import Costs, HardwareProfile, ModelShape, Move, Phase, Source
from specmoe.hwprofiles.catalogue import SUFFIX
from specmoe.hwprofiles.quantity import COPIES, EVIDENCE, HOST_SETS
from specmoe.hwprofiles.shape import FORMATS

MOVES: tuple[Move, ...] = get_args(Move)
PHASES: tuple[Phase, ...] = get_args(Phase)
SIZES = [0, 1, 2**10, 2**20, 3 * 2**20, 2**25, 2**30]
TOKENS = [0, 1, 2, 7, 64, 128, 129, 4096]
WORKPLACE = ("/work", "/tmp", "/root", "/home", "localhost")

FACTS = (".machine", ".calibration")  # tables of plain facts, not of numbers that cost
CURVES = (".expert_curve", ".dense_curve", ".cpu_curve")  # which say what they are of

Tables = Iterator[tuple[str, dict[str, Any]]]


def tables_with_numbers(table: dict[str, Any], name: str = "") -> Tables:
    """Innermost tables that hold a number or a list of numbers."""
    if "value" in table or "values" in table:
        yield name, table
        return
    for key, part in table.items():
        if f"{name}.{key}" in FACTS or (name in CURVES and key != "points"):
            continue
        assert isinstance(part, dict | str | list), f"{name}.{key} is a bare number"
        for inner in part if isinstance(part, list) else [part]:
            if isinstance(inner, dict):
                yield from tables_with_numbers(inner, f"{name}.{key}")


# Files


def check_file_no_number_lacks_unit_source_and_ref(path: Path) -> None:
    found = dict(tables_with_numbers(read_toml(path)))
    assert len(found) > 15
    for name, table in found.items():
        assert table["unit"], name
        assert table["source"] in get_args(Source), name
        assert len(table["ref"]) >= 5, name


def check_file_gaps_are_said(path: Path) -> None:
    for name, table in tables_with_numbers(read_toml(path)):
        if table["source"] == "assumed":
            assert table["ref"].startswith("not measured"), f"{name}: {table['ref']}"


def check_file_names_no_workplace(path: Path) -> None:
    text = path.read_text()
    assert not [word for word in WORKPLACE if word in text]


def check_file_is_plain_toml_of_its_name(path: Path) -> None:
    assert path.suffix == SUFFIX
    assert tomllib.loads(path.read_text())["name"] == path.stem


# Profiles


def check_profile_copies_never_shrink(profile: HardwareProfile) -> None:
    for copy in COPIES:
        times = [profile.curve(copy)(size) for size in SIZES]
        assert all(less <= more for less, more in pairwise(times)), copy
        assert all(isinstance(time, int) for time in times)


def check_profile_is_plausible(profile: HardwareProfile) -> None:
    """Orders of magnitude: a slipped unit shows."""
    assert 2**33 <= profile["device.vram"] <= 2**38
    assert 1e11 < profile["device.memory_bandwidth"] < 1e13
    for kind in ("fp32", "fp16", "bf16"):
        assert 5e12 < profile[f"gemm.{kind}.rate"] < 2e15
    for copy in COPIES:
        assert 1e3 <= profile.curve(copy)(0) < 1e6, copy
        most = 1e14 if copy == "allocation" else 3e12  # which moves nothing
        assert 1e9 < 2**30 * 1e9 / profile.curve(copy)(2**30) < most, copy
    for name, quantity in profile.quantities.items():
        assert quantity.unit != "ns" or 0 <= quantity.value <= 1e7, name


def check_profile_link_is_no_faster_than_its_lanes(profile: HardwareProfile) -> None:
    per_lane = 1e9 * 2 ** (profile["link.generation"] - 3) * 128 / 130
    for copy in ("host_to_device.pinned", "host_to_device.pageable", "device_to_host"):
        assert 2**30 * 1e9 / profile.curve(copy)(2**30) < per_lane * profile["link.lanes"], copy


def check_profile_says_what_is_weak(profile: HardwareProfile) -> None:
    assert len(profile.assumed()) < len(profile.quantities)
    assert (profile.evidence(profile.quantities) == "assumed") == bool(profile.assumed())
    for name in profile.quantities:
        changed = profile.with_overrides({name: profile[name]})
        assert name in changed.assumed()


# A shape on a profile


def check_costs_are_whole_and_never_shrink(profile: HardwareProfile, shape: ModelShape) -> None:
    """Measured kernels may be faster with more tokens, for libraries then choose others; but not with many more."""
    costs = Costs(profile, shape, shape.format)
    rows = [[costs.expert_ns(tokens), costs.router_ns(tokens), costs.shared_ns(tokens)] for tokens in TOKENS]
    for phase in PHASES:
        rows = [
            [*row, costs.dense_ns(phase, tokens, 100), costs.head_ns(phase, tokens)]
            for row, tokens in zip(rows, TOKENS, strict=True)
        ]
    measured = bool(profile.expert_curves or profile.dense_curves)
    for column in zip(*rows, strict=True):
        assert all(isinstance(time, int) for time in column)
        assert measured or all(less <= more for less, more in pairwise(column))
        assert column[1] <= column[-1]
    assert rows[0][:3] == [0, 0, 0]


def check_costs_every_format_and_tier_loads(profile: HardwareProfile, shape: ModelShape) -> None:
    costs = Costs(profile, shape, shape.format, moves=MOVES, also_held=FORMATS)
    for tier in ("host-pinned", "host-pageable", "nvme"):
        times = [costs.load_ns(tier, held) for held in ("int4", "int8", "fp16", "fp32")]
        assert times == sorted(times) and times[0] > 0
    assert costs.dequantise_ns("int4") > 0 == costs.dequantise_ns("fp16")


def check_costs_evidence_is_that_of_what_is_used(profile: HardwareProfile, shape: ModelShape) -> None:
    for host_set in HOST_SETS:
        costs = Costs(profile, shape, shape.format, host_set, MOVES)  # type: ignore[arg-type]
        assert EVIDENCE.index(costs.evidence) >= EVIDENCE.index(profile.evidence(costs.uses))
        assert (costs.evidence == "assumed") == bool(costs.assumed)
        assert set(costs.uses) <= set(profile.quantities) | set(profile.points)


# Shapes


def check_shape_has_sparse_layers_in_every_phase(shape: ModelShape) -> None:
    for phase in PHASES:
        stack = shape.stack(phase)
        assert 0 < stack.moe_layers <= stack.layers
        assert sum(stack.dense_before(layer) + 1 for layer in range(stack.moe_layers)) == stack.layers


def check_shape_names_its_source(shape: ModelShape) -> None:
    assert "config.json" in shape.source or "Switch Transformers" in shape.source


def check_shape_is_mostly_experts(shape: ModelShape) -> None:
    assert shape.total_parameters == shape.resident_parameters + shape.routed_experts * shape.expert_parameters
    assert shape.resident_parameters < shape.total_parameters / 2


def check_shape_bytes_follow_bits(shape: ModelShape) -> None:
    sizes = [shape.expert_bytes(held) for held in ("int4", "int8", "fp16", "fp32")]
    assert sizes == sorted(sizes)
    assert shape.expert_bytes() == shape.expert_bytes(shape.format)
    assert shape.expert_bytes("fp32") == 4 * shape.expert_parameters

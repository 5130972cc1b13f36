"""Machines made of a device and a host."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hw_tables import points, profile_table, put, quantity, write
from typer.testing import CliRunner

import specmoe
from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles import HardwareProfile, load_profile, profile_names
from specmoe.hwprofiles.catalogue import host_names, load_host, machine_name
from specmoe.hwprofiles.profile_file import read_host, read_profile
from specmoe.hwprofiles.quantity import LINKS, QUANTITIES, owner_of
from specmoe.sweep_table import load_sweep

TRACE = "switch-mini-128/decode/test"
Table = dict[str, Any]
DEVICE_GROUPS = ("device", "device_copy", "gemm", "dense", "router", "dequantise")
HOST_GROUPS = ("host_to_device", "device_to_host", "allocation", "nvme", "host")


def device_table(**changes: Any) -> Table:
    whole = profile_table()
    table = {"name": "card", "title": "A card", "usual_host": "desk", "link": whole["link"]}
    return table | {name: whole[name] for name in DEVICE_GROUPS} | changes


def host_table(**changes: Any) -> Table:
    whole = profile_table()
    table = {"name": "desk", "title": "A desk", "link": whole["link"]}
    return table | {name: whole[name] for name in HOST_GROUPS} | changes


@pytest.fixture
def pair(tmp_path: Path) -> Callable[[Table, Table], HardwareProfile]:
    def made(device: Table, host: Table) -> HardwareProfile:
        card, desk = write(tmp_path / "card.toml", device), write(tmp_path / "desk.toml", host)
        return load_profile(machine_name(str(card), str(desk)))

    return made


def test_two_halves_of_a_machine_are_the_machine(
    pair: Callable[[Table, Table], HardwareProfile], make_profile: Callable[..., HardwareProfile]
) -> None:
    made = pair(device_table(), host_table())
    assert made.quantities == make_profile().quantities
    assert (made.name, made.host, made.usual_host, made.note) == ("card", "desk", None, None)


def test_every_quantity_has_an_owner() -> None:
    owners = {name: owner_of(name) for name in QUANTITIES}
    assert {name for name in owners if owners[name] == "either"} == {
        *("link.generation", "link.lanes", "link.contention"),
        *(f"{copy}.{part}" for copy in LINKS for part in ("latency", "bandwidth")),
    }
    assert {owner_of(f"cpu.{name}") for name in ("threads", "anything.at.all")} == {"host"}
    assert owners["link.interference"] == owners["device_copy.latency"] == "device"
    assert owners["host_to_device.pageable.bandwidth"] == owners["allocation.latency"] == "host"


@pytest.mark.parametrize(("own", "slot", "rate"), [(4, 2, 2e9), (2, 4, 2e9), (3, 3, 3e9)])
def test_the_link_is_that_of_the_slower_part(
    own: int, slot: int, rate: float, pair: Callable[[Table, Table], HardwareProfile]
) -> None:
    def link(rate: int, latency: int) -> Table:
        return {"latency": quantity(latency, "us"), "bandwidth": quantity(rate, "GB/s")}

    device = device_table(host_to_device={"pinned": link(own, 1)}, link={"generation": quantity(4, "1")})
    device["link"]["lanes"] = quantity(8, "1")
    host = put(host_table(), "host_to_device.pinned", link(slot, 2))
    made = pair(device, put(host, "link.generation", quantity(3, "1")))
    assert made["host_to_device.pinned.bandwidth"] == rate
    assert made.ns("host_to_device.pinned.latency") == (1000 if own <= slot else 2000), "never a mixture"
    assert (made["link.generation"], made["link.lanes"]) == (3, 8)


def test_a_measured_curve_of_the_slower_part_is_taken_whole(pair: Callable[[Table, Table], HardwareProfile]) -> None:
    curve = {"latency": quantity(1, "us"), "points": points([[1000, 2000], [10_000, 30_000]])}
    made = pair(
        device_table(host_to_device={"pinned": {"latency": quantity(5, "us"), "bandwidth": quantity(9, "GB/s")}}),
        put(host_table(), "host_to_device.pinned", curve),
    )
    assert made.points["host_to_device.pinned.points"].times_ns == (2000, 30_000)
    assert "host_to_device.pinned.bandwidth" not in made


def test_pageable_copies_are_no_faster_than_the_link(pair: Callable[[Table, Table], HardwareProfile]) -> None:
    made = pair(device_table(), put(host_table(), "host_to_device.pageable.bandwidth", quantity(7, "GB/s")))
    assert made["host_to_device.pageable.bandwidth"] == made["host_to_device.pinned.bandwidth"] == 1e9
    assert made.quantities["host_to_device.pageable.bandwidth"].source == "derived"


# Measured machines


@pytest.mark.parametrize(
    ("name", "host", "known"),
    [
        ("a100-sxm4-80gb", "server-pregated-moe", "16a83360ad682a2986fefb554ac717dde8b5e267f88ef6b723415782043d668d"),
        ("h100-sxm5-80gb", "server-h100", "e59f4a207b42e69e0b830a5d9e413d5e6b0281e98628f8bc944bf598a2590035"),
        ("h200-sxm-141gb", "server-h200", "483f8203a29d1cef19758984fb7ff0dd037e15e15d8a13a36d1a34f2449650e0"),
    ],
)
def test_a_measured_machine_is_what_it_was_as_one_file(name: str, host: str, known: str) -> None:
    profile = load_profile(name)
    assert (profile.hash, profile.host, profile.name) == (known, host, name)


def test_a_fitted_device_in_another_host_is_no_longer_fitted() -> None:
    moved, own = load_profile("h100-sxm5-80gb+server-h200"), load_profile("h100-sxm5-80gb")
    assert own.calibration and moved.calibration is None
    assert moved.name == "h100-sxm5-80gb+server-h200"
    assert moved.quantities["link.contention"].source == moved.quantities["host.graph.launch"].source == "assumed"
    assert moved.quantities["host.eager.launch"].source == "derived", "measured, but with the other device"
    assert moved.quantities["gemm.fp16.rate"] == own.quantities["gemm.fp16.rate"]
    assert moved.quantities["host.eager.launch"].value == load_profile("h200-sxm-141gb")["host.eager.launch"]


def test_a_result_says_that_a_fit_was_left_behind() -> None:
    result = specmoe.simulate(TRACE, machine="h100-sxm5-80gb", host="server-h200", slots=64, steps=4)
    manifest = result.runs["on-demand-lru"].result.manifest
    assert (manifest.profile, manifest.host) == ("h100-sxm5-80gb+server-h200", "server-h200")
    assert manifest.evidence == "assumed"
    assert any("its fitted numbers are of another host" in line for line in manifest.warnings)
    own = specmoe.simulate(TRACE, machine="h100-sxm5-80gb", slots=64, steps=4)
    manifest = own.runs["on-demand-lru"].result.manifest
    assert (manifest.host, manifest.evidence) == ("server-h100", "fitted")
    assert not any("another host" in line for line in manifest.warnings)


# Names and files


def test_every_device_stands_in_every_host() -> None:
    for device in profile_names():
        for host in host_names():
            made = load_profile(machine_name(device, host))
            assert made.host == host
            assert made.plateau("host_to_device.pinned") <= max(
                load_profile(device).plateau("host_to_device.pinned"), 60e9
            )


def test_hosts_have_complete_cpus_or_none() -> None:
    generic = [load_host(name) for name in host_names() if load_host(name).measured_with is None]
    assert all(host.quantities["cpu.threads"].value >= 1 for host in generic)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("rtx3090+laptop-x9", "laptop-x9: no such host, nor a .toml file: did you mean 'laptop-x8'?"),
        ("rtx3091+laptop-x8", "rtx3091: no such profile, nor a .toml file: did you mean 'rtx3090'?"),
    ],
)
def test_an_unknown_part_is_told_with_the_nearest(name: str, complaint: str) -> None:
    with pytest.raises(InputError) as error:
        load_profile(name)
    assert str(error.value) == complaint


def test_a_file_of_one_part_has_no_field_of_the_other(tmp_path: Path) -> None:
    wrong = {
        "host.graph": device_table(host=profile_table()["host"]),
        "cpu_curve": device_table(cpu_curve=[]),
        "device.vram": host_table(device=profile_table()["device"]),
        "expert_curve": host_table(expert_curve=[]),
        "calibration": host_table(calibration={}),
    }
    for name, table in wrong.items():
        path = write(tmp_path / "wrong.toml", table)
        with pytest.raises(InputError, match=rf"{name}.*field in a .*'s file: it belongs in the .*'s own") as error:
            (read_profile if "usual_host" in table else read_host)(path)
        assert "\n" not in str(error.value)


def test_a_host_is_no_profile(tmp_path: Path) -> None:
    path = write(tmp_path / "desk.toml", host_table())
    with pytest.raises(InputError, match=r"\d+ fields missing|a host, not a profile: give it with --host"):
        load_profile(str(path))


def test_all_that_a_part_lacks_is_named_at_once(tmp_path: Path) -> None:
    table = host_table()
    del table["nvme"], table["link"]["lanes"]
    with pytest.raises(InputError, match=r"3 fields missing: link.lanes, nvme.latency, nvme.bandwidth"):
        read_host(write(tmp_path / "desk.toml", table))


# Commands


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_hosts_are_listed_and_shown() -> None:
    assert [row["name"] for row in run("profile", "hosts")] == list(host_names()) == list(specmoe.hosts().name)
    (shown,) = run("profile", "show", "rtx3090", "--host", "laptop-x8")
    assert (shown["name"], shown["host"]) == ("rtx3090+laptop-x8", "laptop-x8")
    assert shown["quantities"]["link.lanes"]["value"] == 8


def test_every_command_that_takes_a_machine_takes_a_host(tmp_path: Path) -> None:
    few = ("--policy", "on-demand-lru", "--steps", "4")
    (simulated,) = run("simulate", TRACE, *few, "--slots", "64", "--host", "laptop-x8")
    assert simulated["profile"] == "rtx3090+laptop-x8"
    sweep = ("--slots", "64", "--profile", "rtx3090,rtx4090", "--host", "laptop-x8,desktop-pcie3", "--workers", "1")
    run("sweep", "--trace", TRACE, *few, *sweep, "--out", str(tmp_path / "s"))
    machines = {f"{card}+{host}" for card in ("rtx3090", "rtx4090") for host in ("laptop-x8", "desktop-pcie3")}
    assert set(load_sweep(tmp_path / "s").rows.profile) == machines
    rows = tmp_path / "rows.csv"
    rows.write_text("gpu,model,quant,runtime,policy,batch,context\nRTX 3090,gpt-oss-20b,mxfp4,llama.cpp,resident,1,0\n")
    (row,) = run("reproduce", "public", "--rows", str(rows), "--host", "laptop-x8")
    assert row["profile"] == "rtx3090+laptop-x8"


def test_a_slower_slot_makes_a_slower_machine() -> None:
    def ms(host: str | None) -> float:
        return float(specmoe.simulate(TRACE, host=host, slots=64, steps=64).table.latency_mean_ns.iloc[0])

    assert ms(None) < ms("desktop-pcie3") < 2.5 * ms(None)


def test_desktops_share_one_rule_of_link_and_cpu_together() -> None:
    """What seven desktops read over the link, on the CPU and with both at once, GB/s, as others measured."""
    names = [name for name in host_names() if name.startswith(("desktop", "laptop"))]
    parts = [load_host(name).quantities for name in names]
    ((slows_copy, slowed_by_copy),) = {(one["cpu.slows_copy"].value, one["cpu.slowed_by_copy"].value) for one in parts}
    measured = ((53.2, 71.6, 77.7), (25.2, 33.5, 36.5), (24.5, 43.5, 42), (49, 60, 61), (28, 71, 70), (26, 40, 39))
    for link, cpu, both in (*measured, (49, 51, 63)):
        assert link / (1 + slows_copy) + cpu / (1 + slowed_by_copy) == pytest.approx(both, rel=0.11)


def test_an_unknown_host_is_one_line() -> None:
    result = CliRunner().invoke(app, ["simulate", TRACE, "--policy", "lookahead", "--host", "graph"])
    assert result.exit_code == 1
    assert "graph: no such host, nor a .toml file" in result.output

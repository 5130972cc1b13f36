"""Experts on the CPU: the section of a profile, rates by threads, and times of experts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hw_tables import points, profile_table, put, quantity, write

from specmoe.errors import InputError
from specmoe.hwprofiles import HardwareProfile, load_profile
from specmoe.hwprofiles.cpu import CpuExperts
from specmoe.hwprofiles.kernels import Size
from specmoe.hwprofiles.profile_file import to_toml

Maker = Callable[..., HardwareProfile]
SIZE = Size(8, 16, False)  # 256 weights, 512 bytes in bf16
CPU: dict[str, Any] = {
    "cpu.threads": quantity(8, "1"),
    "cpu.start": quantity(3, "us"),
    "cpu.join": quantity(4, "us"),
    "cpu.read.bandwidth": quantity(1, "GB/s"),
}
RATES: dict[str, Any] = {
    "cpu.bf16.rate": quantity(0.5, "GB/s"),
    "cpu.bf16.arithmetic": quantity(1, "GFLOP/s"),
    "cpu.call": quantity(10, "ns"),
    "cpu.slowed_by_copy": quantity(0.4, "1", "published"),
    "cpu.slows_copy": quantity(1.1, "1"),
}
CURVE = {"d_model": 8, "d_ff": 16, "gated": False, "format": "bf16", "threads": 4}


def curve(values: list[list[int]], **changes: Any) -> dict[str, Any]:
    return {**CURVE, **changes, "points": points(values, ("token", "ns"))}


def test_few_tokens_take_the_bytes_at_the_slower_of_memory_and_kernel(make_profile: Maker) -> None:
    experts = CpuExperts(make_profile(CPU | RATES), SIZE, "bf16")
    assert experts.expert_ns(1) == 10 + 1024  # 512 bytes at 0.5 GB/s
    faster = CPU | RATES | {"cpu.bf16.rate": quantity(4, "GB/s"), "cpu.bf16.arithmetic": quantity(2, "GFLOP/s")}
    assert CpuExperts(make_profile(faster), SIZE, "bf16").expert_ns(1) == 10 + 512  # at 1 GB/s


def test_many_tokens_take_the_operations(make_profile: Maker) -> None:
    assert CpuExperts(make_profile(CPU | RATES), SIZE, "bf16").expert_ns(7) == 10 + 2 * 256 * 7


def test_no_token_takes_no_time(make_profile: Maker) -> None:
    assert CpuExperts(make_profile(CPU | RATES), SIZE, "bf16").expert_ns(0) == 0


def test_rates_by_threads_are_interpolated_from_no_thread_on(make_profile: Maker) -> None:
    by_threads = points([[2, 2], [4, 1]], ("1", "s"))  # 0.5 and 1 GB/s
    changes = CPU | {"cpu.read.bandwidth": None, "cpu.read.by_threads": by_threads}
    del changes["cpu.read.bandwidth"]
    known = make_profile(changes)
    times = {threads: CpuExperts(known, SIZE, "bf16", threads).expert_ns(1) for threads in (1, 2, 3, 4, 8)}
    assert times == {1: 2048, 2: 1024, 3: 683, 4: 512, 8: 512}


def test_arithmetic_is_proportional_to_threads(make_profile: Maker) -> None:
    by_threads = {f"cpu.{kind}.by_threads": points([[8, 1]], ("1", "s")) for kind in ("read", "bf16")}
    changes = {name: value for name, value in (CPU | RATES).items() if "bandwidth" not in name and ".rate" not in name}
    known = make_profile(changes | by_threads)
    assert CpuExperts(known, SIZE, "bf16", 2).expert_ns(50) == 10 + 4 * 2 * 256 * 50


def test_a_measured_curve_decides_for_its_size_and_format(make_profile: Maker) -> None:
    known = make_profile(CPU | RATES | {"cpu_curve": [curve([[1, 100], [3, 300]]), curve([[1, 50]], threads=8)]})
    assert [CpuExperts(known, SIZE, "bf16", 8).expert_ns(tokens) for tokens in (1, 9)] == [50, 50]
    assert CpuExperts(known, Size(8, 16, True), "bf16").expert_ns(1) == 10 + 1536  # of another size: the roofline


def test_curves_of_other_threads_are_interpolated_by_rate(make_profile: Maker) -> None:
    by_threads = {"cpu.read.by_threads": points([[8, 1]], ("1", "s"))}
    changes = {name: value for name, value in CPU.items() if "bandwidth" not in name} | by_threads
    known = make_profile(changes | {"cpu_curve": [curve([[1, 100], [3, 300]]), curve([[1, 50]], threads=8)]})
    assert CpuExperts(known, SIZE, "bf16", 4).expert_ns(2) == 200
    assert CpuExperts(known, SIZE, "bf16", 6).expert_ns(1) == round(1 / ((1 / 100 + 1 / 50) / 2))
    assert CpuExperts(known, SIZE, "bf16", 2).expert_ns(1) == 200


def test_the_weakest_number_decides_the_evidence(make_profile: Maker) -> None:
    assert CpuExperts(make_profile(CPU | RATES), SIZE, "bf16").evidence == "published"
    assert CpuExperts(make_profile(CPU | RATES), SIZE, "q4_k").evidence == "extrapolated"


def test_kernels_that_nobody_measured_say_so(make_profile: Maker) -> None:
    experts = CpuExperts(make_profile(CPU), SIZE, "q4_k")
    assert experts.expert_ns(1) == 144  # the memory's rate
    assert experts.warnings == (
        "hand: cpu.q4_k: no kernel was measured: it reads at the memory's rate",
        "hand: cpu.q4_k.arithmetic: not measured: taken as 0 time",
        "hand: cpu.slowed_by_copy: not measured: taken as 0",
        "hand: cpu.slows_copy: not measured: taken as 0",
    )


def test_more_tokens_than_measured_are_told(make_profile: Maker) -> None:
    known = make_profile(CPU | RATES | {"cpu_curve": [curve([[1, 100], [3, 300]], threads=8)]})
    assert CpuExperts(known, SIZE, "bf16", most_tokens=3).warnings == ()
    (line,) = CpuExperts(known, SIZE, "bf16", most_tokens=4).warnings
    assert line == "hand: cpu_curve: 4 token is outside the measured 1 token .. 3 token"


def test_a_profile_without_a_cpu_is_named(profile: HardwareProfile) -> None:
    with pytest.raises(InputError, match=r"^profile hand: cpu: not measured: its numbers, or a --host that has them"):
        CpuExperts(profile, SIZE, "bf16")


@pytest.mark.parametrize("threads", [9, 0, -1])
def test_threads_that_the_host_lacks_are_refused(make_profile: Maker, threads: int) -> None:
    with pytest.raises(InputError, match=f"^--threads {threads}: the CPU of profile hand has 8: 1 to 8 expected$"):
        CpuExperts(make_profile(CPU), SIZE, "bf16", threads)


def test_rates_known_for_all_threads_only_are_told(make_profile: Maker) -> None:
    with pytest.raises(InputError, match=r"^--threads 4: profile hand knows cpu.read.bandwidth for 8 threads only"):
        CpuExperts(make_profile(CPU), SIZE, "bf16", 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cpu.threads": None}, "cpu.threads: missing: all of cpu.threads, cpu.start, cpu.join and cpu.read or none"),
        ({"cpu.read.bandwidth": None}, "cpu.read: either bandwidth or by_threads expected"),
        ({"cpu.read.by_threads": points([[1, 1]], ("1", "s"))}, "cpu.read: either bandwidth or by_threads expected"),
        ({"cpu.threads": quantity(2.5, "1")}, "cpu.threads: 2.5: a whole number expected"),
        ({"cpu.bf17.rate": quantity(1, "GB/s")}, "cpu.bf17: unknown field"),
    ],
)
def test_bad_sections_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    table = profile_table()
    for name, value in (*CPU.items(), *change.items()):
        table = put(table, name, value)
    with pytest.raises(InputError, match=message):
        load_profile(str(write(tmp_path / "hand.toml", table)))


def test_a_section_is_read_as_it_was_written(make_profile: Maker, tmp_path: Path) -> None:
    known = make_profile(CPU | RATES | {"cpu_curve": [curve([[1, 100]])]})
    path = tmp_path / "again.toml"
    path.write_text(to_toml(known))
    again = load_profile(str(path))
    assert again.cpu_curves == known.cpu_curves
    assert again.quantities == known.quantities
    assert again.hash == known.hash != make_profile(CPU | RATES).hash

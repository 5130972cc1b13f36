"""Replaying for real; needs a CUDA device."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cpu_machine import machine
from fake_machine import TRACES
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_shape
from specmoe.hwprofiles.kernels import USUAL, Style, style_of
from specmoe.hwprofiles.measure.experts import made_up
from specmoe.hwprofiles.measure.packing import expert_output, fill
from specmoe.sim.config import AT_HOME, RunConfig
from specmoe.sim.run import Scenario
from specmoe.validate.checksums import check_policies
from specmoe.validate.cuda import CheckedCudaDevice, CudaDevice
from specmoe.validate.fit import Resimulation
from specmoe.validate.graphs import Copy, Launch, Model
from specmoe.validate.grid import Cell, group_of
from specmoe.validate.machine import checked_device, this_machine
from specmoe.validate.measured import measured_spans, steps_of
from specmoe.validate.replayer import Work, work_of
from specmoe.validate.slots import Arena, Pool, require_vram
from specmoe.validate.store import load
from specmoe.validate.validation import LINK, Measured, measure, stretch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: torch sees none"),
]
NAMES = [
    *("gpu-only", "on-demand", "on-demand-lru", "lookahead", "mixtral-offloading"),
    *("pregated-lru", "transition", "belady", "oracle"),
]
PROFILE = machine()  # with a CPU; of what device does not matter here
TINY = """
name = "tiny"
source = "made up: a Switch with experts of 1 MiB"
format = "fp16"
d_model = 256
vocab = 1024
tied = true

[attention]
heads = 4
kv_heads = 4
head_dim = 64

[experts]
number = 128
top_k = 1
d_ff = 1024
gated = false

[decoder]
layers = 12
first_moe = 1
moe_every = 2
dense_d_ff = 1024

[encoder]
layers = 12
first_moe = 1
moe_every = 2
dense_d_ff = 1024
"""
CYCLES = 500_000  # some tenths of a millisecond: as long as ten copies or more


@pytest.fixture
def shape(tmp_path: Path) -> str:
    (tmp_path / "tiny.toml").write_text(TINY)
    return str(tmp_path / "tiny.toml")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """A device that fails half-way leaves its stream current, and its memory taken."""
    before = torch.cuda.current_stream()
    yield
    torch.cuda.synchronize()
    torch.cuda.set_stream(before)
    gc.collect()
    torch.cuda.empty_cache()


def scenario(shape: str, phase: Any, held: str = "fp16", home: Any = None, style: Style | None = None) -> Scenario:
    """Decoding eight sequences on 12 slots, or a whole sequence on 16, where demand comes in waves."""
    slots, batch, steps = (12, 8, 12) if phase == "decode" else (16, 1, 2)
    at_home = AT_HOME._replace(format=home)
    return Scenario(
        RunConfig(
            TRACES[phase],
            profile=PROFILE,
            shape=shape,
            format=held,
            slots=slots,
            batch=batch,
            steps=steps,
            home=at_home,
            padded=True,
            style=style,
        )
    )


def device(kind: type[CudaDevice], of: Scenario, slots: int | None = None) -> Any:
    home = of.config.home.format or of.format
    model = Model(of.shape, of.trace.meta.phase, of.format, home, of.config.style or USUAL)
    here = torch.device("cuda", torch.cuda.current_device())
    return kind(model, slots or of.slots, Pool(of.shape, home, of.num_keys, here))


def work(of: Scenario, name: str) -> Work:
    chosen = of.policy(name)
    return work_of(of, chosen, of.decide(chosen, of.slots))


# What experts compute


@pytest.mark.parametrize(("held", "home"), [("fp16", None), ("int8", None), ("fp16", "int8")])
@pytest.mark.parametrize("phase", ["decode", "encode"])
def test_every_policy_computes_what_it_should(phase: str, held: str, home: str | None, shape: str) -> None:
    of = scenario(shape, phase, held, home)
    rows = list(check_policies(of, NAMES, checked_device(of)))
    assert [row.policy for row in rows] == NAMES
    assert [row for row in rows if row.wrong or row.problem] == []
    assert all(row.loads for row in rows[1:]) and len({row.uses for row in rows}) == 1


@pytest.mark.parametrize("held", ["fp32", "bf16"])
def test_experts_on_the_cpu_join_those_on_the_device(held: str, shape: str) -> None:
    of, names = scenario(shape, "decode", held), ["cpu-experts", "lru-cpu", "law-split"]
    rows = list(check_policies(of, names, checked_device(of)))
    assert [(row.policy, row.wrong, row.problem) for row in rows] == [(name, 0, "") for name in names]
    assert all(row.cpu_uses for row in rows) and 0 < rows[0].error < 0.02


class Impatient(CheckedCudaDevice):
    """Adds the CPU's result without waiting for it."""

    def join(self, event: int) -> None:
        wait, self._lane.join = self._lane.join, lambda: None  # type: ignore[union-attr, method-assign]
        super().join(event)
        self._lane.join = wait  # type: ignore[union-attr, method-assign]
        wait()


def test_a_device_that_does_not_wait_for_the_cpu_is_caught(shape: str) -> None:
    assert wrong(Impatient, scenario(shape, "decode", "bf16"), "cpu-experts")[0] > 0


def test_waves_are_where_loads_follow_reads_closely(shape: str) -> None:
    assert work(scenario(shape, "encode"), "on-demand-lru").table.uses.wave.max() > 1


class SlowKernels(CheckedCudaDevice):
    """The compute stream is far behind the copies."""

    def launch(self, use: int) -> None:
        torch.cuda._sleep(CYCLES)  # type: ignore[no-untyped-call]  # torch's own gap
        super().launch(use)


class SlowCopies(CheckedCudaDevice):
    """The copy stream is far behind the kernels."""

    def issue(self, load: int) -> None:
        with torch.cuda.stream(self.copy.stream):
            torch.cuda._sleep(CYCLES)  # type: ignore[no-untyped-call]  # torch's own gap
        super().issue(load)


class Forgetful(SlowKernels):
    """Copies at once, whoever reads the slot."""

    def _prepare_loads(self, work: Work, ends: list[Any]) -> list[Copy]:
        return [copy._replace(wait=self._past) for copy in super()._prepare_loads(work, ends)]


class Hasty(SlowCopies):
    """Runs an expert whether its load has landed or not."""

    def _prepare_uses(self, work: Work, ends: list[Any]) -> dict[int, Launch]:
        uses = super()._prepare_uses(work, ends)
        return {use: launch._replace(wait=self._past) for use, launch in uses.items()}


def wrong(kind: type[CheckedCudaDevice], of: Scenario, *names: str) -> list[int]:
    rows = list(check_policies(of, names, device(kind, of)))
    assert not any(row.problem for row in rows)
    return [row.wrong for row in rows]


STYLES = [
    ("int4", "fused/separate"),
    ("int8", "fused/grouped"),
    ("int4", "fused/grouped-wait"),
    ("fp16", "grouped"),
    ("bf16", "grouped-wait"),
]


@pytest.mark.parametrize(("held", "style"), STYLES)
@pytest.mark.parametrize("phase", ["decode", "encode"])
def test_every_style_computes_what_it_should(phase: str, held: str, style: str, shape: str) -> None:
    of = scenario(shape, phase, held, style=style_of(style))
    rows = list(check_policies(of, NAMES, checked_device(of)))
    assert [(row.policy, row.wrong, row.problem) for row in rows] == [(name, 0, "") for name in NAMES]


@pytest.mark.parametrize(("held", "style"), STYLES)
def test_groups_on_streams_that_are_far_behind_compute_the_same(held: str, style: str, shape: str) -> None:
    of = scenario(shape, "decode", held, style=style_of(style))
    assert wrong(SlowCopies, of, "on-demand", "on-demand-lru", "lookahead") == [0, 0, 0]


@pytest.mark.parametrize("tokens", [1, 3, 16, 17, 40, 64, 100])
@pytest.mark.parametrize("held", ["fp16", "bf16", "int8", "int4"])
@pytest.mark.parametrize("name", ["switch-base-128", "qwen3-30b-a3b"])
def test_the_fused_kernel_is_near_a_product_in_32_bits(name: str, held: Any, tokens: int) -> None:
    from specmoe.hwprofiles.measure.fused import FusedKernel, entries_of

    of, here = load_shape(name), torch.device("cuda", torch.cuda.current_device())
    inner, count = of.experts.d_ff * (2 if of.experts.gated else 1), 3
    slots = torch.zeros((count, -(-of.expert_bytes(held) // 256) * 256), dtype=torch.uint8, device=here)
    for slot in slots:
        first, second = torch.randn(inner, of.d_model) * 0.02, torch.randn(of.d_model, of.experts.d_ff) * 0.02
        fill(slot, first.to(here), second.to(here), of, held)
    kernel, launch = FusedKernel(of, held, slots), [(2, tokens), (0, tokens)]
    kernel.prepare([launch])
    kernel.out.fill_(float("nan"))
    kernel.run(len(entries_of(launch)), min(tokens, 64))()
    for row, (slot, _) in enumerate(launch):
        right = expert_output(kernel.x[:tokens], slots[slot], of, held)
        error = (kernel.out[row * tokens : (row + 1) * tokens].float() - right).norm() / right.norm()
        assert error < 1e-2


def test_torchs_int4_product_is_near_a_product_in_32_bits() -> None:
    from specmoe.hwprofiles.measure.layers import PackedKernel

    of, here = load_shape("switch-base-128"), torch.device("cuda", torch.cuda.current_device())
    kernel = PackedKernel(of, here)
    weights = made_up(of.expert_parameters, "q4_0", here, seed=1)
    run, out = kernel.bind(weights, 4)
    run()
    assert out.isfinite().all() and out.float().norm() > 0


@pytest.mark.parametrize("kind", [SlowKernels, SlowCopies])
@pytest.mark.parametrize("phase", ["decode", "encode"])
def test_streams_that_are_far_behind_change_no_output(phase: str, kind: type[CheckedCudaDevice], shape: str) -> None:
    assert wrong(kind, scenario(shape, phase), "on-demand", "on-demand-lru", "lookahead") == [0, 0, 0]


def test_what_is_expanded_on_arrival_is_not_overwritten_while_it_is_read(shape: str) -> None:
    assert wrong(SlowKernels, scenario(shape, "encode", "fp16", "int8"), "on-demand", "on-demand-lru") == [0, 0]


@pytest.mark.parametrize("home", [None, "int8"])
def test_a_device_that_forgets_the_reader_is_caught(home: str | None, shape: str) -> None:
    found = wrong(Forgetful, scenario(shape, "encode", "fp16", home), "on-demand", "on-demand-lru", "belady")
    assert min(found) > 0


@pytest.mark.parametrize("phase", ["decode", "encode"])
def test_a_device_that_does_not_wait_for_the_load_is_caught(phase: str, shape: str) -> None:
    assert min(wrong(Hasty, scenario(shape, phase), "on-demand", "on-demand-lru")) > 0


# What is measured


def cell(shape: str, policy: str = "on-demand-lru", home: Any = None, phase: Any = "decode") -> Cell:
    return group_of(shape, phase, "fp16", home, 4 if phase == "decode" else 1, 6).cell(policy, 40, "held_out")


def measured(*cells: Cell) -> tuple[dict[Cell, Measured], Resimulation]:
    simulation = Resimulation(TRACES, PROFILE)
    return dict(measure(cells, simulation, this_machine(PROFILE).make_device, repeats=2)), simulation


def test_cells_are_measured(shape: str) -> None:
    cells = [cell(shape), cell(shape, "lookahead"), cell(shape, home="int8"), cell(shape, phase="encode")]
    found, simulation = measured(*cells)
    assert list(found) == cells
    for of, (steps, _, _) in found.items():
        expected = steps_of([simulation.run(of).result])
        assert steps.decisions == expected.decisions, of.name
        assert steps.latency.shape == (2, expected.latency.shape[1])
        assert steps.latency.min() > 50_000 and steps.latency.max() < 10**9, of.name
        assert steps.compute.min() > 0 and steps.stall.min() >= 0
        assert ((steps.compute + steps.stall) <= 1.05 * steps.latency).all(), of.name


def test_a_traced_run_is_in_order_on_the_hosts_clock(shape: str) -> None:
    ((_, recorded, traced),) = measured(cell(shape))[0].values()
    device, near = traced.device, 100_000  # ns by which the clocks may differ
    order = np.array(recorded.program.loads)
    for start, end in ((device.dense_start, device.dense_end), (device.use_start, device.use_end)):
        assert (end >= start).all()
    assert (device.landed > device.started).all() and (np.diff(device.landed[order]) > 0).all()
    assert (traced.ready - device.dense_end > -near).all()
    assert (device.use_start - traced.begin[recorded.table.uses.event] > -near).all()
    uses = recorded.table.uses
    loaded = uses.load >= 0
    assert (device.use_end[loaded] > device.landed[uses.load[loaded]]).all()
    assert {span.lane for span in measured_spans(recorded, traced)} == {"host", "compute", "copy"}


def test_other_runs_take_no_starts(shape: str) -> None:
    of = scenario(shape, "decode")
    mine, found = device(CudaDevice, of), work(of, "on-demand")
    mine.prepare(found)
    mine.begin(traced=False)
    mine.launch_dense(0)
    mine.wait_for_router(0)
    times = mine.end()
    assert (times.dense_start == -1).all() and (times.use_start == -1).all()


def test_a_slower_link_is_emulated(shape: str) -> None:
    """A quarter of the bandwidth: copies of four times the bytes."""
    plateau = PROFILE.plateau(LINK)
    other = PROFILE.with_plateau(LINK, plateau / 4)
    simulation, times = Resimulation(TRACES, PROFILE), []
    for theirs in (None, other):
        make = this_machine(PROFILE, theirs).make_device
        ((_, found),) = measure([cell(shape, "on-demand")], simulation, make, repeats=1)
        times.append(float(np.median(found.traced.device.landed - found.traced.device.started)))
    size = simulation.scenario(cell(shape).group).expert_bytes
    assert 2 < stretch(PROFILE, other, size) < 5
    assert 2 < times[1] / times[0] < 6


def test_what_is_longer_than_an_expert_does_not_run_into_its_neighbour(shape: str) -> None:
    """Stretched copies end in their own slot."""
    of = scenario(shape, "encode")
    model = Model(of.shape, "encode", "fp16", "fp16")
    pool = Pool(of.shape, "fp16", of.num_keys, torch.device("cuda", torch.cuda.current_device()), 2.5)
    (row,) = check_policies(of, ["on-demand-lru"], CheckedCudaDevice(model, of.slots, pool))
    assert (row.wrong, row.problem) == (0, "")


# Memory


def test_slots_that_do_not_fit(shape: str) -> None:
    of = scenario(shape, "decode")
    with pytest.raises(InputError, match=r"the slots need \d+\.\d GiB of VRAM and the rest \d\.\d GiB: .* are free"):
        this_machine(PROFILE).make_device(of, 10_000_000)


def test_slots_of_one_group_make_room_for_those_of_the_next() -> None:
    """Torch keeps what it frees for itself."""
    here = torch.device("cuda", torch.cuda.current_device())
    free, _ = torch.cuda.mem_get_info(here)
    for _ in range(2):
        arena = Arena(5, int(free * 0.1), 1, here)
        assert len(arena) == 5
        del arena


def test_a_device_goes_with_its_graphs(shape: str) -> None:
    """Where experts are expanded on arrival, graphs and device refer to each other."""
    of = scenario(shape, "decode", "fp16", "int8")
    mine = device(CudaDevice, of)
    mine.prepare(work(of, "on-demand"))
    gone = weakref.ref(mine)
    del mine
    require_vram(1, torch.device("cuda", torch.cuda.current_device()))
    assert gone() is None


# From the outside

GRID = """
[[group]]
shape = "{shape}"
phase = "decode"
format = "fp16"
batch = 2
steps = 40
cells.gpu-only = [768]
cells.on-demand-lru = [40]
cells.lookahead = [40]
fit.lookahead = [40]
"""


def specmoe(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_validate(shape: str, tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(GRID.format(shape=shape))
    named = ("--profile", PROFILE.name, "--grid", tmp_path / "grid.toml", "--out", tmp_path / "out")
    (found,) = specmoe("validate", TRACES["decode"], *named, "--repeats", 3, "--force")
    assert found["all"]["cells"] == 3
    assert all(Path(file).stat().st_size for file in found["files"])
    told = load(tmp_path / "out" / f"{PROFILE.name}.json").circumstances
    assert told.device["device"] == torch.cuda.get_device_name()
    assert "forced" in told.notes[0]


def test_checksums(shape: str) -> None:
    rows = specmoe("checksums", TRACES["decode"], "--shape", shape, "--policy", "on-demand-lru", "--policy", "oracle")
    assert [(row["policy"], row["wrong"]) for row in rows] == [("on-demand-lru", 0), ("oracle", 0)]

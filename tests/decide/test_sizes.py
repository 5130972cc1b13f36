"""Slots of several sizes: how they are dealt, that no policy leaves its bytes, and that both timers agree on them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_shape
from specmoe.hwprofiles.shape import InFile
from specmoe.hwprofiles.shape_file import shape_toml
from specmoe.sim.config import Home, RunConfig
from specmoe.sim.decide.placement import Sizes
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.sim.sweep.retiming import bounds_of, timings

TRACE = "decoder-mini-64/decode/test"
MIB = 1 << 20
SMALL, LARGE, SLOTS, STEPS = 3 * MIB, 5 * MIB, 300, 20
ALTERNATING = tuple([SMALL, LARGE, SMALL, SMALL] * 4)
sizes_of = st.builds(Sizes, st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple), st.integers(1, 6))


def quantised(path: Path, layers: tuple[int, ...] = ALTERNATING) -> str:
    """The file of a shape whose layers have experts of these bytes."""
    shape = replace(load_shape("olmoe-1b-7b"), format="q4_k", in_file=InFile("made up", layers))
    path.write_text(shape_toml(shape))
    return str(path)


def scenario(path: Path, layers: tuple[int, ...] = ALTERNATING, **fields: Any) -> Scenario:
    asked: dict[str, Any] = {"shape": quantised(path / "shape.toml", layers), "slots": SLOTS, "steps": STEPS}
    return Scenario(RunConfig(TRACE, **asked | fields))


def test_slots_are_dealt_by_hand() -> None:
    sizes = Sizes((2, 5, 2), 2)  # four experts of 2 bytes, two of 5
    dealt = [2, 5, 2, 2, 5, 2]
    for slots in range(7):
        assert sizes.slots_of(slots) == {size: dealt[:slots].count(size) for size in (2, 5)}
    assert [sizes.most(room) for room in (1, 2, 6, 7, 8, 9, 100)] == [0, 1, 1, 2, 2, 3, 6]


@given(sizes=sizes_of, room=st.integers(0, 300))
def test_a_budget_of_bytes_is_the_most_slots_that_fit(sizes: Sizes, room: int) -> None:
    most, every = sizes.most(room), len(sizes.layers) * sizes.experts
    assert sizes.bytes_of(most) <= room
    assert most == every or sizes.bytes_of(most + 1) > room
    counts = [len(group) * sizes.experts for group in sizes.groups]
    shares = [own / count for own, count in zip(sizes.slots_of(most).values(), counts, strict=True)]
    assert max(shares) - min(shares) < 1 / min(counts) + 1e-9


POLICIES = ("lookahead", "static", "lru-cpu", "ktransformers", "mixtral-offloading")


@pytest.mark.parametrize("name", POLICIES)
def test_slots_hold_experts_of_their_size_only_and_both_timers_agree(tmp_path: Path, name: str) -> None:
    own = scenario(tmp_path)
    run = own.run(name)
    table, sizes = run.decisions, np.array(ALTERNATING)
    slots, keys = (np.append(getattr(table.uses, name), getattr(table.loads, name)) for name in ("slot", "key"))
    held = set(zip(slots.tolist(), sizes[keys // table.num_experts].tolist(), strict=True))
    assert all(sum(slot == other for other, _ in held) == 1 for slot in range(SLOTS) if slot in slots)
    (timed,) = timings(table, [own], own.policy(name))
    warm = run.result.table["step"] >= own.warm_up()
    moved = sizes[table.since(own.warm_up()).loads.key // table.num_experts].sum()
    assert timed.sums.bytes_loaded == run.result.table["bytes_loaded"][warm].sum() == moved
    assert timed.sums.latencies.total == np.diff(run.timing.step_end, prepend=0)[own.warm_up() :].sum()
    assert bounds_of([own], SLOTS) == [own.bounds(SLOTS)]
    assert own.policy(name).uses_cpu or own.bounds(SLOTS)["link_ns"] <= timed.run_ns / (STEPS - own.warm_up())


def test_layers_of_one_size_decide_as_without_sizes(tmp_path: Path) -> None:
    alike, plain = scenario(tmp_path, (SMALL,) * 16), scenario(tmp_path, (SMALL,) * 16, format="fp16")
    tables = [each.decide(each.policy("lookahead"), SLOTS) for each in (alike, plain)]
    assert all((one == other).all() for one, other in zip(tables[0].loads, tables[1].loads, strict=True))


def test_a_sweep_over_formats_decides_for_each_its_own_sizes(tmp_path: Path) -> None:
    shape = quantised(tmp_path / "shape.toml")
    base = RunConfig(TRACE, "on-demand-lru", shape=shape, slots=SLOTS, steps=STEPS)
    cells = [replace(base, format=held) for held in ("q4_k", "fp16")]
    for cell, row in zip(cells, evaluate(cells), strict=True):
        alone = Scenario(replace(cell, policy="")).run("on-demand-lru").result.table
        assert row["hits"] == alone["hits"][alone["step"] >= row["warm_up_steps"]].sum()


def test_whole_layers_stay_in_vram_as_far_as_bytes_allow(tmp_path: Path) -> None:
    own = scenario(tmp_path, (SMALL,) * 8 + (LARGE,) * 8, slots=None, cache_bytes=64 * (8 * SMALL + 2 * LARGE))
    table = own.decide(own.policy("n-cpu-moe"), own.slots)
    last = table.uses.key[table.uses.slot >= 0] // table.num_experts
    assert set(last.tolist()) == set(range(10, 16))  # six large layers are 30 MiB an expert, seven 35 of 34


def simulated(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["simulate", TRACE, "--policy", "on-demand-lru", "--steps", "20", *arguments])


def test_bytes_of_a_cache_say_how_many_slots_of_each_size_they_are(tmp_path: Path) -> None:
    shown = simulated("--shape", quantised(tmp_path / "shape.toml"), "--cache-bytes", "1GiB")
    assert shown.exit_code == 0, shown.output
    said = " ".join(shown.output.split())
    assert "experts have 2 sizes, and layers share slots of their own size only: 219 of 3.00 MiB, 73 of 5.00" in said


def test_bad_budgets_of_bytes_are_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--cache-bytes 1000: less than the 3145728 bytes of one expert"):
        scenario(tmp_path, slots=None, cache_bytes=1000)
    with pytest.raises(InputError, match="either --slots or --cache-bytes expected, and not both"):
        scenario(tmp_path, cache_bytes=1 << 30)
    with pytest.raises(InputError, match="tier nvme: olmoe-1b-7b has experts of several sizes"):
        scenario(tmp_path, home=Home("nvme"))

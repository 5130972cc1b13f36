"""Grids of cells: those that come with the package, and what a file of one's own may say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from specmoe.errors import InputError
from specmoe.sim.decide.policy import POLICIES
from specmoe.validate.fit import Resimulation
from specmoe.validate.grid import cell_of, grid, grid_names, group_of

TRACES: dict[Any, str] = {phase: f"switch-mini-128/{phase}/test" for phase in ("decode", "encode")}
GOOD = """
[[group]]
shape = "switch-base-8"
phase = "decode"
format = "fp16"
home_format = "int8"
batch = 2
steps = 3
cells.lookahead = [20, 40]
cells.on-demand = [20]
fit.lookahead = [40]
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "my.toml"
    path.write_text(text)
    return str(path)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    group = group_of("switch-base-8", "decode", "fp16", "int8", 2, 3)
    assert grid(written(tmp_path, GOOD)) == (
        group.cell("lookahead", 20, "held_out"),
        group.cell("lookahead", 40, "fit"),
        group.cell("on-demand", 20, "held_out"),
    )


def test_without_a_home_format_and_fit(tmp_path: Path) -> None:
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith(("home", "fit")))
    cells = grid(written(tmp_path, text))
    assert {cell.config.home.format for cell in cells} == {None}
    assert {cell.role for cell in cells} == {"held_out"}


def test_threads_and_policies_with_a_number(tmp_path: Path) -> None:
    text = GOOD.replace('home_format = "int8"', "threads = 3") + 'cells."n-cpu-moe:2" = [30]\n'
    cell = grid(written(tmp_path, text))[-1]
    assert (cell.policy, cell.config.threads) == ("n-cpu-moe:2", 3)
    assert cell.name == "switch-base-8/decode/fp16/b2/t3/n-cpu-moe:2/30"
    assert cell_of(cell.key) == cell


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[[group]]", "[[groups]]", "groups: unknown field: did you mean 'group'?"),
        ("[[group]]", "[group]", "group: an array of tables, [[group]], expected"),
        ('"switch-base-8"', '"switch-base-9"', "group[0].shape: switch-base-9: no such model shape"),
        ('"switch-base-8"', "8", "group[0].shape: 8: a text expected"),
        ('"decode"', '"decoding"', "group[0].phase: 'decoding': did you mean 'decode'?"),
        ('format = "fp16"\nhome', 'format = "fp61"\nhome', "group[0].format: 'fp61': did you mean 'fp16'?"),
        ('"int8"', '"fp32"', "group[0].home_format: 'fp32': one of int4, int8 expected"),
        ('"fp16"', '"fp32"', "group[0].home_format: 'int8': nothing is expanded to fp32"),
        ('"fp16"', "[16]", "group[0].format: [16]: one of "),
        ("batch = 2", "batch = 0", "group[0].batch: 0: a whole number above 0 expected"),
        ("batch = 2", "batch = true", "group[0].batch: True: a whole number above 0 expected"),
        ("steps = 3", "", "group[0].steps: missing"),
        ("steps = 3", "steps = 3\nstep = 4", "group[0].step: unknown field: did you mean 'steps'?"),
        ("cells.on-demand", "cells.on-demnad", "group[0].cells.on-demnad: unknown field: did you mean 'on-demand'?"),
        ("cells.on-demand = [20]", "cells.on-demand = 20", "group[0].cells.on-demand: 20: a list of numbers of slots"),
        ("cells.on-demand = [20]", "cells.on-demand = []", "group[0].cells.on-demand: []: a list of numbers of slots"),
        ("cells.on-demand = [20]", "cells.on-demand = [2.5]", "group[0].cells.on-demand: 2.5: a whole number above 0"),
        ("cells.on-demand = [20]", "cells.on-demand = [20, 20]", "b2/on-demand/20 is there twice"),
        ("fit.lookahead = [40]", "fit.lookahead = [41]", "group[0].fit.lookahead: 41: not one of the cells"),
        ("fit.lookahead = [40]", "fit.static = [40]", "group[0].fit.static: 40: not one of the cells"),
        ("fit.lookahead = [40]", "fit = 3", "group[0].fit: 3: a table expected"),
        (GOOD, GOOD + GOOD, "group[1]: switch-base-8/decode/int8>fp16/b2/lookahead/20 is there twice"),
        (GOOD, "", "group: missing"),
        (GOOD, "group = []", "group: an array of tables, [[group]], expected"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(InputError) as error:
        grid(path)
    assert str(error.value).startswith(f"{path}: ")
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_group_without_cells(tmp_path: Path) -> None:
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith(("cells", "fit")))
    with pytest.raises(InputError, match=r"group\[0\].cells: at least one policy"):
        grid(written(tmp_path, text + "\ncells = {}"))


def test_unknown_grids_are_named() -> None:
    with pytest.raises(InputError, match=r"quik: no such grid, nor a \.toml file: did you mean 'quick'"):
        grid("quik")
    with pytest.raises(InputError, match=r"nowhere\.toml: not a TOML file \(No such file"):
        grid("nowhere.toml")


def test_the_shipped_grids() -> None:
    assert grid_names() == ("cpu", "cpu-switch", "emulate", "full", "quick", "styles", "styles-switch")


@pytest.mark.parametrize(
    ("name", "least", "most", "fit"), [("full", 70, 100, 16), ("quick", 8, 10, 5), ("emulate", 8, 50, 0)]
)
def test_sizes_of_the_shipped_grids(name: str, least: int, most: int, fit: int) -> None:
    cells = grid(name)
    assert least <= len(cells) <= most
    assert sum(cell.role == "fit" for cell in cells) == fit


def test_whole_configurations_are_held_out_of_the_full_grid() -> None:
    cells = grid("full")
    fitted = {cell.group for cell in cells if cell.role == "fit"}
    of_groups = {cell.group for cell in cells}
    assert {
        (group.config.shape, group.phase, group.config.format, group.config.home.format, group.config.batch)
        for group in fitted
    } == {
        ("switch-base-128", "decode", "fp16", None, 1),
        ("switch-base-128", "decode", "fp16", None, 8),
        ("switch-base-128", "decode", "fp32", None, 1),
        ("switch-base-128", "decode", "fp16", "int8", 1),
        ("switch-base-128", "encode", "fp16", None, 1),
    }
    held_out = of_groups - fitted
    new_shapes = {group.config.shape for group in of_groups} - {group.config.shape for group in fitted}
    assert new_shapes == {"mixtral-8x7b", "switch-large-128"}
    assert {"bf16", "int4", "int8"} <= {group.config.format for group in held_out}
    assert {4, 8} <= {group.config.batch for group in held_out}


def test_whole_thread_counts_formats_and_shapes_are_held_out_of_the_cpu_grids() -> None:
    cells = [*grid("cpu"), *grid("cpu-switch")]
    fitted = {(cell.config.shape, cell.config.format, cell.config.threads) for cell in cells if cell.role == "fit"}
    assert fitted == {("gpt-oss-20b", "bf16", 15), ("gpt-oss-20b", "bf16", 4)}
    held_out = [cell.config for cell in cells if cell.role == "held_out"]
    assert {config.threads for config in held_out} == {2, 4, 8, 15}
    assert {config.shape for config in held_out} == {"gpt-oss-20b", "olmoe-1b-7b", "switch-base-128"}
    assert {config.format for config in held_out} == {"bf16", "fp32"}


def test_the_full_grid_has_policies_of_every_kind() -> None:
    cells = grid("full")
    chosen = {cell.policy for cell in cells}
    assert {"gpu-only", "on-demand", "pregated", "belady", "oracle", "mixtral-offloading"} <= chosen
    assert any(POLICIES[name].prefetch and POLICIES[name].prefetch.after_launch for name in chosen)  # host predicts
    assert all(cell.slots == 768 for cell in cells if cell.policy == "gpu-only")
    most = Counter((cell.group, cell.slots) for cell in cells).most_common(1)[0][1]
    assert most >= 8  # policies side by side, whose order can be told right or wrong


def test_every_cell_of_the_quick_grid_can_be_simulated() -> None:
    simulated = Resimulation(TRACES, "rtx3090")
    for cell in grid("quick"):
        result, decisions, _, timing = simulated.run(cell)
        assert decisions.num_steps == cell.config.steps == result.table["step"].max() + 1
        assert result.manifest.batch == cell.config.batch and result.manifest.format == cell.config.format
        assert decisions.slots == cell.slots  # also of gpu-only: all there are
        steps = simulated.steps(cell, simulated.constants(cell.group))
        assert steps.latency[0].tolist() == (timing.step_end - timing.begin[:: decisions.num_layers]).tolist()

"""Tables of docs/cpu.md, and the package's errors with experts on the CPU: `python docs/build_cpu.py`.

They are made of the replays in validation/cpu:

NAME.measured.toml     the machine's microbenchmarks; NAME-alone.json judges them
NAME.toml              the same with three costs fitted on the `fit` cells; NAME.json judges it

NAME-2*.json judge that on replays of another visit.
NAME-3.toml            microbenchmarks of a third visit, made between its replays; NAME-3*.json judges it
NAME-3-before.toml     the same made before all replays; NAME-3-before*.json judges it; both of threads that stay awake
NAME-trial.json        replays and microbenchmarks in turn, of threads asleep and awake, half an hour before that visit
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page_tables import fill, write

from specmoe.hwprofiles.catalogue import load_profile
from specmoe.sim.decide.policy import policy
from specmoe.validate.fidelity import overall
from specmoe.validate.fit import CPU_NAMES
from specmoe.validate.store import read_steps
from specmoe.validation_table import CellFidelity, read_validation

DOCS = Path(__file__).parent
HOME, PAGE = DOCS.parent / "validation" / "cpu", DOCS / "cpu.md"
CHECKSUMS = DOCS / "runs" / "validation" / "checksums_cpu.json"
ACCURACY = DOCS.parent / "specmoe" / "hwprofiles" / "data" / "accuracy_cpu.json"
MACHINE = "h200-sxm-141gb"
GRIDS = ("", "-switch")  # endings of the files of each grid
ANOTHER_VISIT = ("-2", "-2-switch", "-2-switch-bf16")  # replayed later on another machine of the kind, nothing fitted
SAID = {"own": "", "microbenchmarks": "-alone"}  # endings by constants
AWAKE = "-3"  # replays with threads that stay awake
STATES = ("asleep", "asleep, a core each", "awake", "awake, a core each")  # of threads in the trial
BEFORE, BETWEEN = "-before", ""  # when their microbenchmarks were made


def main() -> None:
    """Write the page's tables and the file of errors."""
    fill(PAGE, tables())
    write(ACCURACY, json.dumps({"rows": accuracies()}, indent=1) + "\n")


def tables() -> dict[str, Sequence[str]]:
    """The page's tables by name."""
    made = {
        "awake": awake_by_threads(),
        "together": together(),
        "trial": trial(),
        "awake cells": awake_cells(),
        "costs": costs(),
        "threads": by_threads(),
        "visit": another_visit(),
        "cells": cells(),
        "checksums": checksums(),
    }
    return {name: tuple(lines) for name, lines in made.items()}


def cells_of(grid: str, constants: str) -> list[CellFidelity]:
    """All cells of a grid, judged with a profile."""
    return list(read_validation(HOME / f"{MACHINE}{grid}{SAID[constants]}.json").cells)


def held_out(grid: str, constants: str) -> list[CellFidelity]:
    """Held-out cells of a grid in which the CPU computes experts: its costs change their simulated time."""
    both = zip(*(cells_of(grid, each) for each in SAID), strict=True)
    computing = {one.cell for one, other in both if one.simulated.mean_ns != other.simulated.mean_ns}
    return [one for one in cells_of(grid, constants) if one.cell.held_out and one.cell in computing]


def of_another_visit(grid: str) -> list[CellFidelity]:
    """Cells of another visit in which the CPU computes experts; all of them are held out."""
    cells = read_validation(HOME / f"{MACHINE}{grid}.json").cells
    return [one for one in cells if policy(one.cell.policy).uses_cpu]


def awake(when: str, role: str | None = "held_out") -> list[CellFidelity]:
    """Cells of the third visit, judged by the microbenchmarks made then; of all roles if that is None."""
    files = (HOME / f"{MACHINE}{AWAKE}{when}{grid}.json" for grid in GRIDS)
    return [one for file in files for one in read_validation(file).cells if role in (None, one.cell.role)]


def repeats_apart() -> np.ndarray:
    """How far the mean step of each repeat is from that of the others of its cell, as a share, [cells x repeats]."""
    found = []
    for grid in GRIDS:
        for cell, steps in read_steps(HOME / f"{MACHINE}{AWAKE}{grid}.steps.parquet").items():
            means = steps.latency.mean(axis=1)
            others = (means.sum() - means) / (len(means) - 1)
            found.append(np.abs(others / means - 1)[: len(means) * (cell.role == "held_out")])
    return np.concatenate(found)


def awake_by_threads() -> Iterator[str]:
    """A row for each model, format and number of threads of the third visit."""
    titles = ("model and format", "threads", "cells", "measured before", "between", "between, with the host's calls")
    yield f"| {' | '.join(titles)} |"
    yield "|---|---:|---:|---:|---:|---:|"
    sides = [awake(BEFORE), awake(BETWEEN), [one.by_its_host for one in awake(BETWEEN)]]
    for what in dict.fromkeys(map(what_of, sides[0])):
        own = [[one for one in side if what_of(one) == what] for side in sides]
        for threads in (*sorted({one.cell.threads or 0 for one in own[0]}, reverse=True), None):
            some = [[one for one in side if threads in (None, one.cell.threads)] for side in own]
            yield f"| {what} | {threads or 'all'} | {len(some[0])} | {' | '.join(map(errors, some))} |"
    yield f"| all | all | {len(sides[0])} | {' | '.join(map(errors, sides))} |"


def together() -> Iterator[str]:
    """How far the repeats of the third visit are apart, and predictions from the repeats."""
    apart = 100 * repeats_apart()
    yield "| | median | 95 % | worst |"
    yield "|---|---:|---:|---:|"
    yield f"| one repeat, from the mean of the cell's two others | {_three(apart)} |"
    for what, cells in (
        ("prediction, measured before the replays", awake(BEFORE)),
        ("prediction, measured between the replays", awake(BETWEEN)),
        ("the same with the calls that the host made", [one.by_its_host for one in awake(BETWEEN)]),
    ):
        yield f"| {what} | {_three(100 * np.abs([one.error for one in cells]))} |"
    what = f"{len(carried())} steps of a trial half an hour before, by the same microbenchmarks"
    yield f"| {what} | {_three(100 * np.abs(carried()))} |"


def _rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((HOME / f"{MACHINE}-trial.json").read_text(encoding="utf-8"))["rows"]
    return rows


def _three(errors: np.ndarray) -> str:
    return " | ".join(f"{value:.1f} %" for value in (np.median(errors), np.percentile(errors, 95), errors.max()))


def tried(*states: str) -> list[dict[str, Any]]:
    """Rows of the trial in which the CPU computes every expert, of threads in one of some states."""
    return [row for row in _rows() if row["policy"] == "cpu-experts" and row["threads_are"] in states]


def trial() -> Iterator[str]:
    """A row for each model, format and number of threads: an expert in a replay and in a microbenchmark."""
    yield f"| model and format | threads | {' | '.join(STATES)} |"
    yield "|---|---:|" + "---:|" * len(STATES)
    for kind in dict.fromkeys((row["shape"], row["format"], row["threads"]) for row in tried(*STATES)):
        some = [
            [row for row in tried(state) if (row["shape"], row["format"], row["threads"]) == kind] for state in STATES
        ]
        both = (
            " and ".join(
                f"{np.mean([row[name] for row in each]) / 1000:.2f}" for name in ("expert_us", "microbenchmark_us")
            )
            for each in some
        )
        yield f"| {kind[0]}/{kind[1]} | {kind[2]} | {' | '.join(both)} |"


def awake_cells() -> Iterator[str]:
    """A row for each cell of the third visit."""
    yield "| cell | measured, ms | spread | before | between | with the host's calls |"
    yield "|---|---:|---:|---:|---:|---:|"
    for before, between in zip(awake(BEFORE, None), awake(BETWEEN, None), strict=True):
        name = between.cell.name + ("" if between.cell.held_out else " (fit)")
        off = " | ".join(f"{100 * one.error:+.1f} %" for one in (before, between, between.by_its_host))
        yield f"| {name} | {between.measured.mean_ns / 1e6:.3f} | {100 * between.spread:.0f} % | {off} |"


def accuracies() -> list[dict[str, Any]]:
    """Errors by constants, as the package keeps them: what is foretold of another time.

    Fitted constants are those of threads that slept, held out on another visit too; microbenchmarks those of threads
    that stay awake, made before the replays or half an hour from them.
    """
    asleep = [one for grid in GRIDS for one in held_out(grid, "own")]
    asleep += [one for grid in ANOTHER_VISIT for one in of_another_visit(grid)]
    found = {"own": (asleep, [one.error for one in asleep])}
    found["microbenchmarks"] = (awake(BEFORE), [*(one.error for one in awake(BEFORE)), *carried()])
    rows = []
    for constants, (cells, errors) in found.items():
        apart = np.abs(errors)
        figures = {"median": np.median(apart), "p95": np.percentile(apart, 95), "worst": apart.max()}
        known = {"profile": MACHINE, "constants": constants, "held_out": True, "cells": len(errors)}
        known |= {f"{name}_abs_error": float(value) for name, value in figures.items()}
        rows.append(known | {"kendall_tau": overall(cells).kendall_tau})
    return rows


def carried() -> list[float]:
    """Errors of steps of the trial, foretold by microbenchmarks of half an hour later."""
    return [row["foretold_ms"] / row["step_ms"] - 1 for row in _rows() if row["foretold_ms"]]


def costs() -> Iterator[str]:
    """A row for each fitted cost."""
    yield "| cost | microbenchmark | fitted |"
    yield "|---|---:|---:|"
    alone, fitted = (load_profile(str(HOME / name)) for name in (f"{MACHINE}.measured.toml", f"{MACHINE}.toml"))
    for name in CPU_NAMES:
        values = (one[name] if one.quantities[name].unit == "1" else one.ns(name) / 1000 for one in (alone, fitted))
        unit = {"1": ""}.get(alone.quantities[name].unit, " us")
        yield f"| `{name}` | " + " | ".join(f"{value:.3g}{unit}" for value in values) + " |"


def by_threads() -> Iterator[str]:
    """A row for each grid and number of threads, held-out cells only."""
    yield "| model and format | threads | cells | microbenchmarks: median, worst | three costs fitted: median, worst |"
    yield "|---|---:|---:|---:|---:|"
    for grid in GRIDS:
        both = [held_out(grid, constants) for constants in ("microbenchmarks", "own")]
        what = what_of(both[0][0])
        for threads in (*sorted({one.cell.threads or 0 for one in both[0]}, reverse=True), None):
            some = [[one for one in each if threads in (None, one.cell.threads)] for each in both]
            yield f"| {what} | {threads or 'all'} | {len(some[0])} | {errors(some[0])} | {errors(some[1])} |"


def another_visit() -> Iterator[str]:
    """A row for each grid and number of threads of another visit."""
    yield "| model and format | threads | cells | median, worst |"
    yield "|---|---:|---:|---:|"
    for grid in ANOTHER_VISIT:
        cells = of_another_visit(grid)
        what = what_of(cells[0])
        for threads in (*sorted({one.cell.threads or 0 for one in cells}, reverse=True), None):
            some = [one for one in cells if threads in (None, one.cell.threads)]
            yield f"| {what} | {threads or 'all'} | {len(some)} | {errors(some)} |"


def what_of(cell: CellFidelity) -> str:
    """Model and format of a cell."""
    return "/".join(part for part in cell.cell.group.split("/")[:3] if part != "decode")


def errors(some: Sequence[CellFidelity]) -> str:
    """Median and worst of cells."""
    figures = overall(some)
    return f"{100 * figures.median_abs_error:.1f} %, {100 * figures.worst_abs_error:.1f} %"


def cells() -> Iterator[str]:
    """A row for each cell."""
    yield "| cell | measured, ms | spread | microbenchmarks | three costs fitted |"
    yield "|---|---:|---:|---:|---:|"
    for grid in GRIDS:
        for alone, fitted in zip(cells_of(grid, "microbenchmarks"), cells_of(grid, "own"), strict=True):
            name = alone.cell.name + ("" if alone.cell.held_out else " (fit)")
            off = " | ".join(f"{100 * one.error:+.1f} %" for one in (alone, fitted))
            yield f"| {name} | {alone.measured.mean_ns / 1e6:.3f} | {100 * alone.spread:.0f} % | {off} |"


def checksums() -> Iterator[str]:
    """A row for each format."""
    yield "| format | runs | experts computed | on the CPU | wrong outputs | largest distance of a layer's sum |"
    yield "|---|---:|---:|---:|---:|---:|"
    rows: list[dict[str, Any]] = json.loads(CHECKSUMS.read_text(encoding="utf-8"))
    for held in dict.fromkeys(row["format"] for row in rows):
        some = [row for row in rows if row["format"] == held]
        counts = " | ".join(str(sum(row[name] for row in some)) for name in ("uses", "cpu_uses", "wrong"))
        yield f"| {held} | {len(some)} | {counts} | {max(row['error'] for row in some):.1e} |"


if __name__ == "__main__":
    main()

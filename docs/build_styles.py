"""Tables of docs/styles.md, and the package's errors by style: `python docs/build_styles.py`.

They are made of the validations in validation/styles: a machine's microbenchmarks against its own replays. Those in
validation/styles/shipped judge the same replays with the shipped profile, which was measured on another machine of the
kind; the package's errors are these, since users have the shipped profile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from page_tables import fill, write

from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.validate.fidelity import overall
from specmoe.validation_table import CellFidelity, Validation, read_validation

DOCS = Path(__file__).parent
HOME, PAGE = DOCS.parent / "validation" / "styles", DOCS / "styles.md"
SHIPPED = HOME / "shipped"
ACCURACY = DOCS.parent / "specmoe" / "hwprofiles" / "data" / "accuracy_styles.json"
MACHINES = ("h100-sxm5-80gb", "h200-sxm-141gb")
SHAPES = ("gpt-oss-20b", "qwen3-30b-a3b", "mixtral-8x7b", "switch-base-128")


def main() -> None:
    """Write the page's tables and the file of errors."""
    fill(PAGE, {"summary": summary(), "shipped": shipped(), "cells": cells(), "kernels": kernels()})
    write(ACCURACY, json.dumps({"rows": accuracies()}, indent=1) + "\n")


def validations(machine: str, home: Path = HOME) -> list[Validation]:
    """The validations of a machine."""
    return [read_validation(path) for path in sorted(home.glob(f"{machine}*.json"))]


def held_out(machine: str, home: Path = HOME) -> list[CellFidelity]:
    """Cells of a machine whose kernels are the fused one or torch's int4 product."""
    return [cell for one in validations(machine, home) for cell in one.cells if cell.cell.held_out and cell.cell.style]


def by_style(machine: str, home: Path = HOME) -> dict[str, list[CellFidelity]]:
    """Held-out cells of a machine by style."""
    found: dict[str, list[CellFidelity]] = {}
    for cell in held_out(machine, home):
        found.setdefault(cell.cell.style, []).append(cell)
    return dict(sorted(found.items()))


def accuracies() -> list[dict[str, Any]]:
    """Errors by machine and style, as the package keeps them."""
    rows = []
    for machine in MACHINES:
        for style, some in (by_style(machine, SHIPPED) or by_style(machine)).items():
            figures = overall(some)
            known = {"profile": machine, "constants": "microbenchmarks", "held_out": True, "cells": figures.cells}
            errors = {name: getattr(figures, name) for name in ("median_abs_error", "p95_abs_error", "worst_abs_error")}
            tau = 1.0 if figures.kendall_tau is None else figures.kendall_tau
            rows.append(known | errors | {"kendall_tau": tau, "style": style})
    return rows


def summary() -> Iterator[str]:
    """A row for each machine and style."""
    yield "| machine | style | cells | median | 95 % | worst | with the host's calls: median | worst |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for machine in MACHINES:
        for style, some in by_style(machine).items():
            yield f"| {machine} | {style} | {errors_of(some)} |"
        yield f"| {machine} | all | {errors_of(held_out(machine))} |"


def shipped() -> Iterator[str]:
    """A row for each machine whose replays are judged with the shipped profile too."""
    yield "| machine | cells | median | 95 % | worst | with the host's calls: median | worst |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for machine in MACHINES:
        if some := held_out(machine, SHIPPED):
            yield f"| {machine} | {errors_of(some)} |"


def errors_of(some: Sequence[CellFidelity]) -> str:
    """Number of cells and their errors, as the cells of a row."""
    frozen, seen = overall(some), overall([cell.by_its_host for cell in some])
    errors = [frozen.median_abs_error, frozen.p95_abs_error, frozen.worst_abs_error]
    if any(cell.with_host for cell in some):
        errors += [seen.median_abs_error, seen.worst_abs_error]
    shown = [f"{100 * error:.1f} %" for error in errors]
    return " | ".join([str(len(some)), *shown, *[""] * (5 - len(shown))])


def cells() -> Iterator[str]:
    """A row for each cell."""
    yield "| machine | cell | measured, ms | simulated, ms | error | with the host's calls |"
    yield "|---|---|---:|---:|---:|---:|"
    for machine in MACHINES:
        for one in (cell for validation in validations(machine) for cell in validation.cells):
            times = " | ".join(f"{side.mean_ns / 1e6:.3f}" for side in (one.measured, one.simulated))
            fit = "" if one.cell.held_out else " (fit)"
            seen = f"{100 * one.by_its_host.error:+.1f} %" if one.with_host else ""
            yield f"| {machine} | {one.cell.name}{fit} | {times} | {100 * one.error:+.1f} % | {seen} |"


def kernels() -> Iterator[str]:
    """Times of launches on one token each, us."""
    yield "| model | experts | bf16 | int8 | int4 | torch's int4 (q4_0) | int4 at the memory's bandwidth |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    profile = load_profile(MACHINES[0])
    for name in SHAPES:
        shape = load_shape(name)
        for experts in (1, 4, 8):
            times = [time_of(name, held, experts) for held in ("bf16", "int8", "int4", "q4_0")]
            bound = experts * shape.expert_bytes("int4") / profile["device.memory_bandwidth"] * 1e6
            yield f"| {name} | {experts} | {' | '.join(times)} | {bound:.0f} |"


def time_of(name: str, held: str, experts: int) -> str:
    """Measured time, us, on the first machine; empty if it was not measured."""
    shape, curves = load_shape(name), load_profile(MACHINES[0]).expert_curves
    sizes: Sequence[Any] = (shape.d_model, shape.experts.d_ff, shape.experts.gated, held, "fused", experts)
    for curve in curves:
        if (curve.d_model, curve.d_ff, curve.gated, curve.format, curve.kernel, curve.experts) == tuple(sizes):
            return f"{curve.points.times_ns[0] / 1e3:.0f}"
    return ""


if __name__ == "__main__":
    main()

"""`specmoe status` and `specmoe policies`: what there is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console

if TYPE_CHECKING:
    from specmoe.status import Extra, Inventory

GIB = 1 << 30


def status(
    directory: Annotated[
        Path, typer.Argument(help="Directory of your own traces; the directories in it are searched, too.")
    ] = Path(),
) -> None:
    """Show what is installed, whether a GPU is usable, and all traces, profiles, predictors and validations."""
    from specmoe.errors import InputError
    from specmoe.status import inventory, next_steps

    if not directory.is_dir():
        raise InputError(f"{directory}: a directory expected")
    found = inventory(directory)
    whole = _plain(found, next_steps(found))
    kinds = ("extras", "traces", "profiles", "predictors", "validations")
    if console.printed([whole], [{"kind": kind, **row} for kind in kinds for row in whole[kind]]):
        return
    _show_installed(found)
    _show_gpu(found)
    console.table([_trace_row(entry._asdict()) for entry in found.traces], title="Traces")
    console.table([_profile_row(entry._asdict()) for entry in found.profiles], title="Profiles")
    console.table([_validation_row(row._asdict()) for row in found.validations], title="Validations: mean steps")
    if found.predictors:
        rows = [entry._asdict() | {"top1": _percent(entry.top1)} for entry in found.predictors]
        console.table(rows, title="Trained predictors: first guess right, one layer ahead")
    console.say(f"{len(found.shapes)} model shapes: {', '.join(found.shapes)}\n")
    console.say("Next", bold=True)
    for step in next_steps(found):
        console.say(f"  {step}")


def _plain(found: "Inventory", steps: list[str]) -> dict[str, Any]:
    """The inventory as plain values for programs."""
    rows = {name: [entry._asdict() for entry in getattr(found, name)] for name in ("traces", "profiles", "predictors")}
    devices = [
        device._asdict() | {"profile": name} for device, name in zip(found.gpu.devices, found.matches, strict=True)
    ]
    return {
        "version": found.version,
        "python": found.python,
        "required": found.required,
        "extras": [extra._asdict() | {"missing": extra.missing} for extra in found.extras],
        "gpu": {"usable": bool(devices), "reason": found.gpu.reason, "devices": devices},
        **rows,
        "shapes": found.shapes,
        "validations": [row._asdict() for row in found.validations],
        "next": steps,
    }


def _show_installed(found: "Inventory") -> None:
    console.say(f"specmoe {found.version}, Python {found.python}", bold=True)
    console.say(f"  {_listed(found.required)}")
    console.table([_extra_row(extra) for extra in found.extras], title="Extras")


def _show_gpu(found: "Inventory") -> None:
    for device, name in zip(found.gpu.devices, found.matches, strict=True):
        known = f"profile {name}" if name else "no shipped profile is of this card"
        memory = f"{device.free_bytes / GIB:.1f} of {device.vram_bytes / GIB:.1f} GiB free"
        console.say(f"GPU: {device.name}, {memory}; {known}\n", fg="green")
    if found.gpu.reason:
        console.say(f"GPU: none usable: {found.gpu.reason}\n", fg="yellow")


def _listed(libraries: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {found or '(missing)'}" for name, found in libraries.items())


def _extra_row(extra: "Extra") -> dict[str, str]:
    state = f"missing: {', '.join(extra.missing)}" if extra.missing else "installed"
    return {"extra": extra.name, "state": state, "libraries": _listed(extra.libraries), "for": extra.purpose}


def _trace_row(entry: dict[str, Any]) -> dict[str, str]:
    routing = f"{entry['layers']} layers of {entry['experts']}, top {entry['top_k']}"
    return {name: str(entry[name]) for name in ("name", "where", "phase", "kind", "tokens")} | {"routing": routing}


def _profile_row(entry: dict[str, Any]) -> dict[str, str]:
    calibrations = {None: "none", True: "met its target", False: "missed its target"}
    return {
        "profile": entry["name"],
        "card": entry["title"],
        "VRAM GiB": f"{entry['vram_bytes'] / GIB:.1f}",
        "evidence": entry["evidence"],
        "assumed": f"{entry['assumed']} of {entry['numbers']}",
        "calibration": calibrations[entry["calibration_met"]],
    }


def _validation_row(row: dict[str, Any]) -> dict[str, str]:
    errors = {name: _percent(row[f"{name}_abs_error"], 2) for name in ("median", "p95", "worst")}
    cells = f"{row['cells']} {'held out' if row['held_out'] else 'all'}"
    return {"replayed on": row["profile"], "constants": row["constants"], "cells": cells, **errors}


def _percent(share: float, decimals: int = 0) -> str:
    return f"{100 * share:.{decimals}f} %"


def policies() -> None:
    """List every policy, eviction, miss rule and predictor: its name, what it does, and its source."""
    from specmoe import api

    names = ("policies", "evictions", "misses", "predictors")
    tables = {name: getattr(api, name)() for name in names}
    if console.printed([{"kind": kind, **row} for kind, table in tables.items() for row in _rows(table)]):
        return
    for kind, table in tables.items():
        console.table([{name: row[name] for name in ("name", "about", "source")} for row in _rows(table)], kind)


def _rows(table: Any) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]

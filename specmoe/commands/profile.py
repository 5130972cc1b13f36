"""`specmoe profile measure`.

`specmoe profile ...`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console
from specmoe.commands.values import several

if TYPE_CHECKING:
    from specmoe.hwprofiles import Format, HardwareProfile, ModelShape, Quantity
    from specmoe.hwprofiles.measure.job import Progress
    from specmoe.units import Dimension


def measure(
    out: Annotated[Path, typer.Option(help="The profile's file, .toml.")],
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Model shapes: a,b or repeated. By default switch-base-128 and mixtral-8x7b."),
    ] = None,
    held: Annotated[
        list[str] | None,
        typer.Option("--format", help="Of fp32, fp16, bf16, int8, int4: a,b or repeated. All by default."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the profile; by default the device's.")] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """Measure this machine's CUDA device, link, disk and host into a profile: about 3 minutes, on a quiet machine."""
    _require_torch()
    from specmoe.hwprofiles import load_shape
    from specmoe.hwprofiles.measure import job
    from specmoe.hwprofiles.measure.cuda import cuda_bench
    from specmoe.hwprofiles.measure.findings import SHAPES
    from specmoe.hwprofiles.profile_file import write_profile

    shapes, formats = [load_shape(one) for one in several(shape) or SHAPES], _formats(several(held))
    job.require_measurable(shapes)
    _require_place(out)
    began, skipped = perf_counter(), []

    with console.progress("parts") as bar:
        task = bar.add_task("measure", total=None)

        def on_progress(at: Progress) -> None:
            bar.update(task, completed=at.done, total=at.total, description=at.what)
            if at.skipped:
                skipped.append(at.what)

        profile = job.measure(shapes, formats, on_progress, cuda_bench(), name)
    write_profile(profile, out)
    _report(profile, out, skipped, perf_counter() - began, as_json)


def _formats(names: list[str]) -> list[Format]:
    from specmoe.errors import InputError, hint
    from specmoe.hwprofiles.formats import FORMATS

    for name in names:
        if name not in FORMATS:
            raise InputError(f"--format {name}: {hint(name, FORMATS)}")
    return [known for known in FORMATS if not names or known in names]


def _require_place(out: Path) -> None:
    """Refuse before three minutes are spent what could not be written after them."""
    from specmoe.errors import InputError

    if out.suffix != ".toml":
        raise InputError(f"{out}: a file name that ends in .toml expected")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out}: a file name in an existing directory expected")


def _require_torch() -> None:
    from importlib.util import find_spec

    from specmoe.errors import MissingExtraError

    if find_spec("torch") is None:
        raise MissingExtraError("torch", "torch")


def _report(profile: HardwareProfile, out: Path, skipped: list[str], seconds: float, as_json: bool) -> None:
    from specmoe.hwprofiles.measure.records import unstable

    shaky = unstable(profile)
    if as_json:
        facts = {"name": profile.name, "title": profile.title, "file": str(out), "seconds": round(seconds, 1)}
        numbers = {name: quantity.value for name, quantity in profile.quantities.items()}
        found = {"machine": dict(profile.machine), "quantities": numbers, "unstable": shaky, "skipped": skipped}
        console.print_json(facts | found)
        return
    console.table(_rows(profile, shaky), title=f"{profile.name}: {profile.title}")
    for why in skipped:
        console.say(f"left out: {why}")
    flagged = f", {len(shaky)} of them unstable: is the machine busy?" if shaky else ""
    console.say(f"{out}: measured in {seconds:.0f} s{flagged}")


def _rows(profile: HardwareProfile, shaky: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every number, and every curve by its ends."""
    from specmoe.hwprofiles.measure.records import named_points
    from specmoe.units import shown

    values = {name: " ".join(shown(q.value, q.unit)).rstrip() for name, q in profile.quantities.items()}
    for name, points in named_points(profile).items():
        first, last = ((points.amounts[at], points.times_ns[at]) for at in (0, -1))
        ends = (f"{' '.join(shown(ns, 'ns'))} for {' '.join(shown(n, points.unit))}" for n, ns in (first, last))
        values[name] = " .. ".join(ends)
    return [{"name": name, "measured": value, "": "unstable" * (name in shaky)} for name, value in values.items()]


app = console.group("Look at machines and models: how long things take, how large they are, and who says so.")

app.command()(measure)

ProfileName = Annotated[str, typer.Argument(help="A shipped profile such as rtx3090, or a .toml file.")]


@app.command("list")
def list_profiles(as_json: console.JsonFlag = False) -> None:
    """Show the shipped hardware profiles."""
    from specmoe.hwprofiles import load_profile, profile_names

    rows = [_overview(load_profile(name)) for name in profile_names()]
    console.print_json(rows) if as_json else console.table(rows)


@app.command()
def show(name: ProfileName, as_json: console.JsonFlag = False) -> None:
    """Show every number of a profile with its source, and its fits against what was measured."""
    from specmoe.hwprofiles import load_profile
    from specmoe.hwprofiles.fit import fit_rows

    profile = load_profile(name)
    fits = [row._asdict() | {"error": row.error} for row in fit_rows(profile)]
    if as_json:
        quantities = {name: dataclasses.asdict(quantity) for name, quantity in profile.quantities.items()}
        facts = {"name": profile.name, "title": profile.title, "hash": profile.hash, "assumed": profile.assumed()}
        found = {"machine": dict(profile.machine), "calibration": _calibration(profile)}
        console.print_json(facts | found | {"quantities": quantities, "fits": fits})
        return
    rows = [_quantity_row(name, quantity) for name, quantity in profile.quantities.items()]
    console.table(rows, title=f"{profile.name}: {profile.title}")
    _show_facts("Machine", profile.machine)
    _show_facts("Calibration", _calibration(profile) or {})
    if fits:
        console.table([_fit_row(row) for row in fits], title="Measured, and what this profile says")


@app.command()
def diff(first: ProfileName, second: ProfileName, as_json: console.JsonFlag = False) -> None:
    """Show the numbers in which two profiles differ."""
    from specmoe.hwprofiles import load_profile
    from specmoe.hwprofiles.what_if import differences

    one, other = load_profile(first), load_profile(second)
    rows = [row._asdict() | {"ratio": row.ratio} for row in differences(one, other)]
    if as_json:
        console.print_json(rows)
    elif rows:
        console.table([_diff_row(row, one.name, other.name) for row in rows])
    else:
        same = "" if one.hash == other.hash else " in a number; their measured curves, sources or names do"
        console.say(f"{one.name} and {other.name} do not differ{same}")


@app.command()
def fit(name: ProfileName, as_json: console.JsonFlag = False) -> None:
    """Fit a profile's derived numbers again, next to those in its file."""
    from specmoe.hwprofiles import load_profile
    from specmoe.hwprofiles.fit import refit

    profile = load_profile(name)
    fitted = refit(profile)
    if as_json:
        console.print_json({name: {"file": profile[name], "fitted": value} for name, value in fitted.items()})
    elif fitted:
        console.table([_refit_row(profile, name, value) for name, value in fitted.items()])
    else:
        console.say(f"{profile.name}: no number was fitted on points in its file, so there is nothing to fit again")


@app.command()
def shapes(
    name: Annotated[str | None, typer.Argument(help="One shape; all of them without it.")] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """Show the shipped model shapes, or one of them in full."""
    from specmoe.hwprofiles import load_shape, shape_names

    if name is None:
        rows = [_shape_overview(load_shape(known)) for known in shape_names()]
        console.print_json(rows) if as_json else console.table(rows)
        return
    facts = _shape_facts(load_shape(name))
    console.print_json(facts) if as_json else console.table([{"field": k, "value": str(v)} for k, v in facts.items()])


def _overview(profile: HardwareProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "title": profile.title,
        "vram_gib": round(profile["device.vram"] / 2**30, 1),
        "pinned_gb_s": round(profile.plateau("host_to_device.pinned") / 1e9, 1),
        "memory_gb_s": round(profile["device.memory_bandwidth"] / 1e9),
        "numbers": len(profile.quantities),
        "assumed": len(profile.assumed()),
    }


def _show_facts(title: str, facts: Mapping[str, Any]) -> None:
    if facts:
        console.table([{"fact": name, "value": str(value)} for name, value in facts.items()], title=title)


def _calibration(profile: HardwareProfile) -> dict[str, Any] | None:
    return None if profile.calibration is None else dataclasses.asdict(profile.calibration)


def _shape_overview(shape: ModelShape) -> dict[str, Any]:
    stacks = [shape.encoder, shape.decoder] if shape.encoder else [shape.decoder]
    return {
        "name": shape.name,
        "parameters_b": round(shape.total_parameters / 1e9, 2),
        "resident_b": round(shape.resident_parameters / 1e9, 2),
        "moe_layers": " + ".join(str(stack.moe_layers) for stack in stacks),
        "experts": shape.experts.number,
        "top_k": shape.experts.top_k,
        "format": shape.format,
        "expert_mib": round(shape.expert_bytes() / 2**20, 2),
    }


def _shape_facts(shape: ModelShape) -> dict[str, Any]:
    from specmoe.hwprofiles.formats import FORMATS

    counts = ("expert_parameters", "router_parameters", "resident_parameters", "total_parameters", "routed_experts")
    return (
        dataclasses.asdict(shape)
        | {name: getattr(shape, name) for name in counts}
        | {"expert_bytes": {held: shape.expert_bytes(held) for held in FORMATS}}
    )


def _quantity_row(name: str, quantity: Quantity) -> dict[str, str]:
    value, unit = _shown(quantity.value, quantity.unit)
    return {"name": name, "value": value, "unit": unit, "source": quantity.source, "ref": quantity.ref}


def _shown(value: float | None, unit: Dimension) -> tuple[str, str]:
    from specmoe.units import shown

    return ("-", "") if value is None else shown(value, unit)


def _joined(value: float | None, unit: Dimension) -> str:
    return " ".join(_shown(value, unit)).rstrip()


def _fit_row(row: dict[str, Any]) -> dict[str, str]:
    return {
        "what": row["what"],
        "at": row["at"],
        "measured": _joined(row["measured_ns"], "ns"),
        "profile": _joined(row["model_ns"], "ns"),
        "error": f"{row['error']:+.2%}",
    }


def _diff_row(row: dict[str, Any], first: str, second: str) -> dict[str, str]:
    values = {name: _joined(row[side], row["unit"]) for name, side in ((first, "first"), (second, "second"))}
    return {"name": row["name"], **values, "ratio": "-" if row["ratio"] is None else f"{row['ratio']:.3g}"}


def _refit_row(profile: HardwareProfile, name: str, value: float) -> dict[str, str]:
    unit = profile.quantities[name].unit
    both = {"file": profile[name], "fitted": value}
    return {"name": name} | {place: _joined(number, unit) for place, number in both.items()}

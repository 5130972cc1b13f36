"""`specmoe profile ...`: machines and models that are shipped, and the measurement of this machine."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.options import several

if TYPE_CHECKING:
    from specmoe.hwprofiles import Format, HardwareProfile, ModelShape
    from specmoe.hwprofiles.measure.job import Progress
    from specmoe.units import Dimension


def measure(
    out: Annotated[Path, typer.Option(help="The profile to write, a .toml file.")],
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="Models whose experts are timed, comma-separated or repeated: shipped shapes or .toml files. Default: "
            "switch-base-128 and mixtral-8x7b.",
            autocompletion=options.shapes,
        ),
    ] = None,
    held: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Expert formats to time, comma-separated or repeated: fp32, fp16, bf16, int8, int4. Default: all.",
            autocompletion=options.formats,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the profile. Default: made from the device's name.")] = None,
    visits: Annotated[
        int, typer.Option(help="Measure this many times; values are medians, ranges hold all visits.", min=1)
    ] = 1,
    apart: Annotated[float, typer.Option(help="Seconds between one visit and the next.", min=0)] = 300,
) -> None:
    """Measure this machine's CUDA device, PCIe link, disk and host (about 3 minutes; stop other work first)."""
    _require_torch()
    from specmoe.hwprofiles import load_shape
    from specmoe.hwprofiles.measure import job
    from specmoe.hwprofiles.measure.cuda import cuda_bench
    from specmoe.hwprofiles.measure.findings import SHAPES
    from specmoe.hwprofiles.measure.visits import over_visits
    from specmoe.hwprofiles.profile_file import write_profile

    shapes, formats = [load_shape(one) for one in several(shape) or SHAPES], _formats(several(held))
    job.require_measurable(shapes)
    _require_place(out)
    began, skipped = perf_counter(), []

    with console.progress("parts") as bar:
        task = bar.add_task("measure", total=None)

        def on_progress(at: "Progress") -> None:
            bar.update(task, completed=at.done, total=at.total, description=at.what)
            if at.skipped:
                skipped.append(at.what)

        bench = cuda_bench()
        profile = over_visits(lambda: job.measure(shapes, formats, on_progress, bench, name), visits, apart)
    write_profile(profile, out)
    _report(profile, out, list(dict.fromkeys(skipped)), perf_counter() - began)


def _formats(names: list[str]) -> "list[Format]":
    from specmoe.errors import InputError, hint
    from specmoe.hwprofiles.shape import KERNEL_FORMATS

    for name in names:
        if name not in KERNEL_FORMATS:
            raise InputError(f"--format {name}: {hint(name, KERNEL_FORMATS)}")
    return [known for known in KERNEL_FORMATS if not names or known in names]


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


def _report(profile: "HardwareProfile", out: Path, skipped: list[str], seconds: float) -> None:
    from specmoe.hwprofiles.measure.bench import unstable

    shaky = unstable(profile)
    facts = {"name": profile.name, "title": profile.title, "file": str(out), "seconds": round(seconds, 1)}
    numbers = {name: quantity.value for name, quantity in profile.quantities.items()}
    parts = {"machine": dict(profile.machine), "quantities": numbers, "unstable": shaky, "skipped": skipped}
    if console.printed([facts | parts], [{"name": name, "value": value} for name, value in numbers.items()]):
        return
    console.table(_rows(profile, shaky), title=f"{profile.name}: {profile.title}")
    for why in skipped:
        console.say(f"not measured: {why}")
    flagged = f", {len(shaky)} of them unstable: is the machine busy?" if shaky else ""
    console.say(f"{out}: measured in {seconds:.0f} s{flagged}")


def _rows(profile: "HardwareProfile", shaky: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every number, and every curve by its ends."""
    from specmoe.units import shown

    values = {name: " ".join(shown(q.value, q.unit)).rstrip() for name, q in profile.quantities.items()}
    for name, points in profile.named_points.items():
        first, last = ((points.amounts[at], points.times_ns[at]) for at in (0, -1))
        ends = (f"{' '.join(shown(ns, 'ns'))} for {' '.join(shown(n, points.unit))}" for n, ns in (first, last))
        values[name] = " .. ".join(ends)
    return [
        {"name": name, "measured": value, "range": _range(profile, name), "": "unstable" * (name in shaky)}
        for name, value in values.items()
    ]


def _range(profile: "HardwareProfile", name: str) -> str:
    """Range of a number in its unit, or factors of a curve's times; empty if none is known."""
    if name not in profile.ranges:
        return ""
    low, high = profile.ranges[name]
    if name not in profile:
        return f"times {low:.3g} .. {high:.3g}"
    return " .. ".join(_joined(end, profile.quantities[name].unit) for end in (low, high))


app = console.group("Show, compare and measure hardware profiles; show model shapes.")

app.command(
    examples=(
        "specmoe profile measure --out mine.toml",
        "specmoe profile measure --out mine.toml --shape mixtral-8x7b --format fp16,int4",
    )
)(measure)

ProfileName = Annotated[
    str,
    typer.Argument(help="A shipped profile's name, e.g. rtx3090, or a .toml file.", autocompletion=options.profiles),
]


@app.command("list", examples=("specmoe profile list", "specmoe profile list --markdown"))
def list_profiles() -> None:
    """List the shipped hardware profiles."""
    from specmoe.hwprofiles import load_profile, profile_names

    rows = [_overview(load_profile(name)) for name in profile_names()]
    if not console.printed(rows):
        console.table(rows)


@app.command(examples=("specmoe profile show rtx3090", "specmoe profile show mine.toml --csv"))
def show(name: ProfileName) -> None:
    """Show every number of a profile with its source, and its fitted curves beside the measurements."""
    from specmoe.hwprofiles import load_profile
    from specmoe.hwprofiles.fit import fit_rows

    profile = load_profile(name)
    fits = [row._asdict() | {"error": row.error} for row in fit_rows(profile)]
    quantities = {name: dataclasses.asdict(quantity) for name, quantity in profile.quantities.items()}
    facts = {"name": profile.name, "title": profile.title, "hash": profile.hash, "assumed": profile.assumed()}
    ranges = {name: list(bounds) for name, bounds in profile.ranges.items()}
    parts = {"machine": dict(profile.machine), "calibration": _calibration(profile), "ranges": ranges}
    shares = _share_rows()
    whole = facts | parts | {"quantities": quantities, "kernel_shares": shares, "fits": fits}
    if console.printed([whole], [{"name": name, **quantity} for name, quantity in quantities.items()]):
        return
    rows = [_quantity_row(profile, name) for name in profile.quantities]
    console.table(rows, title=f"{profile.name}: {profile.title}")
    factors = [{"curve": name, "range": _range(profile, name)} for name in profile.ranges if name not in profile]
    if factors:
        console.table(factors, title="Ranges of measured curves, as factors of all their times")
    console.table([_share_row(row) for row in shares], title="Shares of these numbers that fused kernels reach")
    _show_facts("Machine", profile.machine)
    _show_facts("Calibration", _calibration(profile) or {})
    if fits:
        console.table([_fit_row(row) for row in fits], title="Measured times, and those that this profile predicts")


@app.command(examples=("specmoe profile diff rtx3090 rtx4090",))
def diff(first: ProfileName, second: ProfileName) -> None:
    """Show the numbers in which two profiles differ."""
    from specmoe.hwprofiles import load_profile
    from specmoe.hwprofiles.what_if import differences

    one, other = load_profile(first), load_profile(second)
    rows = [row._asdict() | {"ratio": row.ratio} for row in differences(one, other)]
    if console.printed(rows):
        return
    if rows:
        console.table([_diff_row(row, one.name, other.name) for row in rows])
    else:
        same = "" if one.hash == other.hash else " in a number; their measured curves, sources or names do"
        console.say(f"{one.name} and {other.name} do not differ{same}")


@app.command(examples=("specmoe profile fit rtx3090",))
def fit(name: ProfileName) -> None:
    """Fit a profile's derived numbers again, and show them beside those in its file."""
    from specmoe.hwprofiles import load_profile
    from specmoe.hwprofiles.fit import refit

    profile = load_profile(name)
    fitted = refit(profile)
    rows = [{"name": name, "file": profile[name], "fitted": value} for name, value in fitted.items()]
    if console.printed(rows):
        return
    if fitted:
        console.table([_refit_row(profile, name, value) for name, value in fitted.items()])
    else:
        console.say(f"{profile.name}: no number was fitted on points in its file, so there is nothing to fit again")


@app.command(examples=("specmoe profile shapes", "specmoe profile shapes mixtral-8x7b"))
def shapes(
    name: Annotated[
        str | None, typer.Argument(help="Shape to show in full. Default: list all.", autocompletion=options.shapes)
    ] = None,
) -> None:
    """List the shipped model shapes, or show one of them in full."""
    from specmoe.hwprofiles import load_shape, shape_names

    if name is None:
        rows = [_shape_overview(load_shape(known)) for known in shape_names()]
        if not console.printed(rows):
            console.table(rows)
        return
    facts = _shape_facts(load_shape(name))
    if not console.printed([facts]):
        console.table([{"field": name, "value": str(value)} for name, value in facts.items()])


def _overview(profile: "HardwareProfile") -> dict[str, Any]:
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


def _calibration(profile: "HardwareProfile") -> dict[str, Any] | None:
    return None if profile.calibration is None else dataclasses.asdict(profile.calibration)


def _shape_overview(shape: "ModelShape") -> dict[str, Any]:
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


def _shape_facts(shape: "ModelShape") -> dict[str, Any]:
    from specmoe.hwprofiles.shape import FORMATS

    counts = ("expert_parameters", "router_parameters", "resident_parameters", "total_parameters", "routed_experts")
    return (
        dataclasses.asdict(shape)
        | {name: getattr(shape, name) for name in counts}
        | {"expert_bytes": {held: shape.expert_bytes(held) for held in FORMATS}}
    )


def _share_rows() -> list[dict[str, Any]]:
    """Shares of each class of formats with their spread between measured machines and sizes."""
    from specmoe.hwprofiles.shares import PARTS, kernel_shares

    return [
        {"name": f"{kind}.{part}", **getattr(shares, part)._asdict(), "source": "derived", "ref": shares.ref}
        for kind, shares in kernel_shares().items()
        for part in PARTS
    ]


def _share_row(row: Mapping[str, Any]) -> dict[str, str]:
    spread = f"{row['low']:.3g} .. {row['high']:.3g}"
    shown = {"name": row["name"], "value": f"{row['value']:.3g}", "range": spread}
    return shown | {"source": row["source"], "ref": row["ref"]}


def _quantity_row(profile: "HardwareProfile", name: str) -> dict[str, str]:
    quantity = profile.quantities[name]
    value, unit = _shown(quantity.value, quantity.unit)
    shown = {"name": name, "value": value, "unit": unit, "range": _range(profile, name)}
    return shown | {"source": quantity.source, "ref": quantity.ref}


def _shown(value: float | None, unit: "Dimension") -> tuple[str, str]:
    from specmoe.units import shown

    return ("-", "") if value is None else shown(value, unit)


def _joined(value: float | None, unit: "Dimension") -> str:
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


def _refit_row(profile: "HardwareProfile", name: str, value: float) -> dict[str, str]:
    unit = profile.quantities[name].unit
    both = {"file": profile[name], "fitted": value}
    return {"name": name} | {place: _joined(number, unit) for place, number in both.items()}

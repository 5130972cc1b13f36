"""`specmoe profile ...`: machines that are shipped, and the measurement of this machine."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.measure import joined, measure, range_of, require_place, shown_number

if TYPE_CHECKING:
    from specmoe.hwprofiles import HardwareProfile
    from specmoe.hwprofiles.profile import Host


app = console.group("Show, compare and measure hardware profiles.")

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


@app.command("hosts", examples=("specmoe profile hosts", "specmoe profile hosts --json"))
def list_hosts() -> None:
    """List the shipped hosts, for --host: link, memory, CPU, launches and waits, disk."""
    from specmoe.hwprofiles.catalogue import host_names, load_host

    rows = [_host_overview(load_host(name)) for name in host_names()]
    if not console.printed(rows):
        console.table(rows)


@app.command(
    examples=(
        "specmoe profile new --base rtx4090 --set device.vram=48GiB --out mine.toml",
        "specmoe profile new --base rtx4090 --host laptop-x8 --set device.memory_bandwidth=520GB/s "
        "--ref 'vendor data sheet' --out mine.toml",
    )
)
def new(
    out: Annotated[Path, typer.Option(help="The profile to write, a .toml file.")],
    base: Annotated[
        str | None,
        typer.Option(
            help="Similar machine, whose numbers are assumed for all that are not given: a shipped profile's name or a "
            ".toml file. Default: none, so all must be given.",
            autocompletion=options.profiles,
        ),
    ] = None,
    host: options.Host = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", help="A number of the machine, e.g. device.vram=48GiB. May be repeated."),
    ] = None,
    ref: Annotated[
        str | None,
        typer.Option(help="Where the given numbers are published. Default: nowhere, so they are assumed."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the profile. Default: that of the file.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the profile. Default: its name.")] = None,
) -> None:
    """Write a profile from a spec sheet: numbers that are given, and those of a similar machine for all others."""
    from specmoe.hwprofiles.catalogue import load_profile, machine_name
    from specmoe.hwprofiles.profile_file import write_profile
    from specmoe.hwprofiles.what_if import from_spec_sheet

    require_place(out)
    values = dict(map(_number, given or []))
    called = name or out.stem
    similar = None if base is None else load_profile(machine_name(base, host))
    profile = from_spec_sheet(called, title or called, values, ref, similar)
    write_profile(profile, out)
    assumed = len(profile.assumed())
    if not console.printed([_overview(profile) | {"file": str(out)}]):
        console.say(f"{out}: {len(values)} of {len(profile.quantities)} numbers given, {assumed} assumed")


def _number(pair: str) -> tuple[str, float]:
    """A quantity's name and value, in base units, of text such as nvme.bandwidth=7GB/s; raises InputError."""
    from specmoe.errors import InputError, hint
    from specmoe.hwprofiles.quantity import QUANTITIES
    from specmoe.units import quantity

    name, equals, text = pair.partition("=")
    if not equals:
        raise InputError(f"--set {pair}: name=value expected")
    if name not in QUANTITIES:
        raise InputError(f"--set {pair}: {name}: no such quantity: {hint(name, QUANTITIES)}")
    return name, quantity(f"--set {pair}", name, text, QUANTITIES[name])


@app.command(examples=("specmoe profile show rtx3090 --host laptop-x8", "specmoe profile show mine.toml --csv"))
def show(name: ProfileName, host: options.Host = None) -> None:
    """Show every number of a profile with its source, and its fitted curves beside the measurements."""
    from specmoe.hwprofiles.catalogue import load_profile, machine_name
    from specmoe.hwprofiles.fit import fit_rows

    profile = load_profile(machine_name(name, host))
    fits = [row._asdict() | {"error": row.error} for row in fit_rows(profile)]
    quantities = {name: dataclasses.asdict(quantity) for name, quantity in profile.quantities.items()}
    facts = {
        "name": profile.name,
        "title": profile.title,
        "host": profile.host,
        "hash": profile.hash,
        "assumed": profile.assumed(),
    }
    ranges = {name: list(bounds) for name, bounds in profile.ranges.items()}
    parts = {"machine": dict(profile.machine), "calibration": _calibration(profile), "ranges": ranges}
    shares = _share_rows()
    whole = facts | parts | {"quantities": quantities, "kernel_shares": shares, "fits": fits}
    if console.printed([whole], [{"name": name, **quantity} for name, quantity in quantities.items()]):
        return
    rows = [_quantity_row(profile, name) for name in profile.quantities]
    console.table(rows, title=f"{profile.name}: {profile.title}")
    factors = [{"curve": name, "range": range_of(profile, name)} for name in profile.ranges if name not in profile]
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


def _overview(profile: "HardwareProfile") -> dict[str, Any]:
    return {
        "name": profile.name,
        "title": profile.title,
        "host": profile.host or "",
        "vram_gib": round(profile["device.vram"] / 2**30, 1),
        "pinned_gb_s": round(profile.plateau("host_to_device.pinned") / 1e9, 1),
        "memory_gb_s": round(profile["device.memory_bandwidth"] / 1e9),
        "numbers": len(profile.quantities),
        "assumed": len(profile.assumed()),
    }


def _host_overview(host: "Host") -> dict[str, Any]:
    from specmoe.hwprofiles.profile import plateau_of

    rates = {
        name: round(plateau_of(copy, host.quantities, host.points) / 1e9, 1)
        for name, copy in (("pinned_gb_s", "host_to_device.pinned"), ("pageable_gb_s", "host_to_device.pageable"))
    }
    link = {name: round(host.quantities[f"link.{name}"].value) for name in ("generation", "lanes")}
    return {"name": host.name, "title": host.title, **link, **rates, "measured_with": host.measured_with or ""}


def _show_facts(title: str, facts: Mapping[str, Any]) -> None:
    if facts:
        console.table([{"fact": name, "value": str(value)} for name, value in facts.items()], title=title)


def _calibration(profile: "HardwareProfile") -> dict[str, Any] | None:
    return None if profile.calibration is None else dataclasses.asdict(profile.calibration)


def _share_rows() -> list[dict[str, Any]]:
    """Shares of each class of formats with their spread between measured machines and sizes."""
    from specmoe.hwprofiles.kernels import PARTS, kernel_shares

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
    value, unit = shown_number(quantity.value, quantity.unit)
    shown = {"name": name, "value": value, "unit": unit, "range": range_of(profile, name)}
    return shown | {"source": quantity.source, "ref": quantity.ref}


def _fit_row(row: dict[str, Any]) -> dict[str, str]:
    return {
        "what": row["what"],
        "at": row["at"],
        "measured": joined(row["measured_ns"], "ns"),
        "profile": joined(row["model_ns"], "ns"),
        "error": f"{row['error']:+.2%}",
    }


def _diff_row(row: dict[str, Any], first: str, second: str) -> dict[str, str]:
    values = {name: joined(row[side], row["unit"]) for name, side in ((first, "first"), (second, "second"))}
    return {"name": row["name"], **values, "ratio": "-" if row["ratio"] is None else f"{row['ratio']:.3g}"}


def _refit_row(profile: "HardwareProfile", name: str, value: float) -> dict[str, str]:
    unit = profile.quantities[name].unit
    both = {"file": profile[name], "fitted": value}
    return {"name": name} | {place: joined(number, unit) for place, number in both.items()}

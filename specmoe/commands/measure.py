"""`specmoe profile measure`, and how numbers of profiles are shown."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.options import several
from specmoe.errors import InputError, hint, require_torch

if TYPE_CHECKING:
    from specmoe.hwprofiles import Format, HardwareProfile
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
    """Measure this machine's CUDA device, PCIe link, disk, host and CPU (some minutes; stop other work first)."""
    require_torch()
    from specmoe.hwprofiles import load_shape
    from specmoe.hwprofiles.measure import job
    from specmoe.hwprofiles.measure.cuda import cuda_bench
    from specmoe.hwprofiles.measure.findings import SHAPES, over_visits
    from specmoe.hwprofiles.profile_file import write_profile

    shapes, formats = [load_shape(one) for one in several(shape) or SHAPES], _formats(several(held))
    job.require_measurable(shapes)
    require_place(out)
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
    from specmoe.hwprofiles.shape import KERNEL_FORMATS

    for name in names:
        if name not in KERNEL_FORMATS:
            raise InputError(f"--format {name}: {hint(name, KERNEL_FORMATS)}")
    return [known for known in KERNEL_FORMATS if not names or known in names]


def require_place(out: Path) -> None:
    """Refuse before three minutes are spent what could not be written after them."""

    if out.suffix != ".toml":
        raise InputError(f"{out}: a file name that ends in .toml expected")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out}: a file name in an existing directory expected")


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
        {"name": name, "measured": value, "range": range_of(profile, name), "": "unstable" * (name in shaky)}
        for name, value in values.items()
    ]


def range_of(profile: "HardwareProfile", name: str) -> str:
    """Range of a number in its unit, or factors of a curve's times; empty if none is known."""
    if name not in profile.ranges:
        return ""
    low, high = profile.ranges[name]
    if name not in profile:
        return f"times {low:.3g} .. {high:.3g}"
    return " .. ".join(joined(end, profile.quantities[name].unit) for end in (low, high))


def shown_number(value: float | None, unit: "Dimension") -> tuple[str, str]:
    """Value and unit of a number as people read it; a dash for none."""
    from specmoe.units import shown

    return ("-", "") if value is None else shown(value, unit)


def joined(value: float | None, unit: "Dimension") -> str:
    """A number with its unit as people read it."""
    return " ".join(shown_number(value, unit)).rstrip()

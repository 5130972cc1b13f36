"""`specmoe profile measure`."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console
from specmoe.commands.values import several

if TYPE_CHECKING:
    from specmoe.hwprofiles import Format, HardwareProfile
    from specmoe.hwprofiles.measure.job import Progress


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
    from specmoe.hwprofiles.measure.plan import SHAPES
    from specmoe.hwprofiles.writing import write_profile

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

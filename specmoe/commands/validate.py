"""`specmoe validate`, `calibrate` and `checksums`: compare the simulator with a CUDA device."""

import importlib.util
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from specmoe.commands import console, options
from specmoe.commands.options import choice, home_of, several
from specmoe.errors import InputError, require_torch

if TYPE_CHECKING:
    from specmoe.hwprofiles import HardwareProfile
    from specmoe.validate.grid import Cell
    from specmoe.validate.measured import Steps
    from specmoe.validate.validation import Measured, Plan
    from specmoe.validation_table import CellFidelity, Circumstances, Overall

Facts = Mapping[str, Any]
ProfileOption = Annotated[
    str,
    typer.Option(
        help="Profile of the machine that replays: a shipped profile's name or a .toml file.",
        autocompletion=options.profiles,
    ),
]
ForceFlag = Annotated[bool, typer.Option("--force", help="Compare even if the profile describes another device.")]
GRIDS = ("quick", "full")
STEPS_ENDING = ".steps.parquet"
COLUMNS = {  # of the table, by their titles
    "group": "group",
    "policy": "policy",
    "slots": "slots",
    "role": "role",
    "real ms": "measured ms",
    "sim. ms": "simulated ms",
    "error": "error",
    "corr.": "correlation",
    "spread": "spread",
}
SHOWN, SHOWN_STEP = "lookahead", 5  # what the timelines show


class _Held(NamedTuple):
    """What is needed to draw timelines; nothing is measured where replays were read."""

    plan: "Plan"
    measured: "dict[Cell, Measured]"


def validate(
    traces: options.Traces,
    profile: ProfileOption,
    out: Annotated[
        Path, typer.Option(help="Directory for the results: errors and steps (JSON, Parquet), plots and a timeline.")
    ],
    grid: Annotated[
        str,
        typer.Option(
            help="Cells to replay (policies, slots, formats, batches): quick, full or a .toml file.",
            autocompletion=options.completing(lambda: GRIDS),
        ),
    ] = "quick",
    repeats: Annotated[int, typer.Option(help="Number of measured runs per cell.")] = 7,
    emulate: Annotated[
        str | None,
        typer.Option(
            help="Profile of a slower machine, whose PCIe link and VRAM the replay imitates.",
            autocompletion=options.profiles,
        ),
    ] = None,
    replayed: Annotated[
        Path | None,
        typer.Option(
            help=f"Compare with the stored replays in this *{STEPS_ENDING} file. Default: replay on this device."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the files. Default: the profile's name.")] = None,
    host: options.Host = None,
    force: ForceFlag = False,
) -> None:
    """Replay policies on this CUDA device and compare measured with simulated times.

    Each cell of the grid (policy, slots, format, batch) is decided once, simulated, and executed: experts are copied
    from pinned host memory into slots on one stream, and captured kernels compute on another.
    """
    from specmoe.files import directory_for
    from specmoe.hwprofiles.catalogue import load_profile, machine_name
    from specmoe.validate.fidelity import rows
    from specmoe.validate.store import save, verdict
    from specmoe.validation_table import paths_of

    began, machine_profile = time.monotonic(), load_profile(machine_name(profile, host))
    paths_of(out, name or machine_profile.name)  # a wrong name is found before the first run
    measured: dict[Cell, Measured] = {}
    with directory_for(out):
        if replayed is None:
            plan, cells, measured, device = _replay(traces, machine_profile, grid, repeats, emulate, force)
            steps = {cell: found.steps for cell, found in measured.items()}
        else:
            plan, cells, steps, device = _judge_again(traces, machine_profile, replayed)
        about = _circumstances(plan, name or plan.profile.name, device, time.monotonic() - began)
        paths = save(out, about, cells, steps)
    paths += _pictures(out, about, cells, _Held(plan, measured))
    if console.printed([verdict(cells) | {"files": [str(path) for path in paths]}], rows(cells)):
        return
    _show(cells, about)
    console.say("written: " + ", ".join(str(path) for path in paths))


def calibrate(
    replayed: Annotated[Path, typer.Argument(help=f"Replays: the *{STEPS_ENDING} file of a validation.")],
    traces: Annotated[list[str], typer.Argument(help="Traces that were replayed.", autocompletion=options.traces)],
    profile: ProfileOption,
    out: Annotated[Path, typer.Option(help="The calibrated profile to write, a .toml file.")],
    host: options.Host = None,
) -> None:
    """Fit a profile's host constants on the replays of a grid's fit cells, and test them on the other cells."""
    from specmoe.hwprofiles.catalogue import load_profile, machine_name
    from specmoe.validate.calibration import calibrated

    with console.progress("fits") as bar:
        task = bar.add_task("fitting", total=None)
        found = calibrated(
            replayed, traces, load_profile(machine_name(profile, host)), lambda: bar.update(task, advance=1)
        )
    found.write(out)
    rows = [{"constant": name, **values} for name, values in found.table().items()]
    if console.printed([found.summary()], rows):
        return
    console.table(rows, title=f"{found.profile.name}: constants fitted on {len(found.fitted.cells)} cells")
    for warning in (*found.notes, *found.fitted.warnings):
        console.say(f"warning: {warning}", fg="yellow")
    _verdict(found.cells)


def checksums(
    trace: options.Trace,
    policy: options.PolicyList = None,
    shape: options.Shape = None,
    format: options.Format = None,  # noqa: A002  # the option's name
    home_format: options.HomeFormat = None,
    slots: Annotated[
        int, typer.Option(help="Number of experts that VRAM holds; with few, slots are reused soon.")
    ] = 12,
    batch: options.Batch = 8,
    steps: Annotated[int, typer.Option(help="Stop after this many steps.")] = 20,
) -> None:
    """Check on this CUDA device that each policy computes the same as a model whose experts are all resident."""
    require_torch()
    from dataclasses import replace

    from specmoe.hwprofiles.shape import FORMATS
    from specmoe.sim.config import RunConfig
    from specmoe.sim.decide.policy import POLICIES, chosen_names
    from specmoe.sim.run import Scenario
    from specmoe.validate.checksums import check_policies
    from specmoe.validate.grid import replayed_style
    from specmoe.validate.machine import checked_device

    home = home_of("host-pinned", home_format, 0)
    held = None if format is None else choice("format", format, FORMATS)
    spec = RunConfig(trace, shape=shape, format=held, slots=slots, batch=batch, steps=steps, home=home, padded=True)
    spec = replace(spec, warm_up=0, staggered=False, truncated=True)
    own = Scenario(spec).format
    scenario = Scenario(spec.having(style=replayed_style(own)))
    asked = several(policy)
    names = list(POLICIES) if policy is None else chosen_names(asked)
    for chosen in names:
        scenario.policy(chosen)  # a wrong name is found before the first run
    rows = []
    with console.progress("policies") as bar:
        task = bar.add_task("checking", total=len(names))
        for checked in check_policies(scenario, names, checked_device(scenario)):
            rows.append(checked._asdict())
            bar.update(task, advance=1, description=checked.policy)
    if not console.printed(rows):
        console.table(rows)
    wrong = [row["policy"] for row in rows if row["wrong"]]
    if wrong:
        raise InputError(f"{', '.join(wrong)}: experts computed something else than with all of them resident")


def _replay(
    traces: list[str], profile: "HardwareProfile", grid_name: str, repeats: int, emulate: str | None, force: bool
) -> "tuple[Plan, list[CellFidelity], dict[Cell, Measured], Facts]":
    """Plan, run and judge."""
    require_torch()
    import dataclasses

    from specmoe.hwprofiles import load_profile
    from specmoe.validate.grid import grid
    from specmoe.validate.machine import this_machine
    from specmoe.validate.validation import (
        emulating,
        number_of_runs,
        plan,
        require_same_device,
        traces_by_phase,
        validate,
        with_room,
    )

    other = None if emulate is None else load_profile(emulate)
    by_phase, cells = traces_by_phase(traces), grid(grid_name)
    machine = this_machine(profile, other)
    notes = require_same_device(profile, machine.facts, force)
    planned = plan(cells, by_phase, profile) if other is None else emulating(cells, by_phase, profile, other)
    planned = with_room(dataclasses.replace(planned, notes=(*planned.notes, *notes)), machine)
    with console.progress("runs") as bar:
        task = bar.add_task("replaying", total=number_of_runs(planned.cells, repeats))
        found = validate(planned, machine, repeats, lambda: bar.update(task, advance=1))
    return planned, found.cells, found.measured, machine.facts


def _judge_again(
    traces: list[str], profile: "HardwareProfile", replayed: Path
) -> "tuple[Plan, list[CellFidelity], dict[Cell, Steps], Facts]":
    """Judge a profile by stored replays; the device is what the JSON beside them says."""
    from specmoe.validate.store import load, read_steps
    from specmoe.validate.validation import plan, rejudged, traces_by_phase

    if not replayed.name.endswith(STEPS_ENDING):
        raise InputError(f"{replayed}: a file named *{STEPS_ENDING} expected")
    device = load(replayed.with_name(replayed.name.removesuffix(STEPS_ENDING) + ".json")).circumstances.device
    steps = read_steps(replayed)
    planned = plan(tuple(steps), traces_by_phase(traces), profile)
    return planned, rejudged(steps, planned), {cell: steps[cell] for cell in planned.cells}, device


def _circumstances(plan: "Plan", name: str, device: Facts, seconds: float) -> "Circumstances":
    from specmoe.files import library_versions
    from specmoe.validate.validation import circumstances

    libraries = [
        "numpy",
        "simpy",
        *(["torch"] if importlib.util.find_spec("torch") else []),
    ]  # replays are judged without it, too
    today = date.today().isoformat()
    return circumstances(plan, name, device, seconds, today, library_versions(*libraries))


def _pictures(out: Path, about: "Circumstances", cells: "list[CellFidelity]", held: _Held) -> list[Path]:
    """Plots of all cells; and where runs were made here, both timelines of one cell's."""
    from specmoe.analysis.figures.fidelity import about_of, headline, plot_errors, plot_parts, plot_prediction

    caption = about_of(about)
    title = headline(cells)
    plots = {"predicted": plot_prediction, "errors": plot_errors, "parts": plot_parts}
    paths = {name: out / f"{about.name}.{name}.png" for name in plots}
    for name, plot in plots.items():
        plot(cells, paths[name], title, caption)
    return [*paths.values(), *(_timelines(out, about, held) if held.measured else [])]


def _timelines(out: Path, about: "Circumstances", held: _Held) -> list[Path]:
    """A step of one cell as a picture, and the whole run for ui.perfetto.dev."""
    from specmoe.analysis.figures.timeline import plot_timelines
    from specmoe.sim.event_table import simulated_spans
    from specmoe.timeline import write_spans
    from specmoe.validate.measured import measured_spans

    cell, found = next(
        ((c, m) for c, m in held.measured.items() if c.policy == SHOWN), next(iter(held.measured.items()))
    )
    run = held.plan.simulation.run(cell)
    spans = {
        "measured": measured_spans(found.work, found.traced),
        "simulated": simulated_spans(run.decisions, run.durations, run.timing),
    }
    png, timeline = out / f"{about.name}.timeline.png", out / f"{about.name}.timeline.json"
    caption = f"{cell.name} on {about.device.get('device')}; traced, which makes a run somewhat slower."
    plot_timelines(
        spans, min(SHOWN_STEP, (cell.config.steps or 1) - 1), png, "One step, on the device and simulated", caption
    )
    write_spans(timeline, spans)
    return [png, timeline]


def _show(cells: "list[CellFidelity]", about: "Circumstances") -> None:
    from specmoe.validate.fidelity import rows

    shown = [{title: row[name] for title, name in COLUMNS.items()} for row in rows(cells)]
    console.table(shown, title=f"{about.profile} on {about.device.get('device')}")
    _verdict(cells)
    console.say(f"evidence of the simulation: {about.evidence}; semantics: {about.semantics}")
    for note in about.notes:
        console.say(f"note: {note}", fg="yellow")


def _verdict(cells: "list[CellFidelity]") -> None:
    """What the held-out cells say, and which targets they miss."""
    from specmoe.validate.fidelity import failed, overall

    for role, title in (("held_out", "held out"), ("fit", "fitted on")):
        mine = [cell for cell in cells if cell.cell.role == role]
        if mine:
            console.say(f"{title}: {_in_words(overall(mine))}")
    held_out = [cell for cell in cells if cell.cell.role == "held_out"]
    missed = failed(overall(held_out) if held_out else None)
    for line in missed:
        console.say(f"FAILED: {line}", fg="red")
    if not missed:
        console.say("all targets met", fg="green")


def _in_words(found: "Overall") -> str:
    tau = "-" if found.kendall_tau is None else f"{found.kendall_tau:.3f}"
    correlation = "-" if found.median_step_correlation is None else f"{found.median_step_correlation:.4f}"
    errors = (found.median_abs_error, found.p95_abs_error, found.worst_abs_error)
    median, high, worst = (f"{100 * error:.2f} %" for error in errors)
    parts = (found.mean_compute_error, found.mean_stall_error, found.mean_host_error)
    compute, stall, host = (f"{100 * error:+.2f} %" for error in parts)
    return (
        f"{found.cells} cells, error of the mean step: median {median}, p95 {high}, worst {worst} "
        f"({found.worst_cell}); "
        f"of compute {compute}, stall {stall}, host {host}; steps' correlation {correlation}; "
        f"order of policies: Kendall tau {tau} of {found.kendall_pairs} pairs"
    )

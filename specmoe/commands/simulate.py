"""`specmoe simulate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console
from specmoe.commands.values import choice, home_of, parse_bytes, parse_override, several
from specmoe.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from specmoe.sim.run import Run, RunSpec, Scenario

NAMED = 3  # values that are named; of more, the number


def simulate(
    trace: Annotated[str, typer.Argument(help="A bundled trace's name or a trace file.")],
    policy: Annotated[list[str], typer.Option(help="Policies to compare: a,b,c or repeated; `all` is every one.")],
    profile: Annotated[str, typer.Option(help="Machine: a shipped profile or a .toml file.")] = "rtx3090",
    shape: Annotated[str, typer.Option(help="Model: a shipped shape or a .toml file.")] = "switch-base-128",
    phase: Annotated[str | None, typer.Option(help="decode or encode; must be the trace's.")] = None,
    slots: Annotated[int | None, typer.Option(help="Experts that VRAM holds (several: specmoe sweep).")] = None,
    vram: Annotated[str | None, typer.Option(help="VRAM for all weights, such as 8GiB; dense ones come first.")] = None,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 1,
    format: Annotated[str | None, typer.Option(help="fp32, fp16, bf16, int8 or int4; without: the shape's.")] = None,  # noqa: A002  # the option's name
    link: Annotated[str, typer.Option(help="fifo, priority or chunked.")] = "fifo",
    tier: Annotated[str, typer.Option(help="Where experts live: host-pinned, host-pageable or nvme.")] = "host-pinned",
    home_format: Annotated[str | None, typer.Option(help="Format of the experts at home; without: the slots'.")] = None,
    compressed_slots: Annotated[int, typer.Option(help="Experts that VRAM holds in the home's format, too.")] = 0,
    host: Annotated[str, typer.Option(help="Host costs: graph (captured) or eager.")] = "graph",
    steps: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    train: Annotated[str | None, typer.Option(help="Trace that popularity and predictors are learnt from.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Directory that keeps predictions between runs.")] = None,
    break_even: Annotated[
        bool, typer.Option("--break-even", help="From which precision on prefetching pays; with --out, a picture.")
    ] = False,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a value of policy or profile: prefetch.limit=2, nvme.bandwidth=7GB/s, ..."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory for the results, a Parquet file a policy.")] = None,
    timeline: Annotated[
        Path | None, typer.Option(help="Timeline of one policy's first steps, a .json file for ui.perfetto.dev.")
    ] = None,
    timeline_policy: Annotated[
        str | None,
        typer.Option(help="Policy in the timeline. Default: the fastest one that loads experts and is no yardstick."),
    ] = None,
    timeline_steps: Annotated[int | None, typer.Option(min=1, help="Steps in the timeline. Default: 200.")] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """How fast a policy is on recorded routing, and how far from the best possible."""
    from specmoe.sim.decide.policy import chosen_names
    from specmoe.sim.run import RunSpec

    spec = RunSpec(
        trace=trace,
        profile=profile,
        shape=shape,
        format=format,
        slots=slots,
        vram=None if vram is None else parse_bytes("vram", vram),
        batch=batch,
        steps=steps,
        link=choice("link", link, ("fifo", "priority", "chunked")),
        home=home_of(tier, home_format, compressed_slots),
        host_set=choice("host", host, ("graph", "eager")),
        train=train,
        predictions=predictions,
        break_even=break_even,
        overrides=dict(map(parse_override, override or [])),
    )
    asked = several(policy)
    everything = asked == ["all"]
    names = chosen_names(asked)
    shown = _timeline(timeline, timeline_policy, timeline_steps, names)
    summaries, told, failures = _run(spec, phase, names, everything, out, shown)
    drawn = "" if shown is None else shown.write()
    if as_json:
        console.print_json(summaries[0] if len(names) == 1 else [*summaries, *failures])
        return
    show(summaries)
    for failure in failures:
        console.say(f"not run: {failure['policy']}: {failure['error']}")
    if told:
        console.say(told, fg="green")
    if drawn:
        console.note(drawn)


def _run(
    spec: RunSpec, phase: str | None, names: list[str], lenient: bool, out: Path | None, timeline: _Timeline | None
) -> tuple[list[dict[str, Any]], str, list[dict[str, str]]]:
    """Simulate the policies and write what is wanted; the summaries, the break-even in words, and who could not run.

    One that cannot is an error, unless `lenient` and another can.
    """
    from specmoe.files import make_directory
    from specmoe.results import summary
    from specmoe.sim.run import Scenario

    summaries: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    with console.progress("policies") as bar:
        task = bar.add_task("simulating", total=len(names))
        scenario = Scenario(spec)
        if phase is not None and phase != scenario.trace.meta.phase:
            raise InputError(f"--phase {phase}: {spec.trace} is a trace of {scenario.trace.meta.phase}")
        for name in names:
            scenario.policy(name)  # a wrong name is found before the first run
        if out is not None:
            make_directory(out)
        for number, name in enumerate(names):
            bar.update(task, description=name)
            run, error = _attempt(scenario, name)
            bar.advance(task)
            if error is not None and (not lenient or (number == len(names) - 1 and not summaries)):
                raise error
            if run is None:
                failures.append({"policy": name, "error": str(error)})
                continue
            summaries.append(summary(run.result))
            if out is not None:
                run.result.save(out / f"{name}.parquet")
            if timeline is not None:
                timeline.consider(run, summaries[-1])
    return summaries, _break_even(scenario, summaries, out) if spec.break_even else "", failures


@dataclass
class _Timeline:
    """Where a timeline goes, of which policy and how many steps; it keeps the one run that it may be of."""

    path: Path
    policy: str | None
    steps: int
    run: Run | None = None
    rank: tuple[bool, bool, int] = (True, True, 0)

    def consider(self, run: Run, figures: dict[str, Any]) -> None:
        """Keep the run if it is the policy's, or better: no yardstick before one, loads before none, then the time."""
        if self.policy not in (None, figures["policy"]):
            return
        rank = (figures["yardstick"], figures["bytes_loaded"] == 0, figures["latency_ns"]["mean"])
        if self.run is None or rank < self.rank:
            self.run, self.rank = run, rank

    def write(self) -> str:
        """Write it; what it holds, in words."""
        from specmoe.sim.timing.timeline import write_timeline

        run = self.run
        if run is None:
            raise InputError(f"--timeline-policy {self.policy}: it did not run")
        write_timeline(run.decisions, run.durations, run.timing, self.path, self.steps)
        total = run.decisions.num_steps
        return (
            f"timeline: {self.path}: {run.result.manifest.policy}, the first {min(self.steps, total)} of {total} steps"
        )


def _timeline(path: Path | None, policy: str | None, steps: int | None, names: list[str]) -> _Timeline | None:
    """What the options say; raises InputError where they do not fit together."""
    from specmoe.sim.timing.timeline import STEPS

    if policy is not None and policy not in names:
        raise InputError(f"--timeline-policy {policy}: one of --policy expected")
    if path is None and (policy, steps) != (None, None):
        raise InputError("--timeline FILE expected with --timeline-policy and --timeline-steps")
    return None if path is None else _Timeline(path, policy, steps or STEPS)


def _attempt(scenario: Scenario, name: str) -> tuple[Run | None, InputError | MissingExtraError | None]:
    """A policy's run, or why it cannot be."""
    try:
        return scenario.run(name), None
    except (InputError, MissingExtraError) as error:
        return None, error


def _break_even(scenario: Scenario, summaries: list[dict[str, Any]], out: Path | None) -> str:
    """In words; with `out`, as a picture too."""
    from specmoe.analysis.figures.precision import plot_break_even
    from specmoe.sim.break_even import curve

    found = scenario.break_even()
    machine = f"on this machine ({scenario.profile.name})"
    if out is not None:
        points = [(point.bandwidth, point.at.precision) for point in curve(scenario, scenario.sweep())]
        plot_break_even(points, found.precision, summaries, out / "break_even.png")
    if found.precision is None:
        return f"{found.reason} {machine}"
    return f"prefetching one expert ahead pays above {100 * found.precision:.0f} % precision {machine}"


def show(summaries: list[dict[str, Any]]) -> None:
    """A table, the bounds, and what to know before believing it."""
    first = summaries[0]
    console.table(table_rows(summaries))
    limits = ", ".join(f"{name.removesuffix('_ns')} {value / 1e6:.3f}" for name, value in first["bounds"].items())
    console.note(
        "used: of the prefetched experts; foreseen: of the loads worth making; wasted: copied and never used; "
        "stall: ms a step that the compute stream waits for loads"
    )
    console.say(f"bounds, ms a step: {limits}")
    console.note(
        f"{first['trace']} ({first['trace_kind']}), {first['steps']} steps of batch {first['batch']}; "
        f"{first['shape']} in {first['format']}, {min(row['slots'] for row in summaries)} slots; {first['profile']}"
    )
    console.note(f"evidence: {first['evidence']}; semantics: {first['semantics']}; assumed: {_assumed(summaries)}")
    for warning in sorted({warning for row in summaries for warning in row["warnings"]}):
        console.note(f"warning: {warning}", fg="yellow")


def table_rows(summaries: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Cells of the table by column, the fastest policy first."""
    bounds = summaries[0]["bounds"]
    return [
        {
            "policy": row["policy"],
            "step ms": f"{row['latency_ns']['mean'] / 1e6:.3f}",
            "tokens/s": f"{row['tokens_per_second']:.1f}",
            "x oracle": f"{row['latency_ns']['mean'] / bounds['oracle_ns']:.2f}",
            "hits": f"{100 * row['hit_rate']:.0f} %",
            "used": _percent(row["precision"]),
            "foreseen": _percent(row["recall"]),
            "wasted GB": f"{row['bytes_wasted'] / 1e9:.1f}",
            "stall": f"{row['stall_ns'] / row['steps'] / 1e6:.3f}",
        }
        for row in sorted(summaries, key=lambda row: float(row["latency_ns"]["mean"]))
    ]


def _assumed(summaries: list[dict[str, Any]]) -> str:
    """What somebody only assumed: by name where it is little."""
    names = max((row["assumed"] for row in summaries), key=len)
    return ", ".join(names) or "nothing" if len(names) <= NAMED else f"{len(names)} values"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"

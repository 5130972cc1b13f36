"""`specmoe simulate`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.summaries import lead_told, show
from specmoe.errors import InputError

if TYPE_CHECKING:
    from specmoe.sim.config import RunConfig
    from specmoe.sim.run import Run, Scenario

# Options that are a run's fields as they are.
AS_GIVEN = ("trace", "shape", "threads", "slots", "batch", "steps", "warm_up", "prefill", "verify", "train")

Predictions = Annotated[
    Path | None, typer.Option(help="Directory that keeps predictions, so that the next run need not make them.")
]
BreakEven = Annotated[
    bool,
    typer.Option(
        "--break-even",
        help="Lowest precision at which prefetching is faster than not prefetching (with --out: also a plot).",
    ),
]
Override = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a value of policy or profile, e.g. prefetch.limit=2 or nvme.bandwidth=7GB/s. May be repeated.",
    ),
]
SummaryOnly = Annotated[
    bool,
    typer.Option(
        "--summary-only",
        help="Simulate part by part, in memory that the trace's length does not change, and keep only the summary, "
        "without bounds. With --out, a row for each step is written as it goes.",
    ),
]
Timeline = Annotated[
    Path | None, typer.Option(help="Timeline of one policy's first steps, a .json file for ui.perfetto.dev.")
]
TimelinePolicy = Annotated[
    str | None,
    typer.Option(help="Policy in the timeline. Default: the fastest one that loads experts and is no yardstick."),
]


def simulate(
    trace: options.Trace,
    policy: options.Policies,
    profile: options.Profile = "rtx3090",
    host: options.Host = None,
    shape: options.Shape = None,
    phase: Annotated[str | None, typer.Option(help="Require a trace of this phase: decode or encode.")] = None,
    slots: options.Slots = None,
    vram: options.Vram = None,
    cache_bytes: options.CacheBytes = None,
    context: options.Context = None,
    kv_format: options.KvFormat = "f16",
    assumed_reserve: options.AssumedReserve = "1GiB",
    batch: options.Batch = 1,
    format: options.Format = None,  # noqa: A002  # the option's name
    style: options.Style = None,
    dense_format: options.DenseFormat = None,
    threads: options.Threads = None,
    link: options.Link = "fifo",
    tier: options.Tier = "host-pinned",
    home_format: options.HomeFormat = None,
    compressed_slots: options.CompressedSlots = 0,
    host_set: options.HostSet = "graph",
    steps: options.Steps = None,
    warm_up: options.WarmUp = None,
    aligned: options.Aligned = False,
    prefill: options.Prefill = None,
    verify: options.Verify = 0,
    assumed_acceptance: options.AssumedAcceptance = None,
    train: options.Train = None,
    source: options.Source = None,
    train_source: options.TrainSource = None,
    predictions: Predictions = None,
    break_even: BreakEven = False,
    draws: options.Draws = None,
    seed: options.DrawSeed = None,
    override: Override = None,
    summary_only: SummaryOnly = False,
    out: Annotated[Path | None, typer.Option(help="Directory for the results: one Parquet file per policy.")] = None,
    timeline: Timeline = None,
    timeline_policy: TimelinePolicy = None,
    timeline_steps: Annotated[int | None, typer.Option(help="Steps in the timeline. Default: 200.")] = None,
) -> None:
    """Compare policies on recorded routing: how fast each is, and how far from the best possible."""
    given = locals()
    from specmoe.sim.decide.policy import chosen_names
    from specmoe.sim.long_run import run_long
    from specmoe.sim.run import Scenario
    from specmoe.sim.sweep.retiming import require_drawable

    asked = options.several(policy)
    names = chosen_names(asked)
    shown = _timeline(timeline, timeline_policy, timeline_steps, names)
    config = _config(given)
    with console.progress("policies") as bar:
        task = bar.add_task("simulating", total=len(names))
        if summary_only:
            refused = {"timeline": timeline, "draws": draws, "break-even": break_even, "predictions": predictions}
            scenario = _long(config, refused)
        else:
            scenario = Scenario(config, predictions, with_break_even=break_even)
        if draws:
            require_drawable(scenario)
        if phase is not None and phase != scenario.trace.meta.phase:
            raise InputError(f"--phase {phase}: {trace} is a trace of {scenario.trace.meta.phase}")

        def on_policy(name: str) -> None:
            bar.update(task, description=name, advance=bool(name != names[0]))

        one = partial(run_long, out=out) if summary_only else _in_whole(out, shown)
        summaries, failures = _summaries(scenario, one, names, asked == ["all"], on_policy)
        verdict = _break_even(scenario, summaries, out) if break_even else ""
    drawn = "" if shown is None else shown.write()
    if console.printed([*summaries, *failures]):
        return
    _tell(summaries, failures, [trace] if shape is None else [], verdict)
    if drawn:
        console.note(drawn)


def _tell(
    summaries: list[dict[str, Any]], failures: list[dict[str, str]], of_default_shape: list[str], verdict: str
) -> None:
    """The summaries, who leads, what could not run, and the `verdict` about prefetching."""
    show(summaries)
    if lead := lead_told(summaries):
        console.say(lead, fg="green")
    console.say_default_shapes(of_default_shape)
    for failure in failures:
        console.say(f"not run: {failure['policy']}: {failure['error']}")
    if verdict:
        console.say(verdict, fg="green")


def _config(given: dict[str, Any]) -> "RunConfig":
    """The run that the options, by their names, describe; raises InputError."""
    from specmoe.hwprofiles.catalogue import machine_name
    from specmoe.sim.config import RunConfig
    from specmoe.sim.sweep.retiming import usual_draws

    acceptance = given["assumed_acceptance"]
    config = RunConfig(
        **{name: given[name] for name in AS_GIVEN},
        **options.room_of(*(given[name] for name in ("context", "kv_format", "assumed_reserve"))),
        profile=machine_name(given["profile"], given["host"]),
        vram=_bytes("vram", given["vram"]),
        cache_bytes=_bytes("cache-bytes", given["cache_bytes"]),
        source=options.sources(given["source"]),
        train_source=options.sources(given["train_source"]),
        format=options.format_named("format", given["format"]),
        style=options.style_named(given["style"]),
        dense_format=options.format_named("dense-format", given["dense_format"]),
        staggered=not given["aligned"],
        assumed_acceptance=() if acceptance is None else _chances(acceptance),
        link=options.choice("link", given["link"], options.LINKS),
        home=options.home_of(*(given[name] for name in ("tier", "home_format", "compressed_slots"))),
        host_set=options.choice("host-set", given["host_set"], options.HOST_SETS),
        settings=tuple(dict(map(options.parse_override, given["override"] or [])).items()),
        draws=given["draws"] or 0,
        seed=given["seed"] or 0,
    )
    usual = given["draws"] is None and not given["summary_only"]
    return config.having(draws=usual_draws(config)) if usual else config


def _bytes(option: str, text: str | None) -> int | None:
    return None if text is None else options.parse_bytes(option, text)


def _summaries(
    scenario: "Scenario",
    one: "Callable[[Scenario, str], dict[str, Any]]",
    names: list[str],
    lenient: bool,
    on_policy: Callable[[str], object],
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """A row for each policy that `one` makes, and why others could not run."""
    from specmoe.sim.run import each_run
    from specmoe.uncertainty import add_fastest_shares

    found = list(each_run(scenario, one, names, lenient, on_policy))
    summaries = [row for _, row, _ in found if row is not None]
    add_fastest_shares(summaries)
    return summaries, [{"policy": name, "error": error} for name, row, error in found if row is None]


def _in_whole(out: Path | None, timeline: "_Timeline | None") -> "Callable[[Scenario, str], dict[str, Any]]":
    """How a policy is simulated, and what is wanted of it written."""
    from specmoe.files import make_directory
    from specmoe.sim.sweep.retiming import Draws
    from specmoe.summary import summary

    draws = Draws()

    def one(scenario: "Scenario", name: str) -> dict[str, Any]:
        run = draws.run(scenario, name)
        row = summary(run.result)
        if out is not None:
            make_directory(out)
            run.result.save(out / f"{name}.parquet")
        if timeline is not None:
            timeline.consider(run, row)
        return row

    return one


def _long(config: "RunConfig", refused: Mapping[str, object]) -> "Scenario":
    """The scenario of a run part by part; raises InputError for options that need the whole run."""
    from specmoe.sim.long_run import long_scenario

    for name, value in refused.items():
        if value:
            raise InputError(f"--{name}: the whole run is needed: a run without --summary-only expected")
    return long_scenario(config)


def _chances(text: str) -> tuple[float, ...]:
    """Numbers with commas between them; raises InputError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--assumed-acceptance {text}: numbers with commas expected, e.g. 0.8,0.7") from None


@dataclass
class _Timeline:
    """Where a timeline goes, of which policy and how many steps; it keeps the one run that it may be of."""

    path: Path
    policy: str | None
    steps: int
    run: "Run | None" = None
    rank: tuple[bool, bool, int] = (True, True, 0)

    def consider(self, run: "Run", figures: dict[str, Any]) -> None:
        """Keep the run if it is the policy's, or better: no yardstick before one, loads before none, then the time."""
        if self.policy not in (None, figures["policy"]):
            return
        rank = (figures["yardstick"], figures["bytes_loaded"] == 0, figures["latency_mean_ns"])
        if self.run is None or rank < self.rank:
            self.run, self.rank = run, rank

    def write(self) -> str:
        """Write it; what it holds, in words."""
        from specmoe.sim.event_table import write_timeline

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
    from specmoe.sim.event_table import TIMELINE_STEPS

    if policy is not None and policy not in names:
        raise InputError(f"--timeline-policy {policy}: one of --policy expected")
    if path is None and (policy, steps) != (None, None):
        raise InputError("--timeline FILE expected with --timeline-policy and --timeline-steps")
    return None if path is None else _Timeline(path, policy, steps or TIMELINE_STEPS)


def _break_even(scenario: "Scenario", summaries: list[dict[str, Any]], out: Path | None) -> str:
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
    return f"prefetching one expert ahead is faster above {100 * found.precision:.0f} % precision {machine}"

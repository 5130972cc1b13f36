"""`specmoe demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specmoe.commands import console, options
from specmoe.commands.summaries import show

if TYPE_CHECKING:
    from specmoe.results import Manifest
    from specmoe.sim.demo import Answer
    from specmoe.summary import Row

    Run = tuple[Manifest, Row]


def demo(
    out: Annotated[Path, typer.Option(help="Directory for the report, the plots and the timeline.")] = Path("out/demo"),
    host: options.Host = None,
    steps: Annotated[int, typer.Option(help="Number of decoded tokens per run.")] = 1500,
) -> None:
    """Compare policies for a 128-expert Switch Transformer on an RTX 3090, on recorded routing."""
    from specmoe.files import make_directory
    from specmoe.hwprofiles.catalogue import machine_name
    from specmoe.sim import demo as demonstration
    from specmoe.sim.event_table import TIMELINE_STEPS, write_timeline

    make_directory(out)
    machine = machine_name(demonstration.MACHINE, host)
    settings = demonstration.settings(machine)
    total = demonstration.runs(settings)
    with console.progress("runs") as bar:
        task = bar.add_task("simulating", total=total)

        def advance(name: str) -> None:
            bar.update(task, advance=1, description=name)

        shown = demonstration.Demo(steps, advance, machine)
        answers = [shown.answer(setting) for setting in settings]
        sweep = shown.memory_sweep()
    last = answers[-1]
    winner = last.winner()
    write_timeline(winner.decisions, winner.durations, winner.timing, out / "timeline.json")
    files = [*_plots(answers, sweep, demonstration.cliff_slots(), out), out / "timeline.json"]
    runs = [run for answer in answers[::-1] for run in zip(answer.manifests, answer.summaries, strict=True)]
    page = _report(runs + sweep, steps, out)
    objects = [{"setting": a.setting.title, "reason": a.reason, "policies": a.summaries} for a in answers]
    if console.printed(objects, [{"setting": a.setting.title, **row} for a in answers for row in a.summaries]):
        return
    console.note(
        "The model has two stacks of experts. The decoder's is simulated and gets half of the VRAM for experts."
    )
    domains = winner.result.manifest.domains
    console.note(f"The text is a mixture of {len(domains)} domains: {', '.join(domains)}. Each alone is less even.")
    for answer in answers:
        console.say(f"\n{answer.setting.title}", bold=True)
        show(answer.summaries)
        console.say(answer.reason, fg="green")
    console.say(f"\nwritten: {', '.join(map(str, files))} (timelines open in ui.perfetto.dev)")
    console.say(f"timeline: {winner.result.manifest.policy}, the first {min(TIMELINE_STEPS, steps)} of {steps} steps")
    console.say(f"report on one page: {page}", bold=True)


def _plots(answers: "list[Answer]", sweep: "list[Run]", cliff: int, out: Path) -> list[Path]:
    from specmoe.analysis.figures.latency import headline, most_hits, plot_bandwidth, plot_latency
    from specmoe.analysis.figures.memory import enough_in_short, plot_memory
    from specmoe.analysis.figures.setting import titled
    from specmoe.analysis.point import point_of_row

    files = [out / name for name in ("latency.png", "memory.png", "bandwidth.png")]
    last = answers[-1]
    points = list(map(point_of_row, last.summaries))
    plot_latency(points, files[0], titled(headline(points), last.setting.title))
    swept = [point_of_row(row) for _, row in sweep]
    plot_memory(swept, files[1], titled(enough_in_short(swept), "fp16, half of 1 to 12 GiB left for experts"), cliff)
    plot_bandwidth(points, files[2], titled(most_hits(points), last.setting.title))
    return files


def _report(runs: "list[Run]", steps: int, out: Path) -> Path:
    """All runs as one study, each once: two of the settings share some."""
    from specmoe.analysis.report import Inputs, Study, table_of_rows, write_report

    named = {f"{of.policy}, {of.format}, {of.slots} slots": (of, row) for of, row in runs}
    inputs = Inputs((Study("demo", table_of_rows(named)),), (), (), (out / "timeline.json",))
    command = ["specmoe", "demo", "--out", str(out), "--steps", str(steps)]
    with console.progress("figures") as bar:
        task = bar.add_task("drawing", total=None)
        write_report(inputs, out / "report.html", command, lambda name: bar.update(task, advance=1, description=name))
    return out / "report.html"

"""`specmoe sweep`."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.options import Several, several
from specmoe.errors import InputError

if TYPE_CHECKING:
    from specmoe.sim.sweep.job import Asked, Done
    from specmoe.sim.sweep.question import Question
    from specmoe.sim.sweep.workers import Workers

MOST_ROWS = 20  # of the table that is printed
MOST_BANDS = 3  # expected errors that are printed
MOST_VARIED = 3  # columns of it for values of machine and policy; of more, one says which differ
INTERRUPTED = 130  # exit status
PATHS = ("trace", "profile", "host", "shape")  # options of several values that may be files
LISTS = (
    *("policy", "slots", "vram", "batch", "format", "link", "tier", "home-format", "compressed-slots", "host-set"),
    *("style", "dense-format", "context", "kv-format", "threads", "assumed-reserve"),
)
SINGLE = ("pieces", "steps", "warm-up", "aligned", "train", "source", "train-source", "one-at-a-time", "draws", "seed")


SweepFile = Annotated[
    Path | None, typer.Argument(metavar="[SWEEP.toml]", help="TOML file with the same options as keys.")
]
Pieces = Annotated[
    int | None,
    typer.Option(
        help="Cut each trace into this number of pieces of whole sequences, which workers simulate part by part, "
        "each from empty slots and without its warm-up, and add them up. Default: one run, of all rows at once."
    ),
]
Override = Annotated[
    Several,
    typer.Option(
        "--set",
        help="Values of a policy's or profile's field, e.g. prefetch.limit=1,2,4 or eviction=lru,lfu or "
        "nvme.bandwidth=1GB/s..7GB/s:8 (8 values; 8log: at equal ratios). Fields: specmoe profile show. "
        "May be repeated.",
    ),
]
Scale = Annotated[
    Several,
    typer.Option(help="Factors of a profile's number, e.g. nvme.bandwidth=0.5,1,2 or expert.speed=2. May be repeated."),
]
OneAtATime = Annotated[
    float | None,
    typer.Option(
        help="Sensitivity: vary each hardware number that affects a cell by ± this fraction (0.2 = ±20 %), one at "
        "a time."
    ),
]
Dask = Annotated[str | None, typer.Option(help="Run on the workers of this dask scheduler, e.g. tcp://host:8786.")]


def sweep(
    out: Annotated[Path, typer.Option(help="Directory for the results: sweep.parquet and sweep.json.")],
    question: SweepFile = None,
    trace: options.TraceList = None,
    policy: options.PolicyList = None,
    slots: options.SlotsList = None,
    vram: options.VramList = None,
    context: options.ContextList = None,
    kv_format: options.KvFormatList = None,
    assumed_reserve: options.AssumedReserveList = None,
    threads: options.ThreadsList = None,
    batch: options.BatchList = None,
    format: options.FormatList = None,  # noqa: A002  # the option's name
    profile: options.ProfileList = None,
    host: options.HostList = None,
    shape: options.ShapeList = None,
    style: options.StyleList = None,
    dense_format: options.DenseFormatList = None,
    link: options.LinkList = None,
    tier: options.TierList = None,
    home_format: options.HomeFormatList = None,
    compressed_slots: options.CompressedSlotsList = None,
    host_set: options.HostSetList = None,
    pieces: Pieces = None,
    steps: options.Steps = None,
    warm_up: options.WarmUp = None,
    aligned: options.Aligned = False,
    train: options.Train = None,
    source: options.SourceList = None,
    train_source: options.TrainSourceList = None,
    override: Override = None,
    scale: Scale = None,
    one_at_a_time: OneAtATime = None,
    draws: options.Draws = None,
    seed: options.DrawSeed = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes. Default: one per core.")] = None,
    dask: Dask = None,
) -> None:
    """Simulate every combination of policies, memory sizes, models and machines.

    Finished cells are kept: after an interruption, the same command continues.
    """
    given = {name.replace("_", "-"): value for name, value in locals().items()}
    from specmoe.sim.sweep.summary import digest

    asked = _asked(question, _choices(given))
    done = _run(asked, out, _staff(workers, dask))
    summary = digest(done.table)
    counts = {"out": str(out), "kept": done.kept, "computed": done.computed}
    if not console.printed([counts | summary], summary["best"]):
        _show(done, summary, out)
        console.say_default_shapes(dict.fromkeys(cell.trace for cell in asked.cells if cell.shape is None))
    if summary["failed"] == summary["cells"]:
        raise InputError(f"all {summary['cells']} cells failed: {summary['errors'][0]}")


def _choices(given: dict[str, Any]) -> dict[str, Any]:
    """The options, by their names, as keys and values of a sweep's TOML file."""

    def asked(names: tuple[str, ...]) -> dict[str, Any]:
        return {name: given[name] for name in names if given[name] is not None and given[name] is not False}

    whole = asked(SINGLE) | {name: several(values) for name, values in asked(PATHS).items()}
    joined = {name: ",".join(values) for name, values in asked(LISTS).items()}
    named = {"set": given["override"], "scale": given["scale"]}
    tables = {part: dict(_pair(part, text) for text in pairs) for part, pairs in named.items() if pairs}
    return whole | joined | tables


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals or not name:
        raise InputError(f"--{option} {text}: name=value,value,... expected")
    return name, values


def _asked(file: Path | None, choices: dict[str, Any]) -> "Asked":
    from specmoe.sim.sweep.grid import cells_of
    from specmoe.sim.sweep.job import Asked
    from specmoe.sim.sweep.question import merged, read_grid, read_question

    under: Question = {} if file is None else read_question(file)
    question = merged(under, read_grid(choices, "--"))
    return Asked(cells_of(question), question, shlex.join(["specmoe", *sys.argv[1:]]))


def _staff(number: int | None, address: str | None) -> "Callable[[], AbstractContextManager[Workers]]":
    from specmoe.sim.sweep.workers import dask_workers, processes

    if number is not None and (number < 1 or address is not None):
        raise InputError(f"--workers {number}: 1 or more expected, and none with --dask")
    return partial(processes, number or os.cpu_count() or 1) if address is None else partial(dask_workers, address)


def _run(asked: "Asked", out: Path, staff: "Callable[[], AbstractContextManager[Workers]]") -> "Done":
    from specmoe.sim.sweep.job import run_sweep

    console.tell_if_slow()
    with console.progress("cells") as bar:
        task = bar.add_task("sweep", total=len(asked.cells))
        kept = [0]

        def on_cells(done: int, total: int) -> None:
            kept[0] = done
            bar.update(task, completed=done, total=total)

        try:
            return run_sweep(asked, out, staff, on_cells)
        except KeyboardInterrupt:
            bar.stop()
            console.say(
                f"stopped: {kept[0]} of {len(asked.cells)} cells are kept in {out}; run it again to continue", err=True
            )
            raise typer.Exit(INTERRUPTED) from None


def _show(done: "Done", summary: dict[str, Any], out: Path) -> None:
    """The best policy of each setting, the failures, and the evidence."""
    if summary["best"]:
        rows = _narrow(summary["best"])[:MOST_ROWS]
        drawn = all(row["draws"] for row in rows)
        level = [{"level": str(len(row["level"]))} if any(row["level"] for row in rows) else {} for row in rows]
        console.table(
            [_line(row, drawn) | others for row, others in zip(rows, level, strict=True)],
            "Fastest policy of each setting (yardsticks excluded)",
        )
        if (more := len(summary["best"]) - MOST_ROWS) > 0:
            console.say(f"and {more} more settings")
        if any(level):
            console.note("level: number of other policies that are level with the fastest (--json names them)")
    for error in summary["errors"][:MOST_ROWS]:
        console.say(f"failed: {error}", fg="red")
    for warning in summary["warnings"][:MOST_ROWS]:
        console.say(f"warning: {warning}", fg="yellow")
    for text in summary["expected_errors"][:MOST_BANDS]:
        console.note(f"expected error: {text}")
    if (more := len(summary["expected_errors"]) - MOST_BANDS) > 0:
        console.note(f"and {more} more expected errors: columns expected_error and error_basis of the table")
    console.say(f"{summary['cells']} cells, {done.computed} computed now, {summary['failed']} failed")
    console.say(f"evidence: {summary['evidence'] or 'none'}; semantics: {summary['semantics'] or 'none'}")
    console.say(f"written: {out}/sweep.parquet, {out}/sweep.json", fg="green")


def _narrow(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose many varied values are one column: those that differ from what most rows have."""
    varied = [name for name in rows[0] if name.startswith(("set.", "scale."))]
    if len(varied) <= MOST_VARIED:
        return rows
    usual = {name: Counter(row[name] for row in rows).most_common(1)[0][0] for name in varied}
    rest = [{name: value for name, value in row.items() if name not in varied} for row in rows]
    changed = [[_change(name, row[name]) for name in varied if row[name] != usual[name]] for row in rows]
    return [{"changed": ", ".join(texts) or "nothing", **row} for texts, row in zip(changed, rest, strict=True)]


def _change(name: str, value: Any) -> str:
    how, _, name = name.partition(".")
    return f"{name} {'x' if how == 'scale' else '='} {_short(value)}"


def _line(row: dict[str, Any], drawn: bool) -> dict[str, str]:
    """A row for people: what sets it apart, the policy, and figures, of `drawn` machines too."""
    from specmoe.sim.sweep.summary import FIGURES
    from specmoe.uncertainty import spread_cells

    apart = {name: _short(value) for name, value in row.items() if name not in (*FIGURES, "level")}
    return {
        **apart,
        "step ms": f"{row['latency_mean_ns'] / 1e6:.3f}",
        "tokens/s": f"{row['tokens_per_second']:.1f}",
        **(spread_cells(row) if drawn else {}),
        "x oracle": f"{row['latency_mean_ns'] / row['oracle_ns']:.2f}",
        "hits": f"{100 * row['hit_rate']:.0f} %",
    }


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

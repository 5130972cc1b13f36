"""`specmoe sweep`."""

from __future__ import annotations

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

from specmoe.commands import console
from specmoe.commands.values import several
from specmoe.errors import InputError

if TYPE_CHECKING:
    from specmoe.sim.sweep.job import Asked, Done
    from specmoe.sim.sweep.question import Question
    from specmoe.sim.sweep.workers import Workers

MOST_ROWS = 20  # of the table that is printed
MOST_VARIED = 3  # columns of it for values of machine and policy; of more, one says which differ
INTERRUPTED = 130  # exit status

Several = list[str] | None


def sweep(
    out: Annotated[Path, typer.Option(help="Directory for sweep.parquet and sweep.json.")],
    question: Annotated[Path | None, typer.Argument(metavar="[SWEEP.toml]", help="A file that says all this.")] = None,
    trace: Annotated[Several, typer.Option(help="A bundled trace's name or a trace file; a,b or repeated.")] = None,
    policy: Annotated[Several, typer.Option(help="Policies: a,b,c or repeated; `all` is every one.")] = None,
    slots: Annotated[Several, typer.Option(help="Experts that VRAM holds, such as 64,154 or 50..500:10.")] = None,
    vram: Annotated[Several, typer.Option(help="VRAM for all weights, such as 4GiB,8GiB or 4GiB..24GiB:6.")] = None,
    batch: Annotated[Several, typer.Option(help="Sequences at once.")] = None,
    format: Annotated[Several, typer.Option(help="fp32, fp16, bf16, int8 or int4.")] = None,  # noqa: A002  # the option's name
    profile: Annotated[
        Several, typer.Option(help="Machine: a shipped profile or a .toml file; a,b or repeated.")
    ] = None,
    shape: Annotated[
        Several,
        typer.Option(
            help="Models: shipped shapes or .toml files, comma-separated or repeated. Default: each trace's own model "
            "if its shape is shipped, else switch-base-128."
        ),
    ] = None,
    link: Annotated[Several, typer.Option(help="fifo, priority or chunked.")] = None,
    tier: Annotated[Several, typer.Option(help="Where experts live: host-pinned, host-pageable or nvme.")] = None,
    home_format: Annotated[Several, typer.Option(help="Format of the experts at home.")] = None,
    compressed_slots: Annotated[Several, typer.Option(help="Experts that VRAM holds in it, too.")] = None,
    host: Annotated[Several, typer.Option(help="Host costs: graph (captured) or eager.")] = None,
    steps: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    train: Annotated[str | None, typer.Option(help="Trace that popularity and predictors are learnt from.")] = None,
    override: Annotated[
        Several,
        typer.Option(
            "--set",
            help="Values of policy or profile: prefetch.limit=1,2,4, eviction=lru,lfu, or a range: "
            "nvme.bandwidth=1GB/s..7GB/s:8 is 8 values, with 8log of equal ratios. Names: specmoe profile show.",
        ),
    ] = None,
    scale: Annotated[
        Several,
        typer.Option(help="Factors of a profile's value: nvme.bandwidth=0.5,1,2, expert.speed=2."),
    ] = None,
    one_at_a_time: Annotated[
        float | None, typer.Option(help="Around each cell, each number that matters this share less and more: 0.2.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; without: one for each core.")] = None,
    dask: Annotated[str | None, typer.Option(help="Let a dask scheduler's workers do it: tcp://host:8786.")] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """A grid or list of policies, slots, models and machines; killed, it continues when it is run again."""
    from specmoe.sim.sweep.summary import digest

    told = _told(
        {"trace": trace, "profile": profile, "shape": shape},
        {"policy": policy, "slots": slots, "vram": vram, "batch": batch, "format": format, "link": link, "tier": tier}
        | {"home-format": home_format, "compressed-slots": compressed_slots, "host": host},
        {"steps": steps, "train": train, "one-at-a-time": one_at_a_time},
        {"set": override, "scale": scale},
    )
    asked = _asked(question, told)
    done = _run(asked, out, _staff(workers, dask))
    found = digest(done.table)
    if as_json:
        console.print_json({"out": str(out), "kept": done.kept, "computed": done.computed, **found})
    else:
        _show(done, found, out)
        console.say_default_shapes(dict.fromkeys(cell.trace for cell in asked.cells if cell.shape is None))
    if found["failed"] == found["cells"]:
        raise InputError(f"all {found['cells']} cells failed: {found['errors'][0]}")


def _told(
    paths: dict[str, Several], lists: dict[str, Several], single: dict[str, Any], named: dict[str, Several]
) -> dict[str, Any]:
    """What the options say, as a file would."""
    whole = {name: values for name, values in single.items() if values is not None}
    whole |= {name: several(values) for name, values in paths.items() if values is not None}
    joined = {name: ",".join(values) for name, values in lists.items() if values is not None}
    tables = {part: dict(_pair(part, text) for text in pairs) for part, pairs in named.items() if pairs}
    return whole | joined | tables


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals or not name:
        raise InputError(f"--{option} {text}: name=value,value,... expected")
    return name, values


def _asked(file: Path | None, told: dict[str, Any]) -> Asked:
    from specmoe.sim.sweep.grid import cells_of
    from specmoe.sim.sweep.job import Asked
    from specmoe.sim.sweep.question import merged, read_grid, read_question

    under: Question = {} if file is None else read_question(file)
    question = merged(under, read_grid(told, "--"))
    return Asked(cells_of(question), question, shlex.join(["specmoe", *sys.argv[1:]]))


def _staff(number: int | None, address: str | None) -> Callable[[], AbstractContextManager[Workers]]:
    from specmoe.sim.sweep.workers import dask_workers, processes

    if number is not None and (number < 1 or address is not None):
        raise InputError(f"--workers {number}: 1 or more expected, and none with --dask")
    return partial(processes, number or os.cpu_count() or 1) if address is None else partial(dask_workers, address)


def _run(asked: Asked, out: Path, staff: Callable[[], AbstractContextManager[Workers]]) -> Done:
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


def _show(done: Done, found: dict[str, Any], out: Path) -> None:
    """The best policy of each setting, what failed, and what it all rests on."""
    if found["best"]:
        console.table(
            [_line(row) for row in _narrow(found["best"])[:MOST_ROWS]], "the fastest policy that a runtime could have"
        )
        if (more := len(found["best"]) - MOST_ROWS) > 0:
            console.say(f"and {more} more settings")
    for error in found["errors"][:MOST_ROWS]:
        console.say(f"failed: {error}", fg="red")
    for warning in found["warnings"][:MOST_ROWS]:
        console.say(f"warning: {warning}", fg="yellow")
    console.say(f"{found['cells']} cells, {done.computed} computed now, {found['failed']} failed")
    console.say(f"evidence: {found['evidence'] or 'none'}; semantics: {found['semantics'] or 'none'}")
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


def _line(row: dict[str, Any]) -> dict[str, str]:
    """A row for people: what sets it apart, the policy, and figures."""
    from specmoe.sim.sweep.summary import FIGURES

    apart = {name: _short(value) for name, value in row.items() if name not in FIGURES}
    return {
        **apart,
        "step ms": f"{row['latency_mean_ns'] / 1e6:.3f}",
        "tokens/s": f"{row['tokens_per_second']:.1f}",
        "x oracle": f"{row['latency_mean_ns'] / row['oracle_ns']:.2f}",
        "hits": f"{100 * row['hit_rate']:.0f} %",
    }


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

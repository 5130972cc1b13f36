"""`specmoe collect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console

if TYPE_CHECKING:
    from specmoe.traces.collect_job import CollectJob


def collect(
    model: Annotated[str, typer.Option(help="Bundled name, checkpoint directory or Hugging Face hub id.")],
    out: Annotated[Path, typer.Option(help="The trace file; a directory with --phase both.")],
    text: Annotated[list[Path] | None, typer.Option(help="File or directory of text; may be repeated.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Instead of --text: wikitext, squad, glue, ...")] = None,
    split: Annotated[str, typer.Option(help="all, train, validation or test (whole documents held out).")] = "all",
    phase: Annotated[str, typer.Option(help="encode, decode or both.")] = "decode",
    sequences: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    window: Annotated[int, typer.Option(help="Longest input in tokens.")] = 256,
    candidates: Annotated[
        int | None, typer.Option(help="Router candidates kept per layer. Default: 8, or all experts if fewer.")
    ] = None,
    lookahead_depth: Annotated[int, typer.Option(help="Record look-ahead over 1 to so many layers.")] = 1,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 8,
    seed: Annotated[int, typer.Option(help="Of span corruption and --random-init.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16; routers stay float32.")] = "float32",
    generate: Annotated[int | None, typer.Option(help="Greedy decoding steps, instead of teacher forcing.")] = None,
    capacity: Annotated[int | None, typer.Option(help="Tokens of a sequence an expert takes; without: all.")] = None,
    random_init: Annotated[bool, typer.Option("--random-init", help="Ignore the weights, draw them.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what a killed run finished.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a trace that is there already.")] = False,
    as_json: console.JsonFlag = False,
) -> None:
    """Record the routing of an MoE model while it reads text.

    A run that was killed goes on when the same command is given again.
    """
    from specmoe.traces.collect_job import CollectJob

    # Options and fields share their names.
    options: dict[str, Any] = {name: value for name, value in locals().items() if name in CollectJob.__annotations__}
    job = CollectJob(**options | {"text": tuple(text or ())})
    _report(_run(job), as_json)


def _run(job: CollectJob) -> dict[Any, Path]:
    from specmoe.traces.collect import collect, quieten

    quieten()
    with console.progress("tokens") as bar:
        task = bar.add_task("collect", total=None, visible=False)

        def on_progress(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        return collect(job, on_progress)


def _report(written: dict[Any, Path], as_json: bool) -> None:
    from specmoe.traces.store import Trace

    traces = {phase: Trace(path) for phase, path in written.items()}
    rows = [{"phase": phase, "tokens": len(trace), "file": str(trace.path)} for phase, trace in traces.items()]
    show = console.print_json if as_json else console.table
    show(rows)

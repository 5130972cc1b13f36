"""`specmoe collect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.options import completing

if TYPE_CHECKING:
    from specmoe.traces.collect_job import CollectJob

SPLITS, PHASES = ("all", "train", "validation", "test"), ("encode", "decode", "both")
DTYPES = ("float32", "bfloat16", "float16")


Model = Annotated[str, typer.Option(help="A bundled model's name, a checkpoint directory or a Hugging Face hub id.")]
Text = Annotated[
    list[Path] | None, typer.Option(help="File or directory of text that the model reads. May be repeated.")
]
Dataset = Annotated[str | None, typer.Option(help="Dataset to read instead of --text, e.g. wikitext, squad or glue.")]
Split = Annotated[
    str,
    typer.Option(help="Documents to read: all, train, validation or test.", autocompletion=completing(lambda: SPLITS)),
]
Phase = Annotated[
    str, typer.Option(help="Phase to record: encode, decode or both.", autocompletion=completing(lambda: PHASES))
]
Candidates = Annotated[
    int | None,
    typer.Option(help="Number of router candidates to keep per layer. Default: 8, or all experts if fewer."),
]
LookaheadDepth = Annotated[int, typer.Option(help="Record look-ahead predictions for up to this many layers ahead.")]
Dtype = Annotated[
    str,
    typer.Option(
        help="Format of weights: float32, bfloat16 or float16. Routers stay float32.",
        autocompletion=completing(lambda: DTYPES),
    ),
]
Temperature = Annotated[
    float | None, typer.Option(help="Sample decoded tokens at this temperature. Default: the likeliest token.")
]
Capacity = Annotated[
    int | None, typer.Option(help="Most tokens of a sequence that an expert processes. Default: no limit.")
]
Restart = Annotated[
    bool, typer.Option("--restart", help="Start again, discarding what an interrupted run has recorded.")
]


def collect(
    model: Model,
    out: Annotated[Path, typer.Option(help="The trace file to write. With --phase both: a directory.")],
    text: Text = None,
    dataset: Dataset = None,
    split: Split = "all",
    phase: Phase = "decode",
    sequences: Annotated[int | None, typer.Option(help="Stop after this many sequences. Default: all.")] = None,
    window: Annotated[int, typer.Option(help="Longest input in tokens.")] = 256,
    candidates: Candidates = None,
    lookahead_depth: LookaheadDepth = 1,
    batch: options.Batch = 8,
    seed: Annotated[int, typer.Option(help="Seed of span corruption, sampling and --random-init.")] = 0,
    device: options.Device = "auto",
    dtype: Dtype = "float32",
    generate: Annotated[int | None, typer.Option(help="Decode this many tokens. Default: teacher forcing.")] = None,
    temperature: Temperature = None,
    capacity: Capacity = None,
    random_init: options.RandomInit = False,
    restart: Restart = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a trace that exists.")] = False,
) -> None:
    """Record the routing of an MoE model while it reads text.

    After an interruption, the same command continues.
    """
    from specmoe.traces.collect_job import CollectJob

    # Options and fields share their names.
    fields: dict[str, Any] = {name: value for name, value in locals().items() if name in CollectJob.__annotations__}
    job = CollectJob(**fields | {"text": tuple(text or ())})
    _report(_run(job))


def _run(job: "CollectJob") -> dict[Any, Path]:
    from specmoe.traces.collect import collect, quieten

    quieten()
    with console.progress("tokens") as bar:
        task = bar.add_task("collect", total=None, visible=False)

        def on_progress(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        return collect(job, on_progress)


def _report(written: dict[Any, Path]) -> None:
    from specmoe.traces.store import Trace

    traces = {phase: Trace(path) for phase, path in written.items()}
    rows = [{"phase": phase, "tokens": len(trace), "file": str(trace.path)} for phase, trace in traces.items()]
    if not console.printed(rows):
        console.table(rows)

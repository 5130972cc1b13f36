"""`specmoe advise`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.options import choice, format_named, parse_bytes, several, sources, style_named

if TYPE_CHECKING:
    from specmoe.hwprofiles.shape import Format
    from specmoe.sim.advise.advice import Advice
    from specmoe.sim.advise.levers import Lever
    from specmoe.sim.advise.search import Trial


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "--shape",
        help=f"{options.SHAPE} Default: the trace's own model if its shape is shipped.",
        autocompletion=options.shapes,
    ),
]
Trace = Annotated[
    str | None,
    typer.Option(
        help="Routing of such a model: a bundled trace's name or a trace file. Default: the bundled trace that "
        "fits the model, else synthetic routing.",
        autocompletion=options.traces,
    ),
]
Target = Annotated[str | None, typer.Option(help="Throughput to reach, summed over all sequences, e.g. 20tok/s.")]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        help="Expert formats to consider (comma-separated or repeated), each a candidate; they differ in quality, "
        "which is not measured. Default: the model's own; what those of fewer bits would give is mentioned.",
        autocompletion=options.formats,
    ),
]
HomeFormat = Annotated[
    list[str] | None,
    typer.Option(
        help="Expert formats to consider outside VRAM, expanded on the GPU (comma-separated or repeated). "
        "Default: that in VRAM.",
        autocompletion=options.formats,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Number of steps after the warm-up, at least 256. Default: at least that, and enough demand for all "
        "slots 12 times."
    ),
]


def advise(
    profile: options.Profile,
    vram: Annotated[str, typer.Option(help=f"{options.VRAM} 8GiB.")],
    host: options.Host = None,
    model: Model = None,
    trace: Trace = None,
    train: options.Train = None,
    source: options.Source = None,
    train_source: options.TrainSource = None,
    target: Target = None,
    context: options.Context = None,
    kv_format: options.KvFormat = "f16",
    assumed_reserve: options.AssumedReserve = "1GiB",
    batch: options.Batch = 1,
    format: Formats = None,  # noqa: A002  # the option's name
    home_format: HomeFormat = None,
    style: options.Style = None,
    dense_format: options.DenseFormat = None,
    threads: options.Threads = None,
    steps: Steps = None,
    warm_up: options.WarmUp = None,
) -> None:
    """Recommend a policy and a configuration for a VRAM budget: how fast it is, and what would make it faster."""
    from specmoe.hwprofiles.catalogue import machine_name
    from specmoe.sim.advise.advice import advise as answer
    from specmoe.sim.advise.advice import lines, shape_of
    from specmoe.sim.advise.setting import Question

    question = Question(
        shape=model or shape_of(trace),
        profile=machine_name(profile, host),
        vram=parse_bytes("vram", vram),
        trace=trace,
        train=train,
        source=sources(source),
        train_source=sources(train_source),
        batch=batch,
        target=None if target is None else parse_rate(target),
        formats=_formats("format", format),
        home_formats=_formats("home-format", home_format),
        steps=steps,
        warm_up=warm_up,
        style=style_named(style),
        threads=threads,
        dense_format=format_named("dense-format", dense_format),
        **options.room_of(context, kv_format, assumed_reserve),
    )
    console.tell_if_slow()
    with console.progress("runs") as bar:
        task = bar.add_task("simulating", total=None)

        def on_run(runs: int) -> None:
            bar.update(task, completed=runs)

        advice = answer(question, on_run)
    if console.printed([_plain(advice) | {"lines": lines(advice)}], [_trial(trial) for trial in advice.found.ranking]):
        return
    for line in lines(advice):
        head, _, rest = line.partition(":")
        console.note(f":{rest}", head=head)
    if model is None and trace is not None:
        console.say_default_shapes([trace])


def parse_rate(text: str) -> float:
    """Tokens a second of text such as 20tok/s or 20 tokens/s; raises InputError."""
    from specmoe.units import quantity

    return quantity(f"--target {text}", "the target", text, "token/s")


def _formats(option: str, names: list[str] | None) -> "tuple[Format, ...]":
    from specmoe.hwprofiles.shape import FORMATS

    return tuple(dict.fromkeys(choice(option, name, FORMATS) for name in several(names)))


def _plain(advice: "Advice") -> dict[str, Any]:
    """The advice as plain values for programs; rates are tokens a second."""
    from specmoe.sim.advise.advice import limits
    from specmoe.summary import SPREAD

    best, setting = advice.found.best, advice.setting
    row, low_high = best.row, advice.expected.rates(best.rate)
    return {
        "best": _trial(best),
        "ranking": [_trial(trial) for trial in advice.found.ranking],
        "formats": [_trial(trial) for trial in advice.found.formats],
        "expected": advice.expected._asdict() | {"low": low_high[0], "high": low_high[1]},
        "extremes": advice.extremes,
        "drawn": [{name: row[name] for name in ("policy", *SPREAD)} for row in advice.drawn],
        "limits": limits(advice),
        "levers": [_lever(lever) for lever in advice.levers],
        "target": _reach(advice),
        "evidence": row["evidence"],
        "assumed": row["assumed"],
        "warnings": row["warnings"],
        "trace": "" if setting.routings.drawn else setting.routings.trace,
        "trace_kind": row["trace_kind"],
        "semantics": row["semantics"],
        "steps": row["steps"],
        "warm_up_steps": row["warm_up_steps"],
        "sequences": advice.sequences,
        "configurations": advice.runs,
        "not_tried": advice.failures,
    }


def _trial(trial: "Trial") -> dict[str, Any]:
    """A configuration and its figures, under the names of a sweep's columns."""
    figures = ("tokens_per_second", "hit_rate", "latency_mean_ns", "floor_ns", "oracle_ns", "vram_peak_bytes")
    return trial.config.fields | {name: trial.row[name] for name in figures}


def _lever(lever: "Lever") -> dict[str, Any]:
    return lever._asdict() | {"best": None if lever.best is None else lever.best.fields}


def _reach(advice: "Advice") -> dict[str, Any] | None:
    found = advice.reach
    if found is None:
        return None
    most = None if found.most is None else _lever(found.most)
    return found._asdict() | {"ways": [_lever(way) for way in found.ways], "most": most}

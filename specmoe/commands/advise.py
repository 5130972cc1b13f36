"""`specmoe advise`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console
from specmoe.commands.values import choice, parse_bytes, several

if TYPE_CHECKING:
    from specmoe.hwprofiles.formats import Format
    from specmoe.sim.advise.advice import Advice
    from specmoe.sim.advise.levers import Lever
    from specmoe.sim.advise.search import Trial


def advise(
    profile: Annotated[str, typer.Option(help="Machine: a shipped profile or a .toml file.")],
    vram: Annotated[str, typer.Option(help="VRAM for all weights, such as 8GiB; caches and activations come on top.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "--shape",
            help="Model: a shipped shape's name (specmoe profile shapes) or a .toml file. Default: the trace's own "
            "model if its shape is shipped.",
        ),
    ] = None,
    trace: Annotated[
        str | None, typer.Option(help="Routing of such a model; without: the bundled one that fits, or drawn routing.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="Trace that popularity and predictors are learnt from.")] = None,
    target: Annotated[str | None, typer.Option(help="What is wanted, such as 20tok/s, of all sequences.")] = None,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 1,
    format: Annotated[  # noqa: A002  # the option's name
        list[str] | None,
        typer.Option(
            help="Formats that experts may be held in: a,b or repeated. Without: the model's own only, as fewer bits "
            "are a risk to quality; what they would give is told."
        ),
    ] = None,
    home_format: Annotated[
        list[str] | None, typer.Option(help="Formats that they may be kept in at home, expanded on the GPU.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="To simulate; without: enough to fill the slots a dozen times.")
    ] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """What to run in this much VRAM, how fast it will be, and what would make it faster: five lines."""
    from specmoe.sim.advise.advice import advise as answer
    from specmoe.sim.advise.advice import lines, shape_of
    from specmoe.sim.advise.setting import Question

    question = Question(
        shape=model or shape_of(trace),
        profile=profile,
        vram=parse_bytes("vram", vram),
        trace=trace,
        train=train,
        batch=batch,
        target=None if target is None else parse_rate(target),
        formats=_formats("format", format),
        home_formats=_formats("home-format", home_format),
        steps=steps,
    )
    console.tell_if_slow()
    with console.progress("runs") as bar:
        task = bar.add_task("simulating", total=None)

        def on_run(runs: int) -> None:
            bar.update(task, completed=runs)

        advice = answer(question, on_run)
    if as_json:
        console.print_json(_plain(advice) | {"lines": lines(advice)})
        return
    for line in lines(advice):
        head, _, rest = line.partition(":")
        console.note(f":{rest}", head=head)
    if model is None and trace is not None:
        console.say_default_shapes([trace])


def parse_rate(text: str) -> float:
    """20tok/s, 20 tokens/s; raises InputError."""
    from specmoe.units import quantity

    return quantity(f"--target {text}", "the target", text, "token/s")


def _formats(option: str, names: list[str] | None) -> tuple[Format, ...]:
    from specmoe.hwprofiles.formats import FORMATS

    return tuple(dict.fromkeys(choice(option, name, FORMATS) for name in several(names)))


def _plain(advice: Advice) -> dict[str, Any]:
    """For programs; rates are tokens a second."""
    best, setting = advice.found.best, advice.setting
    row, low_high = best.row, advice.expected.rates(best.rate)
    return {
        "best": _trial(best),
        "ranking": [_trial(trial) for trial in advice.found.ranking],
        "expected": advice.expected._asdict() | {"low": low_high[0], "high": low_high[1]},
        "extremes": advice.extremes,
        "levers": [_lever(lever) for lever in advice.levers],
        "target": _reach(advice),
        "evidence": row["evidence"],
        "assumed": row["assumed"],
        "warnings": row["warnings"],
        "trace": "" if setting.routings.drawn else setting.routings.trace,
        "trace_kind": row["trace_kind"],
        "semantics": row["semantics"],
        "steps": row["steps"],
        "configurations": advice.runs,
        "not_tried": advice.failures,
    }


def _trial(trial: Trial) -> dict[str, Any]:
    """A configuration and its figures, under the names of a sweep's columns."""
    figures = ("tokens_per_second", "hit_rate", "latency_mean_ns", "floor_ns", "oracle_ns", "vram_peak_bytes")
    return trial.config.fields | {name: trial.row[name] for name in figures}


def _lever(lever: Lever) -> dict[str, Any]:
    return lever._asdict() | {"best": None if lever.best is None else lever.best.fields}


def _reach(advice: Advice) -> dict[str, Any] | None:
    found = advice.reach
    if found is None:
        return None
    most = None if found.most is None else _lever(found.most)
    return found._asdict() | {"ways": [_lever(way) for way in found.ways], "most": most}

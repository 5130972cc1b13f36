"""`specmoe generate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specmoe.commands import console, options
from specmoe.errors import InputError, require_torch
from specmoe.files import read_text

if TYPE_CHECKING:
    from specmoe.validate.record import Comparison, Row

INTERRUPTED = 130  # the status of a command that Ctrl-C ended


Slots = Annotated[str | None, typer.Option(help="Number of experts that the device holds at once, or several: 8,16.")]
Vram = Annotated[
    str | None,
    typer.Option(help=f"{options.VRAM} 8GiB. Instead of --slots."),
]
Held = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of experts in host memory: fp16, bf16, fp32, int8 or int4, which are expanded on arrival. "
        "Default: fp16 on a GPU, fp32 on a CPU.",
    ),
]
Policy = Annotated[
    str, typer.Option(help="Offloading policies, comma-separated, that can be asked while a model runs.")
]
NoRepeat = Annotated[int, typer.Option(help="Never write this many tokens in a row a second time. 0: no such rule.")]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Also generate with every expert resident and foretell the speed; exit 1 if the texts differ.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(help="With --compare: machine whose link is foretold with, e.g. h200-sxm-141gb. Default: timed."),
]
Networks = Annotated[
    Path | None,
    typer.Option(
        help="With learned policies: directory with their trained networks in encode/ and decode/. "
        "Default: those that are bundled with the model."
    ),
]
Trace = Annotated[
    Path | None, typer.Option(help="Write the routing of the generated tokens, a trace for `specmoe simulate`.")
]
Timeline = Annotated[
    Path | None, typer.Option(help="Write when the first policy's loads and experts ran, for ui.perfetto.dev.")
]
Record = Annotated[
    Path | None, typer.Option(help="Write all figures as JSON, with the machine and versions they belong to.")
]


def generate(
    model: Annotated[str, typer.Option(help="A MoE model: a bundled name, a checkpoint directory or a hub id.")],
    slots: Slots = None,
    vram: Vram = None,
    assumed_reserve: options.AssumedReserve = "1GiB",
    held: Held = None,
    prompt: Annotated[str | None, typer.Option(help="Text that the model continues.")] = None,
    text: Annotated[Path | None, typer.Option(help="File with the text that the model continues.")] = None,
    policy: Policy = "lookahead",
    max_new_tokens: Annotated[int, typer.Option(help="Stop after this many tokens.")] = 64,
    no_repeat: NoRepeat = 0,
    device: Annotated[str, typer.Option(help="Where to compute: cpu or cuda.")] = "cpu",
    compare: Compare = False,
    profile: Profile = None,
    rounds: Annotated[int, typer.Option(help="Generate each text this often, in turn; times are medians.")] = 1,
    random_init: options.RandomInit = False,
    networks: Networks = None,
    trace: Trace = None,
    timeline: Timeline = None,
    record: Record = None,
) -> None:
    """Generate text greedily with a real model whose experts are offloaded."""
    require_torch("transformers")
    from specmoe.hwprofiles.catalogue import load_profile
    from specmoe.traces.collect import quieten
    from specmoe.traces.collect_model import pick_device
    from specmoe.validate import generation
    from specmoe.validate import record as kept
    from specmoe.validate.writing import Ask

    ask = Ask(_begin(prompt, text), max_new_tokens, console.pieces(), no_repeat)
    quieten()
    job = generation.Job(
        model,
        ask,
        [name.strip() for name in policy.split(",") if name.strip()],
        () if slots is None else _numbers("slots", slots),
        None if vram is None else options.parse_bytes("vram", vram),
        options.parse_bytes("assumed-reserve", assumed_reserve),
        None if held is None else options.choice("format", held, generation.FORMATS),
        device,
        compare,
        timed=timeline is not None,
        rounds=rounds,
        machine=None if profile is None else load_profile(profile),
        random_init=random_init,
        networks=networks,
    )
    keep = None if record is None else kept.recorder(record, pick_device(device), job.options())

    def after(so_far: "Comparison", line: str) -> None:
        if keep:
            keep(so_far)
        console.say(line, err=True)

    result = generation.generated(job, after)
    if keep:
        keep(result)
    _write(result, trace, timeline)
    _show(result, ask.on_text is not None)
    if result.interrupted or result.differs:
        raise typer.Exit(INTERRUPTED if result.interrupted else 1)


def _begin(prompt: str | None, text: Path | None) -> str:
    """What the model continues; raises InputError unless one of the two is given."""
    if prompt is not None and text is not None:
        raise InputError("either --prompt or --text expected, and not both")
    begin = prompt if text is None else read_text(text, "a text")
    if begin is None:
        raise InputError("a text to continue expected: --prompt or --text")
    return begin


def _write(result: "Comparison", trace: Path | None, timeline: Path | None) -> None:
    """The routing of what was generated, and when loads and experts ran, where they were asked for."""
    from specmoe.traces import write_trace
    from specmoe.validate import record

    if trace is not None and "decode" in result.made.traces:
        meta, block = result.made.traces["decode"]
        write_trace(trace, meta, [block])
    if timeline is not None:
        record.write_timeline(result.made, timeline)


def _show(result: "Comparison", streamed: bool) -> None:
    if console.printed([row._asdict() for row in result.rows]):
        return
    if not streamed:
        console.say(result.made.text)
    console.table(list(map(_shown, result.rows)))
    for note in (*result.notes, result.verdict):
        if note:
            console.say(note)


def _numbers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--{name} {text}: whole numbers expected, e.g. 8,16") from None


def _shown(row: "Row") -> dict[str, str]:
    def counted(number: int | None) -> str:
        return "" if number is None else str(number)

    return {
        "policy": row.policy,
        "slots": counted(row.slots),
        "tokens/s": f"{row.tokens_per_second:.1f}",
        "hits": "" if row.hits is None else f"{row.hits}/{row.uses}",
        "demand loads": counted(row.demand_loads),
        "prefetches": counted(row.prefetches),
        "stalls, ms": "" if row.stall_ms is None else f"{row.stall_ms:.1f}",
        "step, ms": "" if row.step_ms is None else f"{row.step_ms:.2f}",
        "foretold, ms": "" if row.foretold_ms is None else f"{row.foretold_ms:.2f}",
        "error": "" if row.error is None else f"{100 * row.error:+.1f} %",
        **({"device memory, MiB": f"{row.peak_bytes / 2**20:.1f}"} if row.peak_bytes else {}),
    }

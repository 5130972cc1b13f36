"""`specmoe generate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specmoe.commands import console
from specmoe.errors import InputError
from specmoe.files import read_text

if TYPE_CHECKING:
    from specmoe.validate.generation import Row


def generate(
    model: Annotated[str, typer.Option(help="A MoE model: a bundled name, a checkpoint directory or a hub id.")],
    slots: Annotated[int, typer.Option(help="Number of experts that the device holds at once.")],
    prompt: Annotated[str | None, typer.Option(help="Text that the model continues.")] = None,
    text: Annotated[Path | None, typer.Option(help="File with the text that the model continues.")] = None,
    policy: Annotated[
        str, typer.Option(help="Offloading policies, comma-separated, that can be asked while a model runs.")
    ] = "lookahead",
    max_new_tokens: Annotated[int, typer.Option(help="Stop after this many tokens.")] = 64,
    device: Annotated[str, typer.Option(help="Where to compute: cpu or cuda.")] = "cpu",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also generate with every expert resident; exit 1 if the texts differ.")
    ] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Write the routing of the generated tokens, a trace for `specmoe simulate`.")
    ] = None,
    timeline: Annotated[
        Path | None, typer.Option(help="Write when the first policy's loads and experts ran, for ui.perfetto.dev.")
    ] = None,
) -> None:
    """Generate text greedily with a real model whose experts are offloaded."""
    from specmoe.traces import write_trace
    from specmoe.traces.collect import quieten
    from specmoe.validate.generation import generated, write_timeline
    from specmoe.validate.writing import Ask

    if prompt is not None and text is not None:
        raise InputError("either --prompt or --text expected, and not both")
    begin = prompt if text is None else read_text(text, "a text")
    if begin is None:
        raise InputError("a text to continue expected: --prompt or --text")
    quieten()
    policies = [name.strip() for name in policy.split(",") if name.strip()]
    result = generated(model, Ask(begin, max_new_tokens), policies, slots, device, compare, timed=timeline is not None)
    if trace is not None and "decode" in result.made.traces:
        meta, block = result.made.traces["decode"]
        write_trace(trace, meta, [block])
    if timeline is not None:
        write_timeline(result.made, timeline)
    if not console.printed([row._asdict() for row in result.rows]):
        console.say(result.made.text)
        console.table(list(map(_shown, result.rows)))
        if compare:
            console.say(result.verdict)
    if result.differs:
        raise typer.Exit(1)


def _shown(row: "Row") -> dict[str, str]:
    return {
        "policy": row.policy,
        "tokens/s": f"{row.tokens_per_second:.1f}",
        "hits": "" if row.hits is None else f"{row.hits}/{row.uses}",
        "demand loads": "" if row.demand_loads is None else str(row.demand_loads),
        "prefetches": "" if row.prefetches is None else str(row.prefetches),
        **({"device memory, MiB": f"{row.peak_bytes / 2**20:.1f}"} if row.peak_bytes else {}),
    }

"""`specmoe budget`."""

from typing import TYPE_CHECKING, Annotated

import typer

from specmoe.commands import console, options

if TYPE_CHECKING:
    from specmoe.sim.budget import Budget

GIB = 1 << 30


def budget(
    model: Annotated[str, typer.Option("--model", "--shape", help=options.SHAPE, autocompletion=options.shapes)],
    vram: Annotated[str, typer.Option(help="All of the VRAM, e.g. 8GiB.")],
    context: Annotated[
        str, typer.Option(help="Tokens of each sequence whose keys and values stay in VRAM, e.g. 4096 or 32k.")
    ],
    batch: options.Batch = 1,
    held: Annotated[
        str | None, typer.Option("--format", help=options.FORMAT + options.OWN, autocompletion=options.formats)
    ] = None,
    dense_format: options.DenseFormat = None,
    kv_format: options.KvFormat = "f16",
    assumed_reserve: options.AssumedReserve = "1GiB",
) -> None:
    """Show what VRAM holds: weights that stay, the KV cache of a context, a reserve, and slots for experts."""
    from specmoe.hwprofiles.catalogue import load_shape
    from specmoe.sim.budget import Ask, Room
    from specmoe.sim.budget import budget as budget_of
    from specmoe.sim.config import AT_HOME

    shape = load_shape(model)
    dense = options.format_named("dense-format", dense_format)
    room = Room(shape, options.format_named("format", held) or shape.format, AT_HOME, dense)
    ask = Ask(
        vram=options.parse_bytes("vram", vram),
        batch=batch,
        **options.room_of(context, kv_format, assumed_reserve),
    )
    found = budget_of(room, ask)
    asked = {"model": shape.name, "format": room.format, "context": ask.context, "batch": batch, "kv_format": kv_format}
    if console.printed([asked | found.as_dict()]):
        return
    console.table(_lines(found), title=f"{found.vram_bytes / GIB:.2f} GiB of VRAM for {shape.name} in {room.format}")
    fits = "every expert" if found.fits else f"{found.slots:,} of {found.experts:,} experts"
    console.say(f"VRAM holds {fits} beside a context of {ask.context:,} tokens")
    console.say(f"the longest context that leaves a slot has {found.longest_context:,} tokens")


def _lines(found: "Budget") -> list[dict[str, str]]:
    sizes = {
        "weights that stay": found.dense_bytes,
        "KV cache": found.kv_bytes,
        "reserve for the runtime (assumed)": found.assumed_reserve_bytes,
        f"{found.slots:,} expert slots": found.slot_bytes,
        "unused": found.free_bytes,
    }
    return [{"what": what, "GiB": f"{size / GIB:.2f}"} for what, size in sizes.items()]

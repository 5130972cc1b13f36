"""`specmoe shape ...`: model shapes that are shipped, and shapes made from models' own files."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.measure import require_place

if TYPE_CHECKING:
    from specmoe.hwprofiles import ModelShape

app = console.group("List and show model shapes, and make one from a model's config.json or GGUF file.")


@app.command("list", examples=("specmoe shape list", "specmoe shape list --csv"))
def list_shapes() -> None:
    """List the shipped model shapes."""
    from specmoe.hwprofiles import load_shape, shape_names

    _print([_overview(load_shape(name)) for name in shape_names()])


@app.command(examples=("specmoe shape show mixtral-8x7b", "specmoe shape show mine.toml --json"))
def show(
    name: Annotated[str, typer.Argument(help="A shipped shape's name or a .toml file.", autocompletion=options.shapes)],
) -> None:
    """Show one model shape in full, with the bytes of an expert in every format."""
    from specmoe.hwprofiles import load_shape

    facts = _facts(load_shape(name))
    if not console.printed([facts]):
        console.table([{"field": name, "value": str(value)} for name, value in facts.items()])


@app.command(
    "from",
    examples=(
        "specmoe shape from config.json --name my-moe --out my-moe.toml",
        "specmoe shape from Qwen3-30B-A3B-Q4_K_M.gguf --out qwen3-q4.toml",
    ),
)
def from_file(
    file: Annotated[
        Path,
        typer.Argument(help="A model's Hugging Face config.json, or its .gguf file, of which only the header is read."),
    ],
    out: Annotated[Path, typer.Option(help="The shape to write, a .toml file for --shape or --model.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the shape. Default: the config.json's directory, else the file's name.")
    ] = None,
) -> None:
    """Write a model's shape from its own file, for --shape and --model of the other commands."""
    from specmoe.files import replacing
    from specmoe.hwprofiles.gguf_file import shape_from
    from specmoe.hwprofiles.shape_file import shape_toml

    require_place(out)
    shape = shape_from(file, name)
    with replacing(out) as temporary:
        temporary.write_text(shape_toml(shape), encoding="utf-8")
    _print([_overview(shape) | {"file": str(out)}])


def _print(rows: list[dict[str, Any]]) -> None:
    if not console.printed(rows):
        console.table(rows)


def _overview(shape: "ModelShape") -> dict[str, Any]:
    stacks = [shape.encoder, shape.decoder] if shape.encoder else [shape.decoder]
    return {
        "name": shape.name,
        "parameters_b": round(shape.total_parameters / 1e9, 2),
        "resident_b": round(shape.resident_parameters / 1e9, 2),
        "moe_layers": " + ".join(str(stack.moe_layers) for stack in stacks),
        "experts": shape.experts.number,
        "top_k": shape.experts.top_k,
        "format": shape.format,
        "expert_mib": round(shape.expert_bytes() / 2**20, 2),
        **({"dense_format": shape.in_file.dense_format} if shape.in_file else {}),
    }


def _facts(shape: "ModelShape") -> dict[str, Any]:
    from specmoe.hwprofiles.shape import FORMATS

    counts = ("expert_parameters", "router_parameters", "resident_parameters", "total_parameters", "routed_experts")
    return (
        dataclasses.asdict(shape)
        | {name: getattr(shape, name) for name in counts}
        | {"expert_bytes": {held: shape.expert_bytes(held) for held in FORMATS}}
    )

"""`specmoe generate`."""

from typing import Annotated

import typer

from specmoe.commands import console


def generate(
    model: Annotated[str, typer.Option(help="A MoE model: a bundled name, a checkpoint directory or a hub id.")],
    prompt: Annotated[str, typer.Option(help="Text that the model continues.")],
    slots: Annotated[int, typer.Option(help="Number of experts that the device holds at once.")],
    policy: Annotated[
        str, typer.Option(help="Offloading policies, comma-separated, that can be asked while a model runs.")
    ] = "lookahead",
    max_new_tokens: Annotated[int, typer.Option(help="Stop after this many tokens.")] = 64,
    device: Annotated[str, typer.Option(help="Where to compute: cpu or cuda.")] = "cpu",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also generate with every expert resident; exit 1 if the texts differ.")
    ] = False,
) -> None:
    """Generate text greedily with a real model whose experts are offloaded."""
    from specmoe.traces.collect import quieten
    from specmoe.validate.generation import generated

    quieten()
    policies = [name.strip() for name in policy.split(",") if name.strip()]
    result = generated(model, prompt, max_new_tokens, policies, slots, device, compare)
    console.say(result.made.text)
    console.table(result.rows)
    if compare:
        console.say(result.verdict)
    if result.differs:
        raise typer.Exit(1)

"""How `specmoe traces` prints what it found, for people."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from specmoe.commands import console

if TYPE_CHECKING:
    from specmoe.traces import Trace, TraceMeta
    from specmoe.traces.summary import Summary


def warn(meta: TraceMeta) -> None:
    """Say on standard error what every result made from the trace must repeat."""
    for warning in meta.warnings:
        console.say(f"WARNING: {warning}", err=True, fg="red", bold=True)


def print_info(trace: Trace, summary: Summary) -> None:
    """Three tables: metadata, tokens by text domain, use of experts by layer."""
    warn(trace.meta)
    facts = {name: value for name, value in vars(trace.meta).items() if name != "sources"}
    facts |= {name: getattr(summary, name) for name in ("tokens", "sequences", "dropped", "file_bytes")}
    console.table([{"field": name, "value": _plain(value)} for name, value in facts.items()], title=str(trace.path))
    sources = summary.tokens_by_source.items()
    console.table([{"source": name, "tokens": tokens} for name, tokens in sources], title="Tokens by text domain")
    layers = [
        {
            "layer": number,
            "entropy (bits)": round(layer.entropy_bits, 2),
            "active experts": f"{layer.active_experts}/{trace.meta.num_experts}",
            "top share": round(layer.top_share, 4),
        }
        for number, layer in enumerate(summary.layers)
    ]
    console.table(layers, title="Use of experts")


def print_tokens(rows: list[dict[str, Any]]) -> None:
    """A table a token, a row a layer, of `specmoe.traces.export.first_tokens`."""
    for (sequence, position, source, token), layers in groupby(rows, _token_of):
        title = f"sequence {sequence}, position {position}, {source}, token {token}"
        console.table([_layer_of(row) for row in layers], title=title)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return "; ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _token_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("sequence", "position", "source", "token"))


def _layer_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row's layer with its lists as text; probabilities to three digits, a line for each depth of the look-ahead."""
    ahead = "\n".join(map(_spaced, row["lookahead"]))
    lists = {name: _spaced(row[name]) for name in ("used", "others", "probs")}
    return {"layer": row["layer"], **lists, "lookahead": ahead}


def _spaced(numbers: list[float]) -> str:
    return " ".join(f"{number:.3g}" for number in numbers)

"""Styles of expert kernels: how weights are multiplied, and how many experts one launch serves."""

from typing import Literal, NamedTuple, get_args

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.shape import Format, is_compressed

Multiply = Literal["fused", "expand"]
Launching = Literal["separate", "grouped", "grouped-wait"]
Kernel = Literal["library", "fused"]  # that a curve was measured with: torch's product, or the one that reads slots

MULTIPLY: tuple[Multiply, ...] = get_args(Multiply)
LAUNCHING: tuple[Launching, ...] = get_args(Launching)


class Style(NamedTuple):
    """How the experts of an event are computed.

    `fused` multiplies with packed weights as they are read; `expand` first writes them out in 16 bits. `separate` is
    one launch per expert, each as its load lands; `grouped` is one launch for the resident experts and one for those
    that are loaded; `grouped-wait` is one launch for all, after all loads (as vLLM and llama.cpp do).
    """

    multiply: Multiply = "fused"
    launch: Launching = "separate"

    def __str__(self) -> str:
        return f"{self.multiply}/{self.launch}"


USUAL = Style()
RESIDENT = Style("fused", "grouped-wait")  # of experts that are all in VRAM: there is nothing to wait for


def style_of(text: str) -> Style:
    """The style that `text` names, e.g. "expand", "grouped" or "fused/grouped"; raises InputError."""
    style = Style()
    for part in text.split("/"):
        if part in MULTIPLY:
            style = style._replace(multiply=part)
        elif part in LAUNCHING:
            style = style._replace(launch=part)
        else:
            raise InputError(f"style {part!r}: {hint(part, (*MULTIPLY, *LAUNCHING))}")
    return style


def words_of(style: Style, held: Format) -> str:
    """What results call a style; how weights that are not compressed are multiplied is no choice."""
    return str(style) if is_compressed(held) else style.launch


def require_expandable(style: Style | None, held: Format) -> None:
    """Raise InputError for a style that expands weights which are not compressed."""
    if style is not None and style.multiply == "expand" and not is_compressed(held):
        raise InputError(f"format {held} is not compressed: style expand has nothing to expand")

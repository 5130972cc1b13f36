"""A model shape from its TOML file; every name must be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specmoe.errors import hint
from specmoe.files import read_toml
from specmoe.hwprofiles.formats import FORMATS
from specmoe.hwprofiles.reading import Place, read_record, require_names
from specmoe.hwprofiles.shape import Attention, Experts, ModelShape, Stack

_OWN = ("name", "source", "format", "d_model", "vocab", "tied")
_PARTS = {"attention": Attention, "experts": Experts, "decoder": Stack}


def read_shape(path: Path) -> ModelShape:
    """Read one file; raises InputError naming file, field and what would be right."""
    place, table = Place(str(path)), read_toml(path)
    require_names(place, table, (*_OWN, *_PARTS), ("encoder",))
    parts: dict[str, Any] = {name: read_record(cls, place / name, table[name]) for name, cls in _PARTS.items()}
    parts["encoder"] = read_record(Stack, place / "encoder", table["encoder"]) if "encoder" in table else None
    shape = read_record(ModelShape, place, {name: table[name] for name in _OWN}, parts)
    _check(place, shape)
    return shape


def _check(place: Place, shape: ModelShape) -> None:
    """Raise InputError for sizes that contradict each other."""
    if shape.format not in FORMATS:
        raise (place / "format").wrong(f"{shape.format!r}: {hint(shape.format, FORMATS)}")
    if not 1 <= shape.experts.top_k <= shape.experts.number:
        raise (place / "experts.top_k").wrong(f"{shape.experts.top_k}: 1 .. {shape.experts.number} expected")
    sizes = {
        "d_model": shape.d_model,
        "vocab": shape.vocab,
        "experts.d_ff": shape.experts.d_ff,
        "attention.heads": shape.attention.heads,
        "attention.kv_heads": shape.attention.kv_heads,
        "attention.head_dim": shape.attention.head_dim,
    }
    for name, size in sizes.items():
        if not size:
            raise (place / name).wrong("0: more than 0 expected")
    for name, stack in (("decoder", shape.decoder), ("encoder", shape.encoder)):
        if stack is not None:
            _check_stack(place / name, stack)


def _check_stack(place: Place, stack: Stack) -> None:
    if not stack.moe_every:
        raise (place / "moe_every").wrong("0: 1 or more expected")
    if stack.first_moe >= stack.layers:
        raise (place / "first_moe").wrong(f"{stack.first_moe}: a layer, 0 .. {stack.layers - 1}, expected")
    if (stack.layers - 1 - stack.first_moe) % stack.moe_every:
        raise (place / "moe_every").wrong(f"{stack.moe_every}: a rhythm that ends on the last layer expected")
    if (stack.first_moe or stack.moe_every > 1) and not stack.dense_d_ff:
        raise (place / "dense_d_ff").wrong("0: the width of the dense layers expected")

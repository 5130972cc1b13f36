"""Files of model shapes: reading checks a TOML file field by field; writing gives the text of one."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from specmoe.errors import Place, hint
from specmoe.files import read_record, read_toml, require_names
from specmoe.hwprofiles.shape import FORMATS, Attention, Cache, Experts, InFile, ModelShape, Stack

DEEPEST = 10_000  # layers
LARGEST, MOST = 1 << 40, 1 << 20  # bytes of an expert; experts of all layers whose bytes differ
_OWN = ("name", "source", "format", "d_model", "vocab", "tied")

_PARTS: dict[str, type[Any]] = {"attention": Attention, "experts": Experts, "decoder": Stack}
_OPTIONAL: dict[str, type[Any]] = {"encoder": Stack, "cache": Cache}


def read_shape(path: Path) -> ModelShape:
    """Read a model shape; raises InputError with file, field and expected value."""
    place, table = Place(str(path)), read_toml(path)
    require_names(place, table, (*_OWN, *_PARTS), (*_OPTIONAL, "in_file"))
    kinds = _PARTS | {name: cls for name, cls in _OPTIONAL.items() if name in table}
    parts = dict.fromkeys(_OPTIONAL) | {
        name: read_record(cls, place / name, table[name]) for name, cls in kinds.items()
    }
    parts["in_file"] = _in_file(place / "in_file", table["in_file"]) if "in_file" in table else None
    shape = read_record(ModelShape, place, {name: table[name] for name in _OWN}, parts)
    check_shape(place, shape)
    return shape


def _in_file(place: Place, table: Any) -> InFile:
    sizes = require_names(place, table, ("source", "expert_bytes"), ("dense_format",))["expert_bytes"]
    if not isinstance(sizes, list) or not all(type(size) is int and 0 < size <= LARGEST for size in sizes):
        raise (place / "expert_bytes").wrong(f"a list of whole numbers from 1 to {LARGEST} expected, one a MoE layer")
    texts = {name: text for name, text in table.items() if name != "expert_bytes"}
    return read_record(InFile, place, texts, {"expert_bytes": tuple(sizes)})


def shape_toml(shape: ModelShape) -> str:
    """Text of a shape's TOML file; fields that have their defaults are left out."""
    lines = [f"{name} = {_value(getattr(shape, name))}" for name in _OWN]
    for name in (*_PARTS, *_OPTIONAL, "in_file"):
        part = getattr(shape, name)
        if part is not None:
            given = [field for field in dataclasses.fields(part) if getattr(part, field.name) != field.default]
            lines += ["", f"[{name}]", *(f"{field.name} = {_value(getattr(part, field.name))}" for field in given)]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """A TOML value; texts are those of JSON, whose escapes TOML has, too."""
    return str(list(value)) if isinstance(value, tuple) else json.dumps(value)


def check_shape(place: Place, shape: ModelShape) -> None:
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
    if shape.cache is not None and not 1 <= shape.cache.full_every <= shape.decoder.layers:
        raise (place / "cache.full_every").wrong(f"{shape.cache.full_every}: 1 .. {shape.decoder.layers} expected")
    if shape.in_file is not None and shape.routed_experts > MOST:
        raise (place / "experts.number").wrong(f"{shape.routed_experts} in all layers: at most {MOST} expected")
    if shape.in_file is not None and len(shape.in_file.expert_bytes) != shape.decoder.moe_layers:
        count = len(shape.in_file.expert_bytes)
        raise (place / "in_file.expert_bytes").wrong(f"{count} numbers: {shape.decoder.moe_layers} MoE layers expected")


def _check_stack(place: Place, stack: Stack) -> None:
    if stack.layers > DEEPEST:
        raise (place / "layers").wrong(f"{stack.layers}: at most {DEEPEST} expected")
    if not stack.moe_every:
        raise (place / "moe_every").wrong("0: 1 or more expected")
    if stack.first_moe >= stack.layers:
        raise (place / "first_moe").wrong(f"{stack.first_moe}: a layer, 0 .. {stack.layers - 1}, expected")
    if (stack.layers - 1 - stack.first_moe) % stack.moe_every:
        raise (place / "moe_every").wrong(
            f"{stack.moe_every}: a spacing whose last MoE layer is the last layer expected"
        )
    if (stack.first_moe or stack.moe_every > 1) and not stack.dense_d_ff:
        raise (place / "dense_d_ff").wrong("0: the width of the dense layers expected")

"""Model shapes out of the header of a GGUF file; its weights are not read, and need not be there.

Sizes come from the list of tensors, so that one reader serves every architecture of `ARCHITECTURES`; bytes of experts
are those of the file. Counts and lengths in a header are checked against the file before anything of their size is
read. Source: gguf 0.19, `constants.py` and `gguf_reader.py`.
"""

import math
import re
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from specmoe.errors import InputError, Place, hint
from specmoe.files import parsing, require_regular
from specmoe.hwprofiles.model_config import MOST, MOST_LAYERS, Linear, mixed_attention, of_config, spaced
from specmoe.hwprofiles.shape import Attention, Cache, Experts, Format, InFile, ModelShape
from specmoe.hwprofiles.shape_file import check_shape


def shape_from(path: Path, name: str | None = None) -> ModelShape:
    """Shape of a model's `config.json` or .gguf file; raises InputError with file and field.

    `name` is by default the directory's of a `config.json`, else the file's.
    """
    if path.suffix not in (".json", ".gguf"):
        raise InputError(f"{path}: suffix {path.suffix!r}: .json (a Hugging Face config.json) or .gguf expected")
    own = path.resolve().parent.name if path.name == "config.json" else path.stem
    shape = of_gguf(path) if path.suffix == ".gguf" else of_config(path)
    shape = replace(shape, name=name or own)
    check_shape(Place(str(path)), shape)
    return shape


class TensorType(NamedTuple):
    """A type of GGUF: `bytes` of a block of `block` numbers, and the format whose kernels it is timed with."""

    name: str
    block: int
    bytes: int
    format: Format | None = None


TYPES: dict[int, TensorType] = {
    0: TensorType("F32", 1, 4, "fp32"),
    1: TensorType("F16", 1, 2, "fp16"),
    2: TensorType("Q4_0", 32, 18, "q4_0"),
    3: TensorType("Q4_1", 32, 20, "q4_0"),
    6: TensorType("Q5_0", 32, 22, "q5_k"),
    7: TensorType("Q5_1", 32, 24, "q5_k"),
    8: TensorType("Q8_0", 32, 34, "q8_0"),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110, "iq4_xs"),
    12: TensorType("Q4_K", 256, 144, "q4_k"),
    13: TensorType("Q5_K", 256, 176, "q5_k"),
    14: TensorType("Q6_K", 256, 210, "q6_k"),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98, "iq3_xxs"),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18, "q4_0"),
    21: TensorType("IQ3_S", 256, 110, "iq3_xxs"),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136, "iq4_xs"),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2, "bf16"),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17, "mxfp4"),
}

ARCHITECTURES = ("llama", "qwen2moe", "qwen3moe", "olmoe", "deepseek2", "gpt-oss", "glm4moe", "qwen3next")
WINDOW_EVERY = {"gpt-oss": 2}  # every n-th layer attends to all positions, the others to a window
SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MOST_FIELDS, MOST_ITEMS, MOST_TENSORS, LONGEST = 1 << 16, 1 << 22, 1 << 18, 1 << 16  # LONGEST: bytes of a kept text
EXPERT = re.compile(r"blk\.(\d{1,5})\.ffn_(gate|up|down|gate_up)(_exps|\.\d{1,5})\.(weight|bias)")
SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class Tensor(NamedTuple):
    """Sizes, the fastest first, and type of a tensor."""

    sizes: tuple[int, ...]
    type: TensorType

    @property
    def bytes(self) -> int:
        """Size in the file."""
        return math.prod(self.sizes) // self.type.block * self.type.bytes


class Header(NamedTuple):
    """Fields and tensors of a GGUF file, or of all parts of one that was split."""

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, Tensor]

    def get(self, name: str, default: int | None = None, least: int = 0) -> int:
        """A whole number of the model's architecture; the largest of a list."""
        field = f"{self.fields['general.architecture']}.{name}"
        value = self.fields.get(field, default)
        value = max(value, default=None) if isinstance(value, list) else value
        if type(value) is not int or not least <= value <= MOST:
            raise InputError(f"{self.path}: {field}: {value}: a whole number from {least} to {MOST:,} expected")
        return value

    def matrix(self, name: str) -> Tensor:
        """A tensor that must be there, of two sizes or more."""
        if name not in self.tensors or len(self.tensors[name].sizes) < 2:
            raise InputError(f"{self.path}: tensor {name}: missing: a matrix expected")
        return self.tensors[name]


class _Reader(NamedTuple):
    """Reads numbers and texts of a header, and never beyond the end of its file."""

    file: BinaryIO
    end: int

    def take(self, count: int) -> bytes:
        self.require(count)
        return self.file.read(count)

    def require(self, count: int) -> None:
        if count > self.end - self.file.tell():
            raise ValueError(f"ends early: {count} more bytes announced")

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def limited(self, most: int, what: str, code: str = "Q") -> int:
        number: int = self.number(code)
        if number > most:
            raise ValueError(f"{number} {what}: at most {most} expected")
        return number

    def text(self) -> str:
        """A text; a long one, e.g. a template of chats, is skipped and empty."""
        length = self.number("Q")
        self.require(length)
        if length > LONGEST:
            self.file.seek(length, 1)
            return ""
        return self.take(length).decode()

    def value(self) -> Any:
        """A value with its type; a list of texts is skipped and empty, as is one of more numbers than layers."""
        kind = self.number("I")
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.number(_scalar(kind))
        kind, count = self.number("I"), self.limited(MOST_ITEMS, "items of a list")
        if kind == STRING:
            for _ in range(count):
                length = self.number("Q")
                self.require(length)
                self.file.seek(length, 1)
            return []
        code = _scalar(kind)
        values = self.take(count * struct.calcsize(code))
        return list(struct.unpack(f"<{count}{code}", values)) if count <= MOST_LAYERS else []

    def field(self) -> tuple[str, Any]:
        return self.text(), self.value()

    def tensor(self) -> tuple[str, Tensor]:
        name, count = self.text(), self.limited(4, "dimensions of a tensor", "I")
        sizes = tuple(self.number("Q") for _ in range(count))
        kind, _ = self.number("I"), self.number("Q")
        if kind not in TYPES:
            raise ValueError(f"{name}: type {kind} of a tensor is not known here")
        if not all(0 < size <= MOST for size in sizes) or not sizes or sizes[0] % TYPES[kind].block:
            raise ValueError(f"{name}: {list(sizes)} in blocks of {TYPES[kind].block} is no size of a tensor")
        return name, Tensor(sizes, TYPES[kind])


def _scalar(kind: int) -> str:
    if kind not in SCALARS:
        raise ValueError(f"type {kind} of a value is not known here")
    return SCALARS[kind]


def read_header(path: Path) -> Header:
    """Header of a GGUF file; of a split one, of all its parts, which lie side by side. Raises InputError."""
    fields, tensors = dict[str, Any](), dict[str, Tensor]()
    for part in _parts(path):
        require_regular(part, "a GGUF file")
        with parsing(part, "a GGUF file"), part.open("rb") as file:
            reader = _Reader(file, part.stat().st_size)
            if reader.take(4) != b"GGUF":
                raise ValueError("does not begin with GGUF")
            if (version := reader.number("I")) not in (2, 3):
                raise ValueError(f"version {version}: 2 or 3, with the lowest byte first, expected")
            count = reader.limited(MOST_TENSORS, "tensors")
            fields = dict(reader.field() for _ in range(reader.limited(MOST_FIELDS, "fields"))) | fields
            tensors |= dict(reader.tensor() for _ in range(count))
    return Header(path, fields, tensors)


def _parts(path: Path) -> list[Path]:
    split = SPLIT.search(path.name)
    if not split:
        return [path]
    of = split[2]
    return [path.with_name(f"{path.name[: split.start()]}-{part:05}-of-{of}.gguf") for part in range(1, int(of) + 1)]


def of_gguf(path: Path) -> ModelShape:
    """Shape of a GGUF file, without a name of its own."""
    header = read_header(path)
    kind = header.fields.get("general.architecture")
    if kind not in ARCHITECTURES:
        raise InputError(f"{path}: general.architecture: {kind!r}, not known here: {hint(kind, ARCHITECTURES)}")
    layers, number = header.get("block_count") - header.get("nextn_predict_layers", 0), header.get("expert_count", 0)
    if not number or not 0 < layers <= MOST_LAYERS:
        raise InputError(f"{path}: {kind}.expert_count: {number} in {layers} layers: a model with experts expected")
    inside, held = _inside(header, layers, number)
    d_model, vocab = header.matrix("token_embd.weight").sizes[:2]
    attention, cache = _attention(header, d_model)
    dense = next((tensor.sizes[0] for name, tensor in header.tensors.items() if name.endswith(".ffn_down.weight")), 0)
    place = Place(str(path), "tensors of experts")
    return ModelShape(
        name="",
        source=f"GGUF header of {path.name}, architecture {kind}",
        format=held,
        d_model=d_model,
        vocab=vocab,
        tied="output.weight" not in header.tensors,
        attention=attention,
        experts=_experts(header, min(inside), number),
        decoder=spaced(place, sorted(inside), layers, dense),
        cache=cache,
        in_file=InFile(path.name, tuple(inside[layer] for layer in sorted(inside)), _dense_format(header)),
    )


def _inside(header: Header, layers: int, number: int) -> tuple[dict[int, int], Format]:
    """Bytes of one expert of each layer that has experts, and the format that most of their bytes are in."""
    of_layer, of_type = Counter[int](), Counter[TensorType]()
    for name, tensor in header.tensors.items():
        expert = EXPERT.fullmatch(name)
        if expert is None or int(expert[1]) >= layers:
            continue
        if expert[3] == "_exps" and tensor.sizes[-1] != number:
            raise InputError(f"{header.path}: tensor {name}: {tensor.sizes[-1]} experts: {number} expected")
        of_layer[int(expert[1])] += tensor.bytes
        of_type[tensor.type] += tensor.bytes
    if not of_layer:
        raise InputError(f"{header.path}: no tensor of experts, e.g. blk.0.ffn_up_exps.weight: one a layer expected")
    ((most, _),) = of_type.most_common(1)
    if most.format is None:
        known = ", ".join(kind.name for kind in TYPES.values() if kind.format)
        raise InputError(f"{header.path}: experts are {most.name}, whose kernels are not simulated: {known} expected")
    return {layer: -(-size // number) for layer, size in of_layer.items()}, most.format


def _dense_format(header: Header) -> str:
    """Format of most bytes of the weights that are no experts; empty if no kernels of it are simulated."""
    of_type = Counter[TensorType]()
    for name, tensor in header.tensors.items():
        of_type[tensor.type] += 0 if EXPERT.fullmatch(name) else tensor.bytes
    ((most, _),) = of_type.most_common(1)
    return most.format or ""


def _experts(header: Header, layer: int, number: int) -> Experts:
    """Experts by the tensors of one layer."""
    block = f"blk.{layer}.ffn"
    one = "_exps" if f"{block}_down_exps.weight" in header.tensors else ".0"
    shared = header.tensors.get(f"{block}_down_shexp.weight")
    return Experts(
        number=number,
        top_k=header.get("expert_used_count"),
        d_ff=header.matrix(f"{block}_down{one}.weight").sizes[0],
        gated=any(f"{block}_{part}{one}.weight" in header.tensors for part in ("gate", "gate_up")),
        biased=f"{block}_down{one}.bias" in header.tensors,
        shared_d_ff=shared.sizes[0] if shared else 0,
    )


def _attention(header: Header, d_model: int) -> tuple[Attention, Cache | None]:
    heads, kind = header.get("attention.head_count", least=1), header.fields["general.architecture"]
    latent = header.get("attention.kv_lora_rank", 0)
    key = header.get("attention.key_length", d_model // heads)
    if latent:
        rope = header.get("rope.dimension_count")
        head_dim = header.get("attention.key_length_mla", key) - rope
        return Attention(heads, heads, head_dim, latent, rope, header.get("attention.q_lora_rank", 0)), None
    attention = Attention(heads, header.get("attention.head_count_kv", heads), key)
    if kind == "qwen3next":
        state, number = header.get("ssm.state_size"), header.get("ssm.time_step_rank", least=1)
        keys, values = header.get("ssm.group_count") * state, header.get("ssm.inner_size")
        linear = Linear(keys, number, values // number, state, header.get("ssm.conv_kernel"))
        every = header.get("full_attention_interval", 4, least=1)
        return mixed_attention(d_model, attention, linear, every, "GGUF header: linear attention")
    window = header.get("attention.sliding_window", 0)
    if kind not in WINDOW_EVERY or not window:
        return attention, None
    return attention, Cache(f"GGUF header: a window of {window}", WINDOW_EVERY[kind], window=window)

"""Names in lists of other people's figures: which shape, formats, style and policy they mean.

Each function returns what is simulated, or raises `UnpredictableError` with a plain reason. Lists name models in many
ways ("openai/gpt-oss-20b", "Qwen3-30B-A3B-Instruct-2507", "qwen3:30b").
"""

import re
from typing import NamedTuple

from specmoe.hwprofiles.basis import HostSet
from specmoe.hwprofiles.catalogue import SUFFIX, load_shape, shape_names
from specmoe.hwprofiles.kernels import Style
from specmoe.hwprofiles.shape import Format, ModelShape, is_compressed
from specmoe.sim.decide.misses import named
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.reproduce.public_cpu import ALL_ON_CPU, OnCpu
from specmoe.sim.reproduce.public_rows import UnpredictableError
from specmoe.sim.resident import Mix

_UNSAID = re.compile(r"\W*|n/?a|none|unknown|not (named|stated|said|known)|auto|default|usual|unspecified")


def is_unsaid(text: str) -> bool:
    """Whether a cell says nothing: empty, -, ?, n/a, default."""
    return bool(_UNSAID.fullmatch(text.strip().lower()))


# Models. Other words of a name (instruct, coder, 2507, a fine-tune's) leave the shape as it is, but for these.
_RESHAPED = {"reap", "pruned", "distill", "draft", "eagle", "eagle3", "mtp"}
_OTHER_NAMES = (  # of the same shapes, in this order
    (r"gpt[-_ ]?oss[-_ :]*(?=\d)", "gpt-oss-"),
    (r"qwen3[-_ ]?(moe|vl|coder)\b", "qwen3"),
    (r"qwen3[-_ ]?next\b", "qwen3-next"),
    (r"qwen35[-_ ]?moe\b|qwen3\.5(?=\W*35b)", "qwen3.6"),
    (r"(\d+b)\.(a\d+b)", r"\1-\2"),
    (r"(qwen3\W+30b)(?!\W*a3b)", r"\1-a3b"),
    (r"(qwen3\.6\W+35b)(?!\W*a3b)", r"\1-a3b"),
    (r"olmoe(?!.*1b)", "olmoe-1b-7b"),
    (r"glm[-_ ]?4\.5[-_ ]?air", "glm-4.5-air"),
)


def shape_of(model: str) -> ModelShape:
    """The shape that a list's model means: the shipped one most of whose words are in the name, or a .toml file."""
    if model.endswith(SUFFIX):
        return load_shape(model)
    name = model.rsplit("/", 1)[-1].lower()
    for pattern, usual in _OTHER_NAMES:
        name = re.sub(pattern, usual, name)
    words = _words(name)
    fitting = [name for name in shape_names() if set(_words(name)) <= set(words)]
    if not fitting or _RESHAPED & set(words):
        raise UnpredictableError(f"no shape of {model.strip() or 'a model without a name'}")
    return load_shape(max(fitting, key=lambda name: (len(_words(name)), len(name))))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[-_ :/()\[\],]+", name.strip().lower()) if word]


# Formats.
class Held(NamedTuple):
    """Formats of experts, of other weights and of the output matrix, and what differs from the file that was used."""

    experts: Format
    dense: Format
    head: Format
    mix: Mix | None = None
    note: str = ""

    @property
    def formats(self) -> tuple[Format, ...]:
        """Formats of experts."""
        return (self.experts, self.mix.format) if self.mix else (self.experts,)


# llama.cpp's "medium" files keep the down projections of half the layers at 6 bits: a sixth of an expert's weights.
_SIXTH = Mix("q6_k", 1 / 6)
_GGUF: dict[str, Held] = {
    "q8_0": Held("q8_0", "q8_0", "q8_0"),
    "q6_k": Held("q6_k", "q6_k", "q6_k"),
    "q5_k_m": Held("q5_k", "q5_k", "q6_k", _SIXTH),
    "q5_k": Held("q5_k", "q5_k", "q6_k"),
    "q5_0": Held("q5_k", "q5_k", "q6_k"),
    "q4_k_m": Held("q4_k", "q4_k", "q6_k", _SIXTH),
    "q4_k_xl": Held("q4_k", "q4_k", "q6_k", _SIXTH),
    "q4_k": Held("q4_k", "q4_k", "q6_k"),
    "q4_0": Held("q4_0", "q4_0", "q6_k"),
    "q4_1": Held("q4_0", "q4_0", "q6_k", note="q4_1 is taken as q4_0, which has 10 % fewer bits"),
    "iq4_nl": Held("q4_0", "q4_0", "q6_k"),
    "iq4_xs": Held("iq4_xs", "iq4_xs", "q6_k"),
    "iq4": Held("iq4_xs", "iq4_xs", "q6_k"),
    "iq5": Held("q5_k", "q5_k", "q6_k"),
    "q3": Held("iq4_xs", "iq4_xs", "q6_k", note="q3_k is taken as iq4_xs, which has more bits"),
    "q8": Held("q8_0", "q8_0", "q8_0"),
    "q6": Held("q6_k", "q6_k", "q6_k"),
    "q5": Held("q5_k", "q5_k", "q6_k", _SIXTH),
    "q4": Held("q4_k", "q4_k", "q6_k", _SIXTH),
    "iq3": Held("iq3_xxs", "iq3_xxs", "q6_k"),
}
_LLAMA_CPP = ("llama", "ollama", "lm studio", "kobold", "not named", "jan", "gguf")
_TWO_BITS = re.compile(r"\b(2[- ]bits?|hqq(?!\D*4)|i?q2|i?q1|ternary|1\.\d+|tq[12])")
_OTHERS: tuple[tuple[re.Pattern[str], Format], ...] = (
    (re.compile(r"\b(int8|8[- ]?bits?|w8a16|w8a8|fp8)"), "int8"),
    (re.compile(r"\b(nvfp4|fp4|awq|gptq|int4|4[- ]?bits?|w4a16|nf4|bnb|marlin|4(\.\d*)? ?bpw|exl[23]|hqq)"), "int4"),
    (re.compile(r"\bbf16\b"), "bf16"),
    (re.compile(r"\bf(p|loat)?16\b"), "fp16"),
    (re.compile(r"\bf(p|loat)?32\b"), "fp32"),
)


def held_of(quant: str, runtime: str, model: str = "") -> Held:
    """The formats that a list's quantisation means, as the runtime's files have them.

    4 and 8 bits that are not GGUF leave the output matrix at 16 bits, but for gpt-fast. Every file of gpt-oss has its
    experts as they were trained, in mxfp4, whatever its name says. A list that names no quantisation means the usual.
    """
    text, program = quant.lower().replace("-", "_"), runtime.lower()
    spaced = quant.lower().replace("_", " ")
    of_gguf = any(name in program for name in _LLAMA_CPP) or "gguf" in text
    if "mxfp4" in text or (re.search(r"gpt\W?oss", model.lower()) and (of_gguf or is_unsaid(quant) or quant == model)):
        dense: Format = "q8_0" if of_gguf else "bf16"
        return Held("mxfp4", dense, dense)
    if _TWO_BITS.search(spaced):
        raise UnpredictableError(f"no kernels of {quant.strip()} are simulated")
    name = next((name for name in sorted(_GGUF, key=len, reverse=True) if re.search(rf"(^|\W|_){name}", text)), None)
    if name is not None:
        return _dynamic(_GGUF[name]) if re.match(r"ud\b|ud_", text) else _GGUF[name]
    for pattern, held in _OTHERS:
        if pattern.search(spaced):
            note = "fp8 is taken as int8" if "fp8" in spaced else ""
            head: Format = held if "gpt-fast" in program or not is_compressed(held) else "bf16"
            return Held(held, held, head, note=note)
    if is_unsaid(quant) or quant == model:
        usual = "q4_k_m" if of_gguf else "bf16"
        return held_of(usual, runtime)._replace(note=f"no quantisation is named: {usual} is taken")
    raise UnpredictableError(f"quantisation {quant.strip()!r} is not simulated")


def _dynamic(held: Held) -> Held:
    """Unsloth's dynamic files keep weights that every token uses at 8 bits."""
    return held._replace(dense="q8_0", note="dynamic quantisation: weights that are no experts are taken as q8_0")


# Runtimes and policies.
GRAPH, EAGER = Style("fused", "grouped-wait"), Style("fused", "separate")


def style_of_runtime(runtime: str) -> tuple[Style, HostSet]:
    """How a runtime launches the experts of a resident model, and which costs of the host it has."""
    text = runtime.lower()
    if re.search(r"\b(eager|transformers|hf|hugging ?face)\b", text) and "compile" not in text:
        return EAGER, "eager"
    return GRAPH, "graph"


def samples_on_host(runtime: str, source: str) -> bool:
    """Whether a figure includes choosing tokens on the host: runtimes of GGUF files do so, their benchmark does not."""
    text = f"{runtime} {source}".lower()
    if re.search(r"llama-bench|\btg ?\d+|\bpp ?\d+", text):
        return False
    return bool(re.search(r"llama\.cpp|ollama|lm studio|koboldcpp|not named", runtime.lower()))


_OF_CPUS = re.compile(r"ktransformers|fiddler|powerinfer")  # runtimes whose missing experts the CPU computes
_WHOLLY = re.compile(r"\b(cpu[- ]only|pure cpu|no gpu|ngl ?=? ?0)\b|--?ngl ?=? ?0\b")
_OVERRIDE = re.compile(r"(?:-ot|override[-_ ]tensors?)[ =]+[\"']?(\S+?)=cpu\b", re.IGNORECASE)
_FIRST = re.compile(r"n[-_ ]?(?:cpu[-_ ]?)(?:moe|experts?)\b\W*(\d+)?|\bncmoe\b\W*(\d+)?")
_FIRST_IN_WORDS = re.compile(r"(\d+)(?: of \d+)? layers?\b(?=.*(?:cpu|ram))|(?:cpu|ram)\D*(\d+)(?: of \d+)? layers?\b")
_LAST = re.compile(r"(?:^|[ -])(?:llama-)?fit\b(?: on)?\W*(\d+)?")
_ALL = re.compile(r"cpu[-_ ]?(?:moe|experts?)\b|\bcmoe\b|experts?\b.*\b(?:cpu|ram)|exps=cpu|cpu offload")
_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?%|:(0?\.\d+|[01](?:\.0)?)\b")
_EXPERTS_IN_VRAM = re.compile(r"(?:gpu[-_ ]?experts?|num-gpu-experts)\W*(\d+)|(\d+)(?: of \d+)? (?:gpu )?experts?\b")
_PARALLEL = re.compile(r"\b(tp|pp|ep) ?=? ?([2-9]|1\d)\b|tensor[- ]parallel|multi[- ]gpu")
_SPECULATIVE = re.compile(r"speculative|draft|eagle|\bmtp\b|medusa")
_FLAG = re.compile(  # of llama.cpp, that move no expert
    r"(?:^|\s)--?(?:fa|flash-attn|c|ctx-size|b|ub|batch-size|ubatch-size|t|threads|ctk|ctv|p|n|np|mmp|no-mmap|jinja)"
    r"(?:[ =]+(?!-)\S+)?(?=\s|$)|(?:^|[\s,])fa[ =]?(?:1|on)\b"
)
_ON_GPU = re.compile(r"(?:^|\s)(?:--?)?(?:ngl|n-gpu-layers|gpu-layers)[ =:]*(\d+|all|auto)\b")
_RESIDENT = re.compile(
    r"\W*(?:(?:all|full|fully|entire|entirely|whole|everything|model|experts?|weights|layers|in|on|the|to|gpu|vram|only"
    r"|resident|offload|offloaded|fits?|without|no|cpu|1|one|single|of)\b\W*)+"
)
_NOT_RESIDENT = re.compile(r"(?<!no )(?<!without )\b(cpu|expert offload\w*|experts? offload\w*)|^offload(ed)?$|\bfit\b")
_NO_OFFLOAD = re.compile(r"\b(?:no|without) (?:cpu[- _]?|expert )(?:moe|offload\w*)", re.IGNORECASE)
_LAYERS_ON_CPU = "whole layers on the CPU, attention with them, are not simulated"
_PARTIAL = re.compile(r"partial|hybrid|\blayers?\b.*\bcpu|split")
_SLOTS = re.compile(r"(\d+) of \d+ experts (a|per) layer")


class Offload(NamedTuple):
    """A policy that loads experts, and the number of slots a layer has; None: as many as VRAM holds."""

    policy: str
    slots_a_layer: int | None


def policy_of(policy: str, runtime: str, shape: ModelShape) -> Offload | OnCpu | None:
    """The policy that a list's row means for a model; None if the model is resident.

    A cell that says nothing leaves it to the options that the runtime's cell names.
    """
    policy = _NO_OFFLOAD.sub("resident", policy)
    text, program = " ".join(policy.lower().split()), runtime.lower()
    experts = shape.experts.number
    for pattern, what in ((_PARALLEL, "several GPUs are"), (_SPECULATIVE, "speculative decoding is")):
        if pattern.search(f"{text} {program}"):
            raise UnpredictableError(f"{what} not simulated")
    if _WHOLLY.search(text):
        raise UnpredictableError("a model whose every weight is on the CPU is not simulated")
    if slots := _SLOTS.search(text):
        return Offload("mixtral-offloading", int(slots[1]))
    unsaid = is_unsaid(text)
    on_cpu = _on_cpu(runtime if unsaid else policy, program, experts)
    if _is_resident(text, unsaid, shape) and not on_cpu:
        return None
    if on_cpu:
        return on_cpu
    if named(text)[0] in POLICIES:
        return Offload(text, None)
    if _PARTIAL.search(text):
        raise UnpredictableError(_LAYERS_ON_CPU)
    if "offload" in text or "moe-infinity" in text or "on demand" in text:
        known = next((name for name in ("mixtral-offloading", "moe-infinity") if name in f"{text} {program}"), None)
        return Offload(known or "moe-infinity", None)
    raise UnpredictableError(f"policy {policy.strip()!r} is not simulated")


def _is_resident(text: str, unsaid: bool, shape: ModelShape) -> bool:
    """Whether words and options leave every expert in VRAM; raises UnpredictableError if some layers are not there."""
    if on_gpu := _ON_GPU.search(text):
        if on_gpu[1].isdecimal() and int(on_gpu[1]) < shape.decoder.layers:
            raise UnpredictableError(_LAYERS_ON_CPU)
        text = _ON_GPU.sub(" ", text)
    words = " ".join(_FLAG.sub(" ", text).split())
    return unsaid or not words or bool(_RESIDENT.fullmatch(words) and not _NOT_RESIDENT.search(words))


def _on_cpu(policy: str, program: str, experts: int) -> OnCpu | None:
    """Which experts a policy leaves to the CPU for good; None if it is no such policy."""
    text = " ".join(policy.lower().split())
    if override := _OVERRIDE.search(policy):
        return _by_pattern(override[1])
    if first := _FIRST.search(text):
        if re.search(r"(moe|experts?)[ =:]*-\d", text):
            raise UnpredictableError(f"policy {policy.strip()!r}: a number of layers from 0 expected")
        return OnCpu("first", _number(first))
    if re.search("expert|moe", text) and (first := _FIRST_IN_WORDS.search(text)):
        return OnCpu("first", _number(first))
    if last := _LAST.search(text):
        return OnCpu("last", _number(last))
    if text.startswith("fiddler") or (not text and "fiddler" in program):
        return OnCpu("share")
    if re.match("ktransformers(?!-popular)", text) or _OF_CPUS.search(program):
        return _share_in_vram(text, experts)
    return ALL_ON_CPU if _ALL.search(text) else None


def _number(match: re.Match[str]) -> float | None:
    return next((float(group) for group in match.groups() if group), None)


def _by_pattern(pattern: str) -> OnCpu:
    try:
        re.compile(pattern)
    except re.error:
        raise UnpredictableError(f"override-tensor {pattern!r}: a regular expression expected") from None
    return OnCpu("pattern", None, pattern)


def _share_in_vram(text: str, experts: int) -> OnCpu:
    """A stated share or number of experts in VRAM; none, as KTransformers by default, if neither is stated."""
    if share := _SHARE.search(text):
        return OnCpu("share", float(share[1]) / 100 if share[1] else float(share[2]))
    number = _EXPERTS_IN_VRAM.search(text)
    return OnCpu("share", (_number(number) or 0) / experts) if number and experts else ALL_ON_CPU


SHORT, TG128 = 128, 64  # positions: of "short"; the mean of 128 tokens after an empty context
_POSITIONS = r"(\d{1,9}(?:\.\d+)?) ?(k?)"
_BENCH = re.compile(rf"(?:pp ?\d+ ?[/+,] ?)?tg ?\d+(?: ?@ ?d? ?=? ?{_POSITIONS})?")
_BOTH = re.compile(  # a prompt and what follows it
    rf"(?:prompt )?{_POSITIONS}(?: (?:in|input|prompt|tokens? in))? ?[;,/+] ?{_POSITIONS}"
    r" ?(?:out\w*|generated|gen|new|tokens)?"
)
_BETWEEN = re.compile(rf"{_POSITIONS} ?(?:-|to|\u2013) ?{_POSITIONS}")
_CONTEXT = re.compile(
    rf"[~<\u2248@ ]*(?:--?(?=[a-z]))?(?:d|depth|n_depth|ctx|ctx-size|context|c|prompt)?[ =:]*{_POSITIONS}"
    r" ?(?:\(?(?:tokens?|positions|ctx|context|depth|prompt|allocated)\)?)?"
)


def context_of(context: str) -> int:
    """Positions that a token attends to: of a range the middle, of a prompt and an answer the middle of the answer."""
    text = context.strip().lower().replace(",000", "000")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    if text in ("short", "empty") or is_unsaid(text):
        return SHORT
    if bench := _BENCH.fullmatch(text):
        return _positions(*bench.groups()) or TG128
    if both := _BOTH.fullmatch(text):
        return round(_positions(both[1], both[2]) + _positions(both[3], both[4]) / 2)
    if between := _BETWEEN.fullmatch(text):
        return round((_positions(between[1], between[2] or between[4]) + _positions(between[3], between[4])) / 2)
    number = _CONTEXT.fullmatch(text)
    if number is None:
        raise UnpredictableError(f"context {context.strip()!r}: a number of positions, or short, expected")
    return _positions(*number.groups()) or TG128


def _positions(number: str | None, thousands: str | None) -> int:
    return round(float(number or 0) * (1024 if thousands else 1))


_BATCH = re.compile(
    r"(?:b|bs|batch|batch size)?[ =:]*([1-9]\d{0,5})(?:\.0)?(?: ?(?:users?|sequences?|streams?|requests?|slots?))?"
)


def batch_of(batch: str) -> int:
    """Sequences that decode together."""
    text = "1" if is_unsaid(batch) else re.sub(r"^(single|one)\b.*", "1", batch.strip().lower())
    number = _BATCH.fullmatch(text)
    if number is None:
        raise UnpredictableError(f"batch {batch.strip()!r}: a whole number from 1 expected")
    return int(number[1])

"""Names in lists of other people's figures: which profile, shape, formats, style and policy they mean.

Each function returns what is simulated, or raises `UnpredictableError` with a plain reason. Lists name cards and models
in many ways ("NVIDIA GeForce RTX 4090", "openai/gpt-oss-20b", "Qwen3-30B-A3B-Instruct-2507").
"""

import re
from typing import NamedTuple

from specmoe.hwprofiles.catalogue import (
    SUFFIX,
    load_host,
    load_profile,
    load_shape,
    machine_name,
    profile_names,
    shape_names,
)
from specmoe.hwprofiles.costs import HostSet
from specmoe.hwprofiles.machines import paired
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import Format, ModelShape, is_compressed
from specmoe.hwprofiles.style import Style
from specmoe.sim.decide.misses import named
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.reproduce.public_cards import card_profile, cards
from specmoe.sim.reproduce.public_cpu import ALL_ON_CPU, OnCpu
from specmoe.sim.resident import Mix


class UnpredictableError(Exception):
    """A row for which nothing is predicted; its message is the reason."""


# Cards. What says nothing about the chip, or is said by the profile itself.
_FILLER = re.compile(
    r"\b(nvidia|geforce|quadro(?= rtx a)|tesla|rtx|gpus?|graphics|card|pcie( ?\d(\.0)?)?( x16)?|sxm\d?|nvl|hbm\w*"
    r"|gddr\w*|workstation|server|edition|founders|fe|blackwell|ampere|hopper|tensor core|single|one|1x)\b"
)
_SEVERAL = re.compile(r"^\W*([2-9]|1\d)\s*[x\u00d7*]\s*\D|[ (][x\u00d7]\s*([2-9])\W*$|^dual\b")
_MEMORY = re.compile(r"(\d+) ?(gb|gib|g)\b")
_SAME_MEMORY = (0.95, 1.12)  # a profile's VRAM in GB, by that of a card's name, which may mean GiB
_FASTER_ON_SXM = ("h100",)  # cards whose PCIe version has slower memory


def profile_of(gpu: str, host: str | None = None) -> HardwareProfile:
    """The profile that a list's card means, in a host: a shipped name, a .toml file, or the name of the card."""
    text = " ".join(gpu.lower().replace("_", " ").split())
    if text in profile_names() or gpu.endswith(SUFFIX):
        return load_profile(machine_name(gpu if gpu.endswith(SUFFIX) else text, host))
    if _SEVERAL.search(text):
        raise UnpredictableError("several GPUs are not simulated")
    core, memory = _core(text), _MEMORY.search(text)
    for name in profile_names():
        if core and core == _core(name.replace("rtx", "rtx ")):
            profile = load_profile(machine_name(name, host))
            wanted = int(memory[1]) * 1e9 if memory else None
            same = wanted is None or _SAME_MEMORY[0] < profile["device.vram"] / wanted < _SAME_MEMORY[1]
            slower = core in _FASTER_ON_SXM and "pcie" in text
            if same and not slower:
                return profile
    for row in cards():
        wanted = int(memory[1]) if memory else None
        if core and core == _core(row["card"].lower()) and wanted in (None, int(row["vram"])):
            return _in_host(card_profile(row["card"]), host)
    raise UnpredictableError(f"no profile of {gpu.strip() or 'a card without a name'}")


def _in_host(profile: HardwareProfile, host: str | None) -> HardwareProfile:
    return profile if host is None else paired(profile, load_host(host))


def _core(text: str) -> str:
    """What is left of a card's name: 3090, 3090ti, a100."""
    words = text.lower().replace("-", " ").replace("mobile", "laptop")
    return re.sub(r"[^a-z0-9]", "", _FILLER.sub(" ", _MEMORY.sub(" ", words)))


# Models. Other words of a name (instruct, coder, 2507, a fine-tune's) leave the shape as it is, but for these.
_RESHAPED = {"reap", "pruned", "distill", "draft", "eagle", "eagle3", "mtp"}


def shape_of(model: str) -> ModelShape:
    """The shape that a list's model means: the shipped one most of whose words are in the name, or a .toml file."""
    if model.endswith(SUFFIX):
        return load_shape(model)
    words = _words(model.rsplit("/", 1)[-1])
    fitting = [name for name in shape_names() if set(_words(name)) <= set(words)]
    if not fitting or _RESHAPED & set(words):
        raise UnpredictableError(f"no shape of {model.strip() or 'a model without a name'}")
    return load_shape(max(fitting, key=lambda name: (len(_words(name)), len(name))))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[-_ :/]+", name.strip().lower()) if word]


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
    "q3_k": Held("iq4_xs", "iq4_xs", "q6_k", note="q3_k is taken as iq4_xs, which has more bits"),
    "q8": Held("q8_0", "q8_0", "q8_0"),
    "q6": Held("q6_k", "q6_k", "q6_k"),
    "q5": Held("q5_k", "q5_k", "q6_k", _SIXTH),
    "q4": Held("q4_k", "q4_k", "q6_k", _SIXTH),
    "iq3": Held("iq3_xxs", "iq3_xxs", "q6_k"),
}
_LLAMA_CPP = ("llama", "ollama", "lm studio", "kobold", "not named", "jan", "gguf")
_TWO_BITS = re.compile(r"\b(2[- ]bits?|hqq|i?q2|i?q1|ternary|1\.\d+|tq[12])")
_OTHERS: tuple[tuple[re.Pattern[str], Format], ...] = (
    (re.compile(r"\b(int8|8[- ]?bits?|w8a16|w8a8|fp8)"), "int8"),
    (re.compile(r"\b(nvfp4|awq|gptq|int4|4[- ]?bits?|w4a16|nf4|bnb|marlin|4\.\d*bpw|exl[23])"), "int4"),
    (re.compile(r"\bbf16\b"), "bf16"),
    (re.compile(r"\bf(p|loat)?16\b"), "fp16"),
    (re.compile(r"\bf(p|loat)?32\b"), "fp32"),
)


def held_of(quant: str, runtime: str) -> Held:
    """The formats that a list's quantisation means, as the runtime's files have them.

    4 and 8 bits that are not GGUF leave the output matrix at 16 bits, but for gpt-fast.
    """
    text, program = quant.lower().replace("-", "_"), runtime.lower()
    spaced = quant.lower().replace("_", " ")
    if "mxfp4" in text:
        dense: Format = "q8_0" if any(name in program for name in _LLAMA_CPP) or "gguf" in text else "bf16"
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
    known = f"quantisation {quant.strip()!r} is not simulated"
    raise UnpredictableError(known if quant.strip() else "no quantisation named")


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
_RESIDENT = re.compile(
    r"^(resident|gpu-only|all (in|on) (the )?gpu|full(y)? offload(ed)?( to gpu)?|ngl ?\d+|in vram|)$"
)
_SLOTS = re.compile(r"(\d+) of \d+ experts (a|per) layer")


class Offload(NamedTuple):
    """A policy that loads experts, and the number of slots a layer has; None: as many as VRAM holds."""

    policy: str
    slots_a_layer: int | None


def policy_of(policy: str, runtime: str, experts: int = 0) -> Offload | OnCpu | None:
    """The policy that a list's row means; None if the model is resident. A layer has `experts`."""
    text, program = " ".join(policy.lower().split()), runtime.lower()
    for pattern, what in ((_PARALLEL, "several GPUs are"), (_SPECULATIVE, "speculative decoding is")):
        if pattern.search(f"{text} {program}"):
            raise UnpredictableError(f"{what} not simulated")
    if _WHOLLY.search(text):
        raise UnpredictableError("a model whose every weight is on the CPU is not simulated")
    if slots := _SLOTS.search(text):
        return Offload("mixtral-offloading", int(slots[1]))
    if _RESIDENT.match(text) and (text or not _OF_CPUS.search(program)):
        return None
    if on_cpu := _on_cpu(policy, program, experts):
        return on_cpu
    if named(text)[0] in POLICIES:
        return Offload(text, None)
    if "offload" in text or "moe-infinity" in text or "on demand" in text:
        known = next((name for name in ("mixtral-offloading", "moe-infinity") if name in f"{text} {program}"), None)
        return Offload(known or "moe-infinity", None)
    raise UnpredictableError(f"policy {policy.strip()!r} is not simulated")


def _on_cpu(policy: str, program: str, experts: int) -> OnCpu | None:
    """Which experts a policy leaves to the CPU for good; None if it is no such policy."""
    text = " ".join(policy.lower().split())
    if override := _OVERRIDE.search(policy):
        return _by_pattern(override[1])
    if first := _FIRST.search(text):
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


_CONTEXT = re.compile(
    r"(?:tg ?\d+ ?@? ?)?@? ?(?:d|depth|ctx|context|c)? ?=? ?(\d{1,9}|\d{1,6}(?:\.\d+)?k)(?: ?(?:tokens|positions))?"
)


def context_of(context: str) -> int:
    """Positions that a token attends to."""
    text = context.strip().lower()
    if text in ("short", ""):
        return SHORT
    number = _CONTEXT.fullmatch(text.replace(",", ""))
    if number is None:
        raise UnpredictableError(f"context {context.strip()!r}: a number of positions, or short, expected")
    positions = float(number[1].rstrip("k")) * (1024 if number[1].endswith("k") else 1)
    return round(positions) or TG128


def batch_of(batch: str) -> int:
    """Sequences that decode together."""
    text = batch.strip() or "1"
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise UnpredictableError(f"batch {batch.strip()!r}: a whole number from 1 expected")
    return int(text)

"""Cards in lists of other people's figures: a shipped profile, or that of a similar card, as both data sheets say.

Memory bandwidth and arithmetic are those of the similar card, times the ratio of what both specify; launches, waits and
copies are the similar card's, and no CPU is known. data/cards.csv has the specifications, with the page or document
that gives them (`source`) and which of them it gives (`confirmed`): all others were remembered, and are assumed.
"""

import csv
import re
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from specmoe.hwprofiles.catalogue import SUFFIX, load_host, load_profile, machine_name, paired, profile_names
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.what_if import from_spec_sheet
from specmoe.sim.reproduce.public_rows import UnpredictableError

TABLE = files("specmoe.hwprofiles") / "data" / "cards.csv"
REMEMBERED = "from memory, not confirmed by a document"
MEMORY, VRAM, GENERATION, PINNED = (
    "device.memory_bandwidth",
    "device.vram",
    "link.generation",
    "host_to_device.pinned.bandwidth",
)


@cache
def cards() -> tuple[dict[str, str], ...]:
    """The cards of the table, by column."""
    return tuple(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))


@cache
def card_profile(card: str) -> HardwareProfile:
    """The profile of a card of the table."""
    row: dict[str, Any] = next(one for one in cards() if one["card"] == card)
    base, arithmetic = load_profile(row["base"]), float(row["fp32"]) / float(row["base_fp32"])
    slower = 2.0 ** min(0, float(row["generation"]) - base[GENERATION])
    values = {
        VRAM: float(row["vram"]) * 2**30,
        MEMORY: base[MEMORY] * float(row["memory"]) / float(row["base_memory"]),
        GENERATION: float(row["generation"]),
        **({PINNED: base[PINNED] * slower} if PINNED in base else {}),  # else a measured curve, of as fast a link
        **{name: base[name] * arithmetic for name in base.quantities if name.startswith("gemm.") and ".rate" in name},
    }
    made = from_spec_sheet(
        card.lower().replace(" ", "-"), card, values, f"{row['source']}, in proportion to {base.name}", base
    )
    quantities = {name: one for name, one in made.quantities.items() if not name.startswith("cpu.")}
    remembered = {name: quantities[name] for name in values if _column(name) not in row["confirmed"].split()}
    assumed = {name: replace(one, source="assumed", ref=REMEMBERED) for name, one in remembered.items()}
    return replace(made, quantities=quantities | assumed)


def _column(quantity: str) -> str:
    """The column of the table that a quantity of a card comes from."""
    return {VRAM: "vram", MEMORY: "memory", GENERATION: "generation", PINNED: "generation"}.get(quantity, "fp32")


# Cards. What says nothing about the chip, or is said by the profile itself.
_FILLER = re.compile(
    r"\b(nvidia|geforce|quadro(?= rtx a)|tesla|rtx|gpus?|graphics|card|pcie( ?\d(\.0)?)?( x16)?|sxm\d?|nvl|hbm\w*"
    r"|gddr\w*|workstation|server|edition|founders|fe|blackwell|ampere|hopper|tensor core|single|one|1x)\b"
)
_SEVERAL = re.compile(r"^\W*([2-9]|1\d)\s*[x\u00d7*]\s*\D|[ (][x\u00d7]\s*([2-9])\W*$|^dual\b")
_MEMORY = re.compile(r"(?<![a-z\d])([1-9]\d*) ?(gb|gib|g)\b")
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
        if core and core == _core(name):
            profile = load_profile(machine_name(name, host))
            wanted = int(memory[1]) * 1e9 if memory else None
            same = wanted is None or _SAME_MEMORY[0] < profile["device.vram"] / wanted < _SAME_MEMORY[1]
            slower = core in _FASTER_ON_SXM and re.search("pcie|nvl", text)
            if same and not slower:
                return profile
    for row in cards():
        wanted, card = int(memory[1]) if memory else None, row["card"].lower()
        same = core == _core(card) and ("nvl" in card) == ("nvl" in text)
        if core and same and wanted in (None, int(row["vram"])):
            return _in_host(card_profile(row["card"]), host)
    raise UnpredictableError(f"no profile of {gpu.strip() or 'a card without a name'}")


def _in_host(profile: HardwareProfile, host: str | None) -> HardwareProfile:
    return profile if host is None else paired(profile, load_host(host))


def _core(text: str) -> str:
    """What is left of a card's name: 3090, 3090ti, a100."""
    words = re.sub(r"\b(rtx|gtx)(?=\d)", r"\1 ", text.lower().replace("-", " "))
    words = re.sub(r"\b(mobile|notebook|max q)\b|(?<=\d)m\b", " laptop ", words)
    return re.sub(r"[^a-z0-9]", "", _FILLER.sub(" ", _MEMORY.sub(" ", words)))

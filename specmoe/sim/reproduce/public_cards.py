"""Cards without a profile of their own: the profile of a similar card, in proportion to both data sheets.

Memory bandwidth and arithmetic are those of the similar card, times the ratio of what both specify; launches, waits and
copies are the similar card's, and no CPU is known. data/cards.csv has the specifications.
"""

import csv
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from specmoe.hwprofiles.catalogue import load_profile
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.spec_sheet import from_spec_sheet

TABLE = files("specmoe.hwprofiles") / "data" / "cards.csv"
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
        PINNED: base[PINNED] * slower,
        **{name: base[name] * arithmetic for name in base.quantities if name.startswith("gemm.") and ".rate" in name},
    }
    ref = f"{row['ref']}, in proportion to {base.name}"
    made = from_spec_sheet(card.lower().replace(" ", "-"), card, values, ref, base)
    quantities = {name: one for name, one in made.quantities.items() if not name.startswith("cpu.")}
    return replace(made, quantities=quantities)

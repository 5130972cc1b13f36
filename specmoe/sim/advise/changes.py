"""What may be changed about a question, one thing at a time, the mildest first: VRAM, link, format, batch.

Kinds are compared by a factor of two of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from specmoe.hwprofiles.formats import BITS, FORMATS, Format
from specmoe.sim.advise.setting import Setting, gib
from specmoe.sim.advise.space import placed
from specmoe.sim.advise.trials import Configuration

Kind = Literal["vram", "link", "predictor", "format", "batch"]
TWICE = 2
VRAM_FACTORS = (1.25, 1.5, TWICE, 3, 4)
LINK_FACTORS = (1.5, TWICE, 4, 8)
BATCH_FACTORS = (TWICE, 4, 8, 16)
MOST_SEQUENCES = 64  # in a batch
HALF = ("fp32", "fp16", "int8", "int4")  # each of half the bytes of the one before
HOME_OF = ("fp16", "bf16")  # slots that a compressed home is tried with


class Change(NamedTuple):
    """One thing changed, in words, and the configurations that are tried then."""

    kind: Kind
    what: str
    configurations: tuple[Configuration, ...]
    caveat: str = ""  # what must be borne in mind


def more_vram(setting: Setting, contenders: Sequence[Configuration], factors: Iterable[float]) -> Iterator[Change]:
    """Up to what holds the whole model, and no further."""
    first = contenders[0]
    whole, has = setting.whole_bytes(first.format), int(setting.profile["device.vram"])
    for vram in sorted({int(min(whole, first.vram * factor)) for factor in factors}):
        if vram <= first.vram:
            continue
        held = "every expert" if vram == whole else f"{setting.slots(first.format, vram)} slots"
        caveat = f"{setting.profile.name} has {gib(has)}" if vram > has else ""
        wanted = [one._replace(vram=vram) for one in contenders]
        yield Change("vram", f"{gib(vram)} of VRAM for {held}", _placed(setting, wanted), caveat)


def faster_link(contenders: Sequence[Configuration], factors: Iterable[float]) -> Iterator[Change]:
    """The same decisions on a link of more bandwidth."""
    for factor in factors:
        wanted = tuple(one._replace(link=factor) for one in contenders)
        yield Change("link", f"a link {times(factor)} as fast", wanted)


def fewer_bytes(setting: Setting, contenders: Sequence[Configuration]) -> Iterator[Change]:
    """Formats of fewer bits than the best has, and was not allowed: in the slots, or at home and on the link only."""
    first = contenders[0]
    for held in lower(first.format):
        if held not in setting.formats:
            wanted = [one._replace(format=held, home=None) for one in contenders]
            if first.format in HOME_OF:
                wanted += [one._replace(home=held) for one in contenders]
            yield Change("format", f"experts in {held}", _placed(setting, wanted), "if its quality is acceptable")


def lower(held: Format) -> list[Format]:
    """Formats of fewer bits, one of each size, the largest first."""
    return [name for name in FORMATS if name in HALF and BITS[name] < BITS[held]]


def larger_batch(contenders: Sequence[Configuration], factors: Iterable[int]) -> Iterator[Change]:
    """More sequences at once; the rate is of all together."""
    for batch in (contenders[0].batch * factor for factor in factors):
        if batch <= MOST_SEQUENCES:
            wanted = tuple(one._replace(batch=batch) for one in contenders)
            yield Change("batch", f"a batch of {batch}", wanted, "all sequences together")


def times(factor: float) -> str:
    """A factor in words."""
    return "twice" if factor == TWICE else f"{factor:g} times"


def _placed(setting: Setting, wanted: Iterable[Configuration]) -> tuple[Configuration, ...]:
    return tuple(dict.fromkeys(placed(setting, wanted)))

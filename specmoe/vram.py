"""What VRAM holds beside the KV cache of a context: `specmoe.budget` and `specmoe budget`.

found = specmoe.budget("gpt-oss-20b", vram="8GiB", context="16k", kv_format="q8_0")
found.row["slots"], found.row["kv_bytes"]
found.table  # the lines of the budget
found.plot()  # slots against context, a line for each format of the cache
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.catalogue import load_shape
from specmoe.hwprofiles.shape import FORMATS, KV_FORMATS, Format, KvFormat
from specmoe.sim.budget import GIB, Ask, Budget, Room, fitting, longest_fitting, tokens_of
from specmoe.sim.budget import budget as budget_of
from specmoe.sim.config import ASSUMED_RESERVE, AT_HOME
from specmoe.units import COUNTS, quantity, whole

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LEAST_DRAWN = 1024  # tokens


def _drawn(number: int) -> int:
    """The contexts of a curve, tokens: four in every doubling."""
    return round(LEAST_DRAWN * 2 ** (number / 4))


@dataclass(frozen=True)
class VramBudget:
    """What VRAM holds beside the KV cache of a context, and how many slots for experts are left."""

    room: Room
    ask: Ask
    found: Budget

    @property
    def row(self) -> dict[str, Any]:
        """All lines in bytes, the slots, and the longest context that leaves one: what `--json` prints."""
        asked = {"model": self.room.shape.name, "format": self.room.format, "context": self.ask.context}
        return asked | {"batch": self.ask.batch, "kv_format": self.ask.kv_format} | self.found.as_dict()

    @property
    def lines(self) -> list[tuple[str, int]]:
        """What takes VRAM, and how many bytes of it."""
        found = self.found
        return [
            ("weights that stay", found.dense_bytes),
            ("KV cache", found.kv_bytes),
            ("reserve for the runtime (assumed)", found.assumed_reserve_bytes),
            (f"{found.slots:,} expert slots", found.slot_bytes),
            ("unused", found.free_bytes),
        ]

    @cached_property
    def table(self) -> "pd.DataFrame":
        """The lines of the budget, in GiB; together they are the VRAM."""
        import pandas as pd

        return pd.DataFrame([{"what": what, "GiB": size / GIB} for what, size in self.lines])

    @cached_property
    def slots_by_context(self) -> dict[KvFormat, list[tuple[int, int]]]:
        """Contexts and the slots that each leaves, for each format of the KV cache, until no slot is left."""
        return {held: self._curve(replace(self.ask, kv_format=held)) for held in KV_FORMATS}

    def _curve(self, ask: Ask) -> list[tuple[int, int]]:
        longest, experts = longest_fitting(self.room, ask), self.found.experts
        contexts = [*takewhile(lambda tokens: tokens < longest, map(_drawn, count())), longest]
        slots = (fitting(self.room, replace(ask, context=tokens)) for tokens in contexts)
        return [(tokens, min(experts, left)) for tokens, left in zip(contexts, slots, strict=True)]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the slots that a context leaves, a line for each format of the KV cache; on new Axes by default."""
        from specmoe.analysis.figures.memory import draw_slots

        return draw_slots(self.slots_by_context, self.found.experts, self.ask.context, ax)

    def _repr_html_(self) -> str:
        return str(self.table.to_html(index=False, float_format=lambda value: f"{value:.2f}"))


def budget(
    model: str | Path,
    vram: int | str,
    context: int | str,
    *,
    batch: int = 1,
    format: Format | None = None,  # noqa: A002  # the option's name
    dense_format: Format | None = None,
    kv_format: KvFormat = "f16",
    assumed_reserve: int | str = ASSUMED_RESERVE,
) -> VramBudget:
    """Show what VRAM holds beside a context: weights that stay, its KV cache, a reserve, and slots for experts.

    `model` is a shipped name or a TOML file, `context` tokens (4096, "32k") of each of `batch` sequences. Default
    formats: the model's own for experts, and the one they are computed in for other weights. Raises InputError, which
    says how long a context fits, if it leaves no slot.
    """
    shape = load_shape(str(model))
    known: dict[str, tuple[str | None, tuple[str, ...]]] = {
        "format": (format, FORMATS),
        "dense-format": (dense_format, FORMATS),
        "kv-format": (kv_format, KV_FORMATS),
    }
    for name, (value, choices) in known.items():
        if value is not None and value not in choices:
            raise InputError(f"--{name} {value}: {hint(value, choices)}")
    ask = Ask(
        vram=_bytes("vram", vram),
        context=tokens_of(f"--context {context}", context),
        batch=whole(f"--batch {batch}", batch, *COUNTS["batch"]),
        kv_format=kv_format,
        assumed_reserve=_bytes("assumed-reserve", assumed_reserve),
    )
    room = Room(shape, format or shape.format, AT_HOME, dense_format)
    return VramBudget(room, ask, budget_of(room, ask))


def _bytes(name: str, size: int | str) -> int:
    return size if isinstance(size, int) else int(quantity(f"--{name} {size}", name.upper(), size, "B"))

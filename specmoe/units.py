"""Numbers and their units, as people write them and as files hold them: `8GiB`, `26.2GB/s`, `2.7us`, `5 TFLOPS`.

Inside, every quantity is in the base unit of its dimension: B, B/s, ns (whole), flop, flop/s, token, token/s, or 1 for
a plain number. `MB` is 10^6 and `MiB` 2^20 bytes; bandwidth is bytes moved one way. Files name the units of `UNITS`
exactly; people may write any case, a space before the unit, `8G` for `8GB`, and the spellings of `ALIASES`. `Gb` is
refused, as it means bits. A quantity that has a unit is never a bare number.
"""

import re
from typing import Any, Literal, NamedTuple

from specmoe.errors import InputError

Dimension = Literal["B", "B/s", "ns", "flop", "flop/s", "token", "token/s", "1"]
Value = str | int | float | bool

KIND: dict[Dimension, str] = {
    "B": "bytes",
    "B/s": "a bandwidth",
    "ns": "a time",
    "flop": "operations",
    "flop/s": "an arithmetic rate",
    "token": "tokens",
    "token/s": "a throughput",
    "1": "a plain number",
}


class Unit(NamedTuple):
    """`scale` base units of a dimension."""

    dimension: Dimension
    scale: float


UNITS: dict[str, Unit] = {
    "B": Unit("B", 1),
    "KiB": Unit("B", 2**10),
    "MiB": Unit("B", 2**20),
    "GiB": Unit("B", 2**30),
    "TiB": Unit("B", 2**40),
    "kB": Unit("B", 1e3),
    "MB": Unit("B", 1e6),
    "GB": Unit("B", 1e9),
    "TB": Unit("B", 1e12),
    "B/s": Unit("B/s", 1),
    "kB/s": Unit("B/s", 1e3),
    "MB/s": Unit("B/s", 1e6),
    "MiB/s": Unit("B/s", 2**20),
    "GB/s": Unit("B/s", 1e9),
    "GiB/s": Unit("B/s", 2**30),
    "TB/s": Unit("B/s", 1e12),
    "ns": Unit("ns", 1),
    "us": Unit("ns", 1e3),
    "ms": Unit("ns", 1e6),
    "s": Unit("ns", 1e9),
    "flop": Unit("flop", 1),
    "GFLOP": Unit("flop", 1e9),
    "flop/s": Unit("flop/s", 1),
    "GFLOP/s": Unit("flop/s", 1e9),
    "TFLOP/s": Unit("flop/s", 1e12),
    "PFLOP/s": Unit("flop/s", 1e15),
    "token": Unit("token", 1),
    "token/s": Unit("token/s", 1),
    "1": Unit("1", 1),
}
ALIASES = {
    **{f"{prefix}flops": f"{prefix.upper()}FLOP/s" for prefix in "gtp"},
    "flops": "flop/s",
    **{f"{prefix}{binary}": f"{prefix.upper()}{binary}B" for prefix in "mgt" for binary in ("", "i")},
    "k": "kB",
    "ki": "KiB",
    **dict.fromkeys(("\N{MICRO SIGN}s", "\N{GREEK SMALL LETTER MU}s"), "us"),
    **dict.fromkeys(("t/s", "tok/s", "toks/s", "tokens/s"), "token/s"),
    "tokens": "token",
}
SHOWN: dict[Dimension, tuple[str, ...]] = {
    "B": ("B", "KiB", "MiB", "GiB"),
    "B/s": ("B/s", "MB/s", "GB/s", "TB/s"),
    "ns": ("ns", "us", "ms", "s"),
    "flop": ("flop", "GFLOP"),
    "flop/s": ("flop/s", "GFLOP/s", "TFLOP/s"),
    "token": ("token",),
    "token/s": ("token/s",),
    "1": ("1",),
}


class Limits(NamedTuple):
    """What a number from a user may be, ends included, in base units; an example, and the base unit in words."""

    least: float
    most: float
    example: str
    words: str


LIMITS: dict[Dimension, Limits] = {
    "B": Limits(1, 2.0**50, "8GiB", "bytes"),
    "B/s": Limits(1e6, 1e15, "26.2GB/s", "bytes/s"),
    "ns": Limits(0, 1e11, "2.7us", "units of time"),
    "flop": Limits(1, 1e21, "5GFLOP", "operations"),
    "flop/s": Limits(1e9, 1e18, "5TFLOP/s", "operations/s"),
    "token": Limits(1, 1e12, "100token", "tokens"),
    "token/s": Limits(1e-6, 1e12, "20tok/s", "tokens/s"),
    "1": Limits(0, 1e9, "0.8", "no unit"),
}
COUNTS = {  # least and most, by the name of an option
    "slots": (1, 10**7),
    "compressed-slots": (0, 10**7),
    "batch": (1, 10**6),
    "threads": (1, 10**6),
    "steps": (1, 10**9),
    "pieces": (1, 10**6),
    "timeline-steps": (1, 10**9),
    "warm-up": (0, 10**9),
    "sequences": (1, 10**9),
    "tokens": (1, 10**9),
    "candidates": (1, 2**15),
    "num-experts": (1, 2**15),
    "window": (1, 10**6),
    "generate": (1, 10**6),
    "capacity": (1, 10**9),
    "save-every": (1, 10**9),
    "epochs": (1, 10**6),
    "patience": (1, 10**6),
    "repeats": (2, 10**4),
    "draws": (0, 10**4),
    "seed": (0, 2**32 - 1),
    "workers": (1, 10**4),
}
SHARES = {"rate": (0, 1000), "weight-decay": (0, 1000), "assumed-stickiness": (0, 1)}  # the same, not whole
MOST_OTHER = 10**9  # of any other number of things
LEAST_FACTOR, MOST_FACTOR = 1e-4, 1e4  # of what multiplies a quantity
NUMBER = re.compile(
    r"\s*(?P<number>[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?)\s*(?P<unit>[^\s0-9+.-]\S*)?\s*", re.IGNORECASE
)
BITS = re.compile(r"[KMGT]i?b(/s)?|.*bits?(/s)?")
BARE_GIB = 4096  # of bytes without a unit, at most this number is probably meant in GiB
WHOLE: tuple[Dimension, ...] = ("ns", "B", "token")
_SPELLINGS = {name.lower(): name for name in UNITS} | ALIASES


def shown(value: float, dimension: Dimension) -> tuple[str, str]:
    """Value and unit for people: the largest unit in which the value is 1 or more, and none for a plain number."""
    names = SHOWN[dimension]
    name = next((name for name in reversed(names) if value >= UNITS[name].scale), names[0])
    return f"{value / UNITS[name].scale:.5g}", "" if dimension == "1" else name


def exact(value: float, dimension: Dimension) -> str:
    """A number with its unit that `quantity` reads back as the same number: `26.2GB/s`."""
    if dimension == "1":
        return f"{value}"
    units = [name for name in reversed(SHOWN[dimension]) if abs(value) >= UNITS[name].scale]
    texts = [f"{value / UNITS[name].scale:.6g}{name}" for name in units]
    return next((text for text in texts if _base(text) == value), f"{value!r}{SHOWN[dimension][0]}")


def quantity(where: str, name: str, text: str, dimension: Dimension) -> float:
    """A number in base units from text such as 26.2GB/s; `where` begins a complaint, `name` is what it is called.

    Raises InputError for a bare number where a unit is needed, another dimension's unit, and a number out of `LIMITS`.
    """
    limits = LIMITS[dimension]
    written = NUMBER.fullmatch(text)
    if written is None:
        kind = "a number" if dimension == "1" else f"{KIND[dimension]} such as {limits.example}"
        raise InputError(f"{where}: {kind} expected")
    unit = written["unit"]
    if unit is None and dimension != "1":
        raise InputError(f"{where}: {name} is in {limits.words}: {_instead(text.strip(), dimension)}")
    spelled = "1" if unit is None else _SPELLINGS.get(unit.lower(), "")
    if unit is not None and BITS.fullmatch(unit):
        raise InputError(f"{where}: {unit} means bits: bytes expected, e.g. {limits.example}")
    if not spelled or UNITS[spelled].dimension != dimension:
        raise InputError(f"{where}: {unit} is no unit of {name}, which is in {limits.words}: e.g. {limits.example}")
    return within(where, float(written["number"]) * UNITS[spelled].scale, dimension)


def within(where: str, value: float, dimension: Dimension) -> float:
    """A number in base units, whole for times, bytes and tokens; raises InputError for one out of `LIMITS`."""
    limits = LIMITS[dimension]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: a number expected")
    if not limits.least <= value <= limits.most:
        least, most = ("".join(shown(end, dimension)) for end in limits[:2])
        raise InputError(f"{where}: a finite number from {least} to {most} expected")
    if dimension not in WHOLE:
        return value
    if value and not round(value):
        raise InputError(f"{where}: at least 1 {dimension} expected")
    return round(value)


def factor(where: str, value: Any) -> float:
    """What multiplies a quantity, a number without a unit; raises InputError."""
    number = quantity(where, "a factor", value, "1") if isinstance(value, str) else within(where, value, "1")
    if not LEAST_FACTOR <= number <= MOST_FACTOR:
        raise InputError(f"{where}: a factor from {LEAST_FACTOR:g} to {MOST_FACTOR:,.0f} expected")
    return number


def whole(where: str, value: Any, least: int = 0, most: int = 10**9) -> int:
    """A whole number, ends included; raises InputError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (isinstance(value, int) or value.is_integer()):
        raise InputError(f"{where}: a whole number expected")
    if value < least:
        raise InputError(f"{where}: at least {least:,} expected")
    if value > most:
        raise InputError(f"{where}: at most {most:,} expected")
    return int(value)


def scalar(text: str) -> Value:
    """A number where it is one, true, false, or the text."""
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _instead(number: str, dimension: Dimension) -> str:
    if dimension == "B" and 0 < float(number) <= LIMITS["B"].most:
        return f"did you mean {number}{'GiB' if float(number) <= BARE_GIB else 'B'}?"
    return f"e.g. {LIMITS[dimension].example}"


def _base(text: str) -> float:
    """The number of a text that is known to be right."""
    written = NUMBER.fullmatch(text)
    assert written is not None
    unit = UNITS[_SPELLINGS[written["unit"].lower()]]
    value = float(written["number"]) * unit.scale
    return round(value) if unit.dimension in WHOLE else value

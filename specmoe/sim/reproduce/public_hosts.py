"""Hosts in lists of other people's figures: how fast a named CPU and its memory read, and how many cores compute.

    host = host_of("Ryzen 7 5700X, 64GB DDR4-3000 2ch, read 42.4 GB/s")
    host.read, host.cores

data/cpu_memory.csv has the rates that were measured, and the usual memory of families of CPUs. `source` is the page or
document that gives a row's numbers and `confirmed` says which of them; all others are assumed. A rate in the text comes
before it if it is measured (`read 42.4 GB/s`); of a nominal one (`102 GB/s`) 70 to 93 % is read, where the table has
no measured rate of the CPU.
"""

import csv
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from specmoe.hwprofiles.kernels import Share

TABLE = files("specmoe.hwprofiles") / "data" / "cpu_memory.csv"
NOMINAL = Share(0.82, 0.7, 0.93)  # read, of what memory does nominally: 7 to 30 % less
READ = {  # likewise, by kind of memory, of the measured rates in the table
    "ddr3": Share(0.85, 0.7, 0.93),
    "ddr4": Share(0.88, 0.7, 0.93),
    "ddr5": Share(0.72, 0.6, 0.93),
    "lpddr5": Share(0.8, 0.6, 0.93),
}
READ_SERVER = Share(0.55, 0.29, 0.83)  # of six channels or more: EPYC 7402P to 9374F
USUAL_SPEED = {"ddr3": 1600.0, "ddr4": 3200.0, "ddr5": 5600.0, "lpddr5": 7500.0}  # million transfers a second
MEASURED_WITHIN = 0.05  # range of a rate that a row says was measured
DESKTOP, SERVER = 2, 6  # channels
CORES = 8
BYTES = 8  # of a transfer

_LINK = re.compile(r"pcie[^,;]*?(\([^)]*\)|(?=[,;]|$))|\([^)]*probe\)")
_KIND = re.compile(r"(lp)?ddr([345])x?(?:[- ]?(\d{4,5}))?")
_SPEED = re.compile(r"(\d{4,5}) ?(?:mt/?s|mhz)")
_CHANNELS = re.compile(r"(\d+)[- ]?(?:ch\b|channels?)")
_WORDS = {"single": 1, "dual": 2, "two": 2, "quad": 4, "four": 4, "hexa": 6, "six": 6, "octa": 8, "eight": 8}
_CHANNELS_IN_WORDS = re.compile(rf"\b({'|'.join(_WORDS)})[- ]?(?:ch\b|channels?)")
_RATE = re.compile(r"(?:(read|measured|stream|triad)\w*[ :=]*)?(\d+(?:\.\d+)?) ?gb/s(?: (read|measured))?")
_THREADS = re.compile(r"\bt ?= ?(\d{1,3})\b|\b(\d{1,3}) ?threads?\b|--threads (\d{1,3})\b")
_CORES = re.compile(r"\b(\d{1,3})[- ]?(?:c\b|cores?\b)")
_SHORT = (  # names of CPUs in few letters
    (re.compile(r"\b(i[3579])[ -]+(?=\d{4})"), r"\1-"),
    (re.compile(r"\br([3579])[ -]?(?=\d{4})"), r"ryzen \1 "),
)
_SOCKETS = re.compile(r"\b(2 ?[x\u00d7] ?|dual[- ]|two )(?=epyc|xeon|intel|amd|\d{4}|socket|e5|gold|platinum)")


class RowHost(NamedTuple):
    """Rate at which a host's memory is read, bytes/s, with its range; cores that compute; and what is not stated."""

    read: Share
    cores: int
    note: str = ""


class _Memory(NamedTuple):
    cpu: str
    kind: str
    speed: float
    channels: int
    cores: int
    read: Share | None  # GB/s


def host_of(text: str, runtime: str = "") -> RowHost | None:
    """The host that a list's row means; None if the text names neither a CPU, nor memory, nor a rate."""
    named = " ".join(_LINK.sub(" ", text.lower().replace("\u2122", "").replace("(r)", "")).split())
    for short, usual in _SHORT:
        named = short.sub(usual, named)
    known = _known(named)
    read, measured = _stated(named)
    note = ""
    if read is None or (not measured and any(one.read for one in known)):
        read, note = _read(named, known)
    if read is None:
        return None
    if _SOCKETS.search(named):
        read, note = Share(1.5 * read.value, read.low, 2 * read.high), f"{note}; both sockets read 1 to 2 times as much"
    threads = next((int(match) for one in (named, runtime.lower()) for match in _numbers(_THREADS, one)), None)
    cores = next((int(match) for match in _numbers(_CORES, named)), None)
    return RowHost(read, max(1, threads or cores or (known[0].cores if known else CORES)), note.strip("; "))


def _stated(text: str) -> tuple[Share | None, bool]:
    """The rate that the text has, and whether it is a measured one."""
    rates = list(_RATE.finditer(text))
    best = next((rate for rate in rates if rate[1] or rate[3]), rates[0] if rates else None)
    if best is None or not float(best[2]):
        return None, False
    value = float(best[2]) * 1e9
    if best[1] or best[3]:
        return Share(value, value * (1 - MEASURED_WITHIN), value * (1 + MEASURED_WITHIN)), True
    return _times(NOMINAL, value), False


def _read(text: str, known: "list[_Memory]") -> tuple[Share | None, str]:
    """A measured rate of the CPU, in proportion to the memory's speed and channels, or else a part of the nominal."""
    kind, speed, channels = _memory(text)
    measured = [one for one in known if one.read and kind in (None, one.kind)]
    if measured:
        nearest = min(measured, key=lambda one: (abs(one.speed - (speed or one.speed)), -one.speed))
        ratio = (speed or nearest.speed) / nearest.speed * (channels or nearest.channels) / nearest.channels
        assert nearest.read is not None
        said = "" if speed else "the memory's speed is not stated"
        return _times(nearest.read, ratio * 1e9), said
    if not known and kind is None and speed is None:
        return None, ""
    kind = kind or (known[0].kind if known else "ddr4" if (speed or 0) < LEAST_DDR5 else "ddr5")
    usual = known[0] if known and known[0].kind == kind else None
    channels = channels or (known[0].channels if known else DESKTOP)
    nominal = (speed or (usual.speed if usual else USUAL_SPEED[kind])) * 1e6 * BYTES * channels
    part = READ_SERVER if channels >= SERVER else READ[kind]
    return _times(part, nominal), f"host memory is taken to read {part.value:.0%} of nominal".replace("%", " %")


LEAST_DDR5 = 4400


def _memory(text: str) -> tuple[str | None, float | None, int | None]:
    """Kind, speed and channels of the memory, each None if not stated."""
    match, speed = _KIND.search(text), _SPEED.search(text)
    kind = f"{match[1] or ''}ddr{match[2]}" if match else None
    kind = "lpddr5" if kind == "lpddr4" else "ddr3" if kind == "lpddr3" else kind
    stated = match[3] if match and match[3] else speed[1] if speed else None
    channels, words = _CHANNELS.search(text), _CHANNELS_IN_WORDS.search(text)
    number = int(channels[1]) if channels else _WORDS[words[1]] if words else None
    return kind, float(stated) if stated else None, number or None


def _known(text: str) -> list[_Memory]:
    """Rows of the table whose CPU is in the text; all of the first CPU."""
    fitting = [one for one in _table() if re.search(rf"(?<![\w.]){one.cpu}", text)]
    return [one for one in fitting if one.cpu == fitting[0].cpu]


def _numbers(pattern: re.Pattern[str], text: str) -> list[str]:
    return [next(group for group in match.groups() if group) for match in pattern.finditer(text)]


def _times(share: Share, factor: float) -> Share:
    return Share(*(value * factor for value in share))


@cache
def _table() -> tuple[_Memory, ...]:
    lines = csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines())
    return tuple(
        _Memory(
            line["cpu"],
            line["kind"],
            float(line["speed"]),
            int(line["channels"]),
            int(line["cores"]),
            Share(*(float(line[name]) for name in ("read", "read_low", "read_high"))) if line["read"] else None,
        )
        for line in lines
    )

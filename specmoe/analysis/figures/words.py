"""Numbers in sentences and at the ends of bars."""

from __future__ import annotations

from specmoe.analysis.comparison import MS, three_digits


def ms(nanoseconds: float) -> str:
    """2.50 ms."""
    return f"{three_digits(nanoseconds / MS)} ms"


def times(ratio: float) -> str:
    """1.47 times."""
    return f"{three_digits(ratio)} times"


def percent(share: float) -> str:
    """A share of either sign: 12 %, 3.4 %, 0.21 %."""
    number = round(abs(100 * share), 6)
    decimals = 0 if number >= 10 or number == 0 else 1 if number >= 1 else 2
    return f"{100 * share:.{decimals}f} %"


def titled(what: str, slice_told: str) -> str:
    """A title, with the slice that is shown if there is more than one."""
    return f"{what}: {slice_told}" if slice_told else what

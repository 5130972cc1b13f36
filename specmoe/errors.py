"""What can go wrong, and how what was read from files or options is shown: made visible.

SpecmoeError            anything a user can put right; the CLI prints it in one line and exits with 1
├── InputError          a file, a name or an option is wrong; the message names it and says what would be right
├── TraceError          a trace breaks the schema of `specmoe.traces.schema`
├── ModelError          a model has no routers, or cannot be read
└── MissingExtraError   an optional dependency is not installed; the message says how to get it
"""

import difflib
import importlib.util
import re
from collections.abc import Iterable
from typing import NamedTuple

UNSEEN = re.compile(  # controls (C0, C1), invisible and bidirectional formatting, lone surrogates, tags
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with each character that is a command to a terminal, or cannot be seen, as an escape such as \\x1b.

    Line feeds stay.
    """
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """`visible`, and line feeds too are escapes."""
    return visible(text).replace("\n", "\\n")


def install(extras: Iterable[str]) -> str:
    """The command that adds extras to a checkout: the project is on no package index."""
    return f"pip install -e '.[{','.join(extras)}]'"


CLOSE = 0.6  # likeness, 0 .. 1, from which a name is probably what was meant
FEW = 24  # names that are all listed where none is close
SHOWN = 5  # of more, the nearest


class SpecmoeError(Exception):
    """Base of every error that specmoe raises on purpose; its message is one line."""


class InputError(SpecmoeError):
    """A file, name or option is wrong."""


class TraceError(SpecmoeError):
    """A trace breaks its schema."""


class ModelError(SpecmoeError):
    """A model cannot be used: no routers, unknown class, unreadable checkpoint."""


class MissingExtraError(SpecmoeError):
    """An optional dependency is missing."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: {install([extra])}")


def require_torch(*others: str) -> None:
    """Raise MissingExtraError if torch is missing, or another package of its extra."""
    for package in ("torch", *others):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "torch")


def hint(word: object, names: Iterable[str]) -> str:
    """What would be right instead of `word`: the nearest name, all of a few names, or the nearest of many."""
    known, text = sorted(map(str, names)), str(word)
    folded = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(text.lower(), folded, n=1, cutoff=CLOSE)
    if nearest:
        return f"did you mean {folded[nearest[0]]!r}?"
    if len(known) <= FEW:
        return f"one of {', '.join(known)} expected"
    within = [name for name in known if text and text.lower() in name.lower()]
    alike = within or [folded[name] for name in difflib.get_close_matches(text.lower(), folded, n=SHOWN, cutoff=0)]
    return f"the nearest of {len(known)} names are {', '.join(alike[:SHOWN])}"


class Place(NamedTuple):
    """Where in which file something stands; what every complaint begins with."""

    file: str
    field: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)

    def __truediv__(self, name: str) -> "Place":
        return Place(self.file, f"{self.field}.{name}" if self.field else name)

    def wrong(self, complaint: str) -> InputError:
        """The error to raise."""
        return InputError(f"{self}: {complaint}")

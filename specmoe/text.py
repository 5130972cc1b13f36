"""Texts for people: what was read from files or options made visible, how an extra is installed."""

import re
from collections.abc import Iterable

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

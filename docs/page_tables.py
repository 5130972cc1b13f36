"""Tables between comments of a page that a script makes."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from specmoe.files import replacing


def fill(page: Path, tables: Mapping[str, Iterable[str]]) -> None:
    """Write the lines of each table between `<!-- NAME -->` and `<!-- end NAME -->`."""
    text = page.read_text(encoding="utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
        before, rest = text.split(begin)
        text = before + begin + "\n".join(lines) + "\n" + end + rest.split(end)[1]
    write(page, text)


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")

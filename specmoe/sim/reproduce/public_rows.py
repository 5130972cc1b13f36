"""Lists of other people's figures: a CSV table, a figure a row, with the columns NEEDED or other names of them.

    for row in read_rows(Path("mine.csv")):
        row["gpu"], row["host"], row["policy"], row["tokens_per_second"]

Cells may be missing, columns in any order, and others beside them. A row with too many cells is kept as it is, with
what is wrong in `WRONG`, so that the other rows are still answered.
"""

import csv
import math
import re
from importlib.resources import files
from pathlib import Path

from specmoe.errors import InputError
from specmoe.files import parsing, read_text

DATA = files("specmoe.hwprofiles") / "data"
LIST = "public_tokens_per_second.csv"
NEEDED = ("gpu", "model", "quant", "runtime", "policy", "batch", "context")
USUAL = {"runtime": "llama.cpp", "policy": "", "batch": "1", "context": "short"}  # where a list lacks the column
OTHER_NAMES = {
    "gpu": ("card", "device"),
    "model": ("model name",),
    "quant": ("quantization", "quantisation", "format", "precision"),
    "runtime": ("engine", "backend", "software", "program"),
    "policy": ("offload", "offloading", "flags", "options"),
    "batch": ("batch size", "concurrency"),
    "context": ("ctx", "depth", "n_depth", "context length"),
    "tokens_per_second": ("decode_tps", "tps", "tg_tps", "tokens/s", "tok/s", "t/s", "tg", "measured"),
}
HOST_COLUMNS = ("cpu", "ram", "memory", "link", "pcie")  # of lists that have no column `host`
WRONG = "wrong"  # key of what is wrong with a row
Row = dict[str, str]


class UnpredictableError(Exception):
    """A row for which nothing is predicted; its message is the reason."""


def shipped_list() -> Path:
    """The list that comes with the package."""
    return Path(str(DATA / LIST))


def read_rows(path: Path | None = None) -> list[Row]:
    """The rows of a list (default: the shipped one); raises InputError in one line if it is not such a list."""
    file = path or shipped_list()
    text, what = read_text(file, "a CSV table"), f"a CSV table with the columns {', '.join(NEEDED)}"
    with parsing(file, what):
        lines = text.removeprefix("\ufeff").splitlines()
        separator = max(",;\t", key=lines[0].count)
        header, *table = [cells for cells in csv.reader(lines, delimiter=separator, strict=True) if any(cells)]
    names = [name.strip() for name in header]
    own = _own_names(names)
    missing = [name for name in NEEDED if name not in own and name not in USUAL]
    if missing or len(set(names)) < len(names):
        wrong = f"{missing[0]} is missing" if missing else "a column comes twice"
        raise InputError(f"{file}: not {what} ({wrong})")
    return [_row(names, own, cells) for cells in table]


def _own_names(names: list[str]) -> dict[str, str]:
    """The list's own name of each column that it has; letters may be large or small."""
    lower = {name.lower().replace("_", " ").replace("-", " "): name for name in names}
    found = {}
    for name in (*NEEDED, "host", "source", "date", "tokens_per_second"):
        others = (name, *OTHER_NAMES.get(name, ()))
        own = next((lower[key] for other in others if (key := other.replace("_", " ")) in lower), None)
        if own is not None:
            found[name] = own
    return found


def _row(names: list[str], own: dict[str, str], cells: list[str]) -> Row:
    """A row with all columns that a prediction reads, beside its own."""
    row = dict(zip(names, (*cells, *[""] * (len(names) - len(cells))), strict=False))
    if len(cells) > len(names):
        row[WRONG] = f"{len(cells)} cells: {len(names)}, as in the header, expected (quote a cell that has a comma)"
    lower = {name.lower(): value for name, value in row.items()}
    host = ", ".join(lower[name] for name in HOST_COLUMNS if lower.get(name))
    return USUAL | {"host": host} | row | {name: row[mine] for name, mine in own.items()}


_MEASURED = re.compile(r"^\D{0,2}?(\d+(?:\.\d+)?)(?: ?(?:-|\u2013|to) ?(\d+(?:\.\d+)?))?(?![\d.])")


def number_of(text: str) -> float | None:
    """The number of a text such as 38.5, ~38 t/s or 38.5 \u00b1 0.2, or the middle of one such as 65-66; else None."""
    found = _MEASURED.match(text.strip().replace(",", ""))
    if found is None or text.strip().startswith("-"):
        return None
    value = (float(found[1]) + float(found[2] or found[1])) / 2
    return value if math.isfinite(value) and value > 0 else None

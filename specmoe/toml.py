"""Reading TOML strictly: every complaint is one line naming file, field and what would be right."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, get_type_hints

from specmoe.errors import InputError, hint

Record = TypeVar("Record")


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


def require_names(place: Place, table: object, needed: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """A table that has all needed names and no unknown one; raises InputError for any other thing."""
    needed, known = list(needed), [*needed, *optional]
    if not isinstance(table, dict):
        raise place.wrong(f"{table!r}: a table expected")
    for name in table:
        if name not in known:
            raise (place / name).wrong(f"unknown field: {hint(name, known)}")
    missing = [name for name in needed if name not in table]
    if len(missing) > 1:
        raise place.wrong(f"{len(missing)} fields missing: {', '.join(missing)}")
    for name in missing:
        raise (place / name).wrong("missing")
    return table


def read_record(cls: type[Record], place: Place, table: object, parts: Mapping[str, Any] | None = None) -> Record:
    """A dataclass of numbers of 0 or more, booleans and texts from a table with the same names.

    Fields with a default may be absent; those in `parts` are given and are not looked for.
    """
    parts = parts or {}
    fields = {field.name: field for field in dataclasses.fields(cls) if field.name not in parts}  # type: ignore[arg-type]
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    found = require_names(place, table, needed, fields)
    types = get_type_hints(cls)
    for name, value in found.items():
        wanted = types[name] if types[name] in (int, float, bool) else str
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise (place / name).wrong(f"{value!r}: {_article(wanted)} expected")
        if isinstance(value, int | float) and not 0 <= value < math.inf:
            raise (place / name).wrong(f"{value}: 0 or more expected")
    return cls(**found, **parts)


def _article(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]

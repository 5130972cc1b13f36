"""What other packages bring, by entry points: policies, evictions and predictors beside the built-in ones.

A table finds them in what is installed, so every process finds the same, workers too. They are imported when all names
are asked for, or one that is not built in: a plug-in may use built-in ones while it is imported. One that cannot be
used is left out; asking for it by name says why.
"""

import logging
from collections.abc import Callable, Iterator, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from specmoe.errors import InputError

T = TypeVar("T")
Wrong = Callable[[str, Any], str]  # of a name and what it stands for: what would be right; empty if it is
LOG = logging.getLogger(__name__)


class Table(MutableMapping[str, T]):
    """Built-in things by name, and behind them those of the entry points of a group, in the order of their names."""

    def __init__(self, group: str, built_in: dict[str, T], wrong: Wrong) -> None:
        self._group, self._built_in, self._wrong = group, built_in, wrong
        self._plug_ins: dict[str, T] | None = None  # until they are imported
        self._points: dict[str, EntryPoint] = {}
        self._unusable: dict[str, str] = {}
        self._untold: list[str] = []

    def __getitem__(self, name: str) -> T:
        return self._built_in[name] if name in self._built_in else self._plugged()[name]

    def __iter__(self) -> Iterator[str]:
        names = [*self._built_in, *self._plugged()]
        while self._untold:
            LOG.warning("left out: %s", self._untold.pop(0))
        return iter(names)

    def __len__(self) -> int:
        return len(self._built_in) + len(self._plugged())

    def __setitem__(self, name: str, value: T) -> None:
        self._built_in[name] = value

    def __delitem__(self, name: str) -> None:
        del self._built_in[name]

    def require_usable(self, name: str) -> None:
        """Raise InputError, saying why, if a plug-in brings the name and cannot be used."""
        if name not in self and name in self._unusable:
            raise InputError(self._unusable[name])

    def versions(self, name: str) -> dict[str, str]:
        """The distribution that brings a name and its version; nothing for a built-in one."""
        if name in self._built_in or name not in self:
            return {}
        return dict([_origin(self._points[name])])

    def _plugged(self) -> dict[str, T]:
        if self._plug_ins is None:
            self._plug_ins = {}  # what a plug-in finds that reads the table while it is imported
            for point in sorted(entry_points(group=self._group), key=lambda point: (point.name, _origin(point))):
                self._take(self._plug_ins, point)
        return self._plug_ins

    def _take(self, plug_ins: dict[str, T], point: EntryPoint) -> None:
        """Import one, or note why not."""
        why = self._taken(point) or self._load(plug_ins, point)
        if why:
            name, version = _origin(point)
            self._unusable[point.name] = f"{name} {version}: {self._group} {point.name!r}: {why}"
            self._untold.append(self._unusable[point.name])
        else:
            self._points[point.name] = point

    def _taken(self, point: EntryPoint) -> str:
        """Who has the name already."""
        if point.name in self._built_in:
            return "a built-in one has this name: another expected"
        first = self._points.get(point.name)
        return "" if first is None else f"{_origin(first)[0]} has this name: another expected"

    def _load(self, plug_ins: dict[str, T], point: EntryPoint) -> str:
        """Import what a name stands for; what is wrong with it."""
        try:
            value = point.load()
            why = self._wrong(point.name, value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a stranger's module raises, SystemExit too
            return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if not why:
            plug_ins[point.name] = value
        return why


def _origin(point: EntryPoint) -> tuple[str, str]:
    """Name and version of its distribution."""
    return ("unknown", "") if point.dist is None else (point.dist.name, point.dist.version)

"""Which predictors are scored, and with what keywords."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.files import parsing, read_json
from specmoe.sim.speculate.predictors import PREDICTORS, keywords

YARDSTICKS = ("none", "oracle", "all")  # they foretell nothing, so nobody scores them unless asked to
CARD = "predictor.json"  # of a checkpoint; its `config` tells the `architecture`


class Asked(NamedTuple):
    """A predictor and its keywords but for the depth."""

    name: str
    parameters: dict[str, Any]

    @property
    def label(self) -> str:
        """The name, and of a checkpoint that was named its directory."""
        checkpoint = self.parameters.get("checkpoint")
        return f"{self.name} {Path(checkpoint).name}" if checkpoint else self.name


def asked_for(
    names: Sequence[str] = (), parameters: dict[str, Any] | None = None, checkpoints: Sequence[Path] = ()
) -> list[Asked]:
    """The predictors named and those of the checkpoints, or all but the yardsticks, each with what it knows of the
    parameters.

    Raises InputError for an unknown name, for a parameter that none of them knows, and for what is no checkpoint.
    """
    chosen = [Asked(name, {}) for name in dict.fromkeys(names)] + [_of_checkpoint(path) for path in checkpoints]
    chosen = chosen or [Asked(name, {}) for name in PREDICTORS if name not in YARDSTICKS]
    given = parameters or {}
    _require_known(given, {one.name for one in chosen})
    return [Asked(name, _known(name, given) | own) for name, own in chosen]


def _known(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {keyword: value for keyword, value in given.items() if keyword in keywords(name)}


def _require_known(given: dict[str, Any], names: set[str]) -> None:
    known = {keyword for name in names for keyword in keywords(name)} - {"depth"}
    for keyword in given:
        if keyword not in known:
            said = ", ".join(sorted(known)) or "none, for these have no keywords,"
            raise InputError(f"predictor.{keyword}: one of {said} expected")


def _of_checkpoint(path: Path) -> Asked:
    with parsing(path, f"a directory with a trained predictor: {CARD} is wrong"):
        architecture = str(read_json(path / CARD, "the card of a trained predictor")["config"]["architecture"])
    for name in (architecture, f"learned-{architecture}"):
        if name in PREDICTORS and "checkpoint" in keywords(name):
            return Asked(name, {"checkpoint": str(path)})
    raise InputError(f"{path}: architecture {architecture!r}, of which there is no predictor")

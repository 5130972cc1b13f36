"""What a worker is asked to do, in this process, in another one or on another machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from specmoe.errors import SpecmoeError
from specmoe.sim.routing import Routing
from specmoe.sim.speculate.running_time import FREE
from specmoe.sim.sweep.cell import Cell, policy_of
from specmoe.sim.sweep.evaluate import evaluate, grouped
from specmoe.sim.sweep.rows import Row
from specmoe.sim.sweep.units import Unit


def rows_of(unit: Unit, predictions: Path) -> list[Row]:
    """The rows of a unit, with predictions from a directory, where this machine sees it."""
    return evaluate(unit, predictions if predictions.is_dir() else None)


def predict(cell: Cell, predictions: Path) -> None:
    """Leave what a cell's predictor says in a directory; whether it can say anything, its row tells."""
    if predictions.is_dir():
        with suppress(Exception):
            Routing(*cell.routing, predictions).predictions.of(policy_of(cell))


def shared_predictions(units: Sequence[Unit]) -> list[Cell]:
    """A cell for each predictor that several units ask the same."""
    asked = [(cell, number) for number, unit in enumerate(units) for cell in unit if _asks(cell)]
    alike = [part for _, part in grouped(asked, lambda pair: _predictor(pair[0]))]
    return [part[0][0] for part in alike if len({number for _, number in part}) > 1]


def _asks(cell: Cell) -> bool:
    """Whether it takes time to know what its predictor says."""
    try:
        return policy_of(cell).predictor not in FREE
    except SpecmoeError:
        return False  # which its row tells


def _predictor(cell: Cell) -> tuple[object, ...]:
    chosen = policy_of(cell)
    depth = chosen.prefetch.depth if chosen.prefetch else 1
    return cell.routing, chosen.predictor, repr(chosen.predictor_parameters), depth

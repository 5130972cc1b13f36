"""docs/isca24.md says what the command says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from specmoe.hwprofiles import load_shape
from specmoe.sim.reproduce.isca24 import METHODS, switch_shapes
from specmoe.sim.reproduce.report import SHAPE

PAGE = Path(__file__).parents[2] / "docs" / "isca24.md"


def part(name: str) -> str:
    """What stands between a marker and its end."""
    _, _, rest = PAGE.read_text().partition(f"<!-- {name} -->\n")
    return rest.partition("<!-- end -->")[0]


def test_the_measured_model(printed: Callable[[str], str]) -> None:
    assert part("specmoe reproduce isca24 --shape switch-base-64") == printed(SHAPE)


def test_the_other_models(found: Callable[[str], dict[str, Any]]) -> None:
    others = [shape for shape in switch_shapes() if shape != SHAPE]
    others.sort(key=lambda name: (load_shape(name).d_model, load_shape(name).experts.number))
    rows = part("predictions").splitlines(keepends=True)[2:]
    assert "".join(rows) == "".join(row(found(shape)) for shape in others)


def row(answer: dict[str, Any]) -> str:
    cells = [answer[figure][method] for figure in ("block_latency_ms", "tokens_per_second") for method in METHODS]
    return f"| {answer['shape']} | {' | '.join(f'{cell:.4g}' for cell in cells)} |\n"

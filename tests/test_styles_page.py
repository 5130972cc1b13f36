"""docs/styles.md and the package's errors by style are made of the committed replays."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from doc_pages import builder_of

from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.expected_error import accuracies, expected_error
from specmoe.hwprofiles.kernels import style_of

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return builder_of("styles")


def test_the_tables_are_those_of_the_replays(builder: ModuleType) -> None:
    text = builder.PAGE.read_text()
    for lines in (builder.summary(), builder.shipped(), builder.cells(), builder.kernels()):
        assert "\n".join(lines) in text


def test_the_package_has_the_same_errors(builder: ModuleType) -> None:
    rows = json.loads(builder.ACCURACY.read_text())["rows"]
    assert rows == builder.accuracies()
    assert {row.style for row in accuracies() if "fused" in row.style} == {row["style"] for row in rows}


def test_no_prediction_was_off_by_more_than_a_tenth(builder: ModuleType) -> None:
    worst = max(abs(cell.error) for name in builder.MACHINES for cell in builder.held_out(name))
    assert 0.01 < worst < 0.1


def test_a_measured_style_has_the_error_of_its_replays() -> None:
    found = expected_error(
        load_profile("h200-sxm-141gb"), load_shape("gpt-oss-20b"), "int4", style=style_of("fused/grouped")
    )
    assert found.validated and 0.02 < found.error < 0.06

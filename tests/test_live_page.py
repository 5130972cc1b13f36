"""docs/live.md is made of the committed records."""

from types import ModuleType

import pytest
from doc_pages import builder_of


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return builder_of("generate")


def test_the_tables_are_those_of_the_records(builder: ModuleType) -> None:
    text = builder.PAGE.read_text()
    for name, lines in builder.tables().items():
        assert f"<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- end {name} -->" in text


def test_texts_and_decisions_are_equal_and_the_target_is_met_as_the_page_says(builder: ModuleType) -> None:
    rows = builder.rows_of(*builder.MODELS)
    errors = sorted(abs(row["error"]) for row in rows)
    assert len(rows) >= 20 and all(row["same_text"] and row["as_foretold"] for row in rows)
    assert errors[len(errors) // 2] <= 0.03 and errors[-1] <= 0.08

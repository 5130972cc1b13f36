"""Nothing changed by accident: see golden_table.py for how to review and record a change that was meant."""

from __future__ import annotations

import json

from golden_table import ON_CPU, RECORDED, RUNNABLE, table


def test_golden_integers_of_every_policy() -> None:
    recorded = json.loads(RECORDED.read_text())
    assert {row.split()[-1] for row in recorded} == {*RUNNABLE, *ON_CPU}
    now = table()
    different = {row: (recorded.get(row), now[row]) for row in now if recorded.get(row) != now[row]}
    assert not different, "python tests/golden/golden_table.py shows the new table"

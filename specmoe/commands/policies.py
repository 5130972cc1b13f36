"""`specmoe policies`."""

from typing import Any

from specmoe.commands import console


def policies() -> None:
    """List every policy, eviction, miss rule and predictor: its name, what it does, and its source."""
    from specmoe import api

    names = ("policies", "evictions", "misses", "predictors")
    tables = {name: getattr(api, name)() for name in names}
    if console.printed([{"kind": kind, **row} for kind, table in tables.items() for row in _rows(table)]):
        return
    for kind, table in tables.items():
        console.table([{name: row[name] for name in ("name", "about", "source")} for row in _rows(table)], kind)


def _rows(table: Any) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]

"""A slice of the fuzzer's cases, always the same: neither a traceback nor a hang in any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fuzzer import (
    GROUPS,
    READERS,
    SHARES,
    World,
    attempt,
    bytes_of,
    fuzz,
    option_places,
    toml_of,
    turns_of,
    value_of,
)

CASES = {"readers": 150, "foreign": 60, "settings": 6, "options": 10, "files": 6}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), full=False)


@pytest.mark.parametrize("group", CASES)
def test_mutated_inputs_end_cleanly(group: str, world: World) -> None:
    inputs, failures = fuzz(world, 0, 600, CASES[group], (group,))
    assert inputs == CASES[group]
    assert not failures


def test_a_run_reaches_every_reader_and_option() -> None:
    turns = turns_of(tuple(GROUPS))
    assert {group: turns.count(group) for group in GROUPS} == SHARES
    times = 20_000 / len(turns)
    assert times * SHARES["readers"] > 100 * len(READERS)
    assert times * SHARES["options"] > 5 * len(option_places())
    assert min(map(turns[:80].count, ("settings", "options", "files"))) >= 5, "spread evenly"


def test_a_defect_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RecursionError("deep")

    monkeypatch.setitem(GROUPS, "readers", broken)
    failure = attempt("readers", 1, world)
    assert failure is not None
    assert (failure.case, failure.error.split()[0]) == ("readers:1", "RecursionError")


def test_the_seed_makes_the_input() -> None:
    good = Path(__file__).read_bytes()
    for mutate in (lambda rng: bytes_of(rng, good, (b"PAR1",)), lambda rng: toml_of(rng, "a = 1\nb = 2"),
                   lambda rng: repr(value_of(rng, {"a": [1, {"b": 2}]}))):  # fmt: skip
        assert len({repr(mutate(np.random.default_rng(seed))) for seed in range(20)}) > 5
        assert mutate(np.random.default_rng(3)) == mutate(np.random.default_rng(3))

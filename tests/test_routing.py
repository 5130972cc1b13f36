"""What several machines share: a trace's batches, and what is learnt from its train split when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from specmoe.errors import InputError
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.routing import Routing
from specmoe.traces.store import Trace
from specmoe.traces.workload import demands

MakeTrace = Callable[..., Path]


@pytest.mark.parametrize("batch", [1, 3])
def test_popularity_counts_the_events_of_the_train_split_that_demand_a_key(batch: int, make_trace: MakeTrace) -> None:
    test, train = (str(make_trace(60, seed, f"{seed}.parquet")) for seed in (1, 2))
    routing = Routing(test, batch, steps=5, train=train, truncated=True)
    assert routing.train is not None and routing.popularity is not None
    counts = np.zeros((3, 16), np.int64)
    for block in demands(routing.train.workload):
        counts += block.sum(axis=0)
    assert routing.popularity.tolist() == counts.reshape(-1).tolist()
    assert Routing(test, truncated=True).popularity is None


def test_the_train_split_is_read_for_those_who_learn_from_it(
    make_trace: MakeTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    test, train = (make_trace(60, seed, f"{seed}.parquet") for seed in (1, 2))
    read: list[str] = []
    plain = Trace._read_column

    def noted(trace: Trace, name: str) -> object:
        if trace.path == train:
            read.append(name)
        return plain(trace, name)

    monkeypatch.setattr(Trace, "_read_column", noted)
    columns = {
        "on-demand-lru": [],
        "static": ["sequence", "position", "experts"],
        "transition": list(Trace(test).read()._fields),
    }
    for name, wanted in columns.items():
        read.clear()
        Routing(str(test), train=str(train)).decide(POLICIES[name], 9)
        assert sorted(read) == sorted(wanted), name


def test_another_models_train_split_is_refused_at_once(make_trace: MakeTrace) -> None:
    test, train = make_trace(), make_trace(name="train.parquet", num_layers=4)
    with pytest.raises(InputError, match="num_layers 4: 3 expected"):
        Routing(str(test), train=str(train))

"""Tables of counts by hand: whoever was counted does not see itself."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from specmoe.sim.speculate.learned.inputs import Counts  # noqa: E402
from specmoe.sim.speculate.learned.networks import clusters_of  # noqa: E402


def table(keys: list[int], experts: list[int], count: int = 8) -> Counts:
    made = Counts(0, count)
    made.set(np.array(keys), np.array(experts))
    return made


def test_counts_by_hand() -> None:
    made = table([5, 5, 5, 2, 2, -1, -1, 9, 5], [1, 3, 3, 0, 7, 4, 4, 6, 8])
    expert, count, total = made(torch.tensor([5, 2, 9, 4]), None)
    assert (expert[0, :2].tolist(), count[0].tolist(), total[0].item()) == ([3, 1], [2, 1, 0, 0], 3)
    assert (expert[1, :2].tolist(), count[1].tolist()) == ([0, 7], [1, 1, 0, 0])
    assert count[2:].sum() == total[2:].sum() == 0  # seen once, and never


def test_own_answer_is_left_out() -> None:
    made = table([5, 5, 5], [1, 3, 3])
    _, count, total = made(torch.tensor([5, 5, 5]), torch.tensor([[3], [1], [8]]))
    assert count[:, :2].tolist() == [[1, 1], [2, 0], [2, 1]]
    assert total.tolist() == [2, 2, 3]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_left_out_is_counted_without(pairs: list[tuple[int, int]]) -> None:
    keys, experts = ([pair[i] for pair in pairs] for i in (0, 1))
    expert, count, total = table(keys, experts, 4)(torch.tensor(keys), torch.tensor(experts)[:, None])
    for place, (key, _) in enumerate(pairs):
        others = [e for i, (k, e) in enumerate(pairs) if k == key and i != place]
        assert total[place] == len(others)
        found = dict(zip(expert[place].tolist(), count[place].tolist(), strict=False))
        if others:
            assert {e: c for e, c in zip(expert[place].tolist(), count[place].tolist(), strict=True) if c} == {
                e: others.count(e) for e in set(others)
            }, found


def test_experts_that_tokens_reach_alike_are_one_cluster() -> None:
    above = np.repeat(np.arange(4), 50)
    here = (above // 2) * 2 + np.tile([0, 1], 100)  # 0 and 1 are reached from 0 and 1, 2 and 3 from 2 and 3
    found = clusters_of(np.stack([above, here], 1), 4, 2, seed=0)[1]
    assert found[0] == found[1] != found[2] == found[3]

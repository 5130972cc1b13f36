"""Experts on the CPU: the engine against the naive implementation and the re-timer, equal integers in every column."""

from typing import Any

from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from naive import as_lists, naive
from retimer_cases import as_lists as as_figures
from retimer_cases import durations_in, engines
from timing_cases import RUNNABLE, Case, cases, cpu_costs, machines, on_cpu, with_cpu

from specmoe.sim.timing.cpu_lane import CpuCosts
from specmoe.sim.timing.engine import simulate
from specmoe.sim.timing.retimer import retime

policies, seeds = st.sampled_from(RUNNABLE), st.integers(0, 10_000)
shares = st.sampled_from([0.0, 0.07, 0.5])


@examples(250)
@given(case=cases(read=False), policy=policies, cpu=cpu_costs(), seed=seeds, interference=shares)
def test_engine_and_naive(case: Case, policy: str, cpu: CpuCosts, seed: int, interference: float) -> None:
    case = case._replace(interference=interference)
    table = on_cpu(case.decide(policy), seed)
    durations = with_cpu(case.durations(policy, table), cpu, seed)
    assert as_lists(simulate(table, durations)) == naive(table, durations)


@examples(250)
@given(
    case=cases(read=False),
    policy=policies,
    variants=st.lists(st.tuples(machines(read=False), cpu_costs(), shares), min_size=1, max_size=4),
    seed=seeds,
)
def test_engine_and_retimer(case: Case, policy: str, variants: Any, seed: int) -> None:
    table = on_cpu(case.decide(policy), seed)
    plain = durations_in(case, policy, table, [(machine, slows, None) for machine, _, slows in variants])
    durations = [with_cpu(each, cpu, seed) for each, (_, cpu, _) in zip(plain, variants, strict=True)]
    assert as_figures(retime(table, durations)) == engines(table, durations)

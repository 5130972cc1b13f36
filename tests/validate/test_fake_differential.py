"""Replayer and engine are twins: on a device without noise they give the same integers, for every named policy."""

from __future__ import annotations

from typing import Any

import numpy as np
from examples import examples, for_each
from fake_cases import WAVES, decided, decided_on_cpu, replayed, work_from
from hypothesis import example, given
from hypothesis import strategies as st
from timing_cases import RUNNABLE, Case, cases, cpu_costs

from specmoe.sim.timing.cpu_lane import CpuCosts
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Timing, simulate
from specmoe.validate.measured import host_ns
from specmoe.validate.replayer import Recording, latencies


def in_the_engines_words(recording: Recording, durations: Durations) -> dict[str, Any]:
    """Columns that both have; the engine's loads are issued when the copy engine may know of them."""
    device = recording.device
    return {
        "begin": recording.begin,
        "ready": device.dense_end if durations.runs_ahead else recording.ready,
        "step_end": recording.step_end,
        "use_start": device.use_start,
        "use_end": device.use_end,
        "issued": recording.issued + durations.host.begin_copy_ns,
        "started": device.started,
        "landed": device.landed,
    }


def of_the_engine(timing: Timing, names: Any) -> dict[str, list[int]]:
    return {name: np.asarray(getattr(timing, name)).tolist() for name in names}


@examples(25)
@given(case=cases(read=False))
@example(case=WAVES)
@example(case=WAVES._replace(late=True))
@for_each(RUNNABLE)
def test_same_integers_as_the_engine(policy: str, case: Case) -> None:
    table, durations = decided(case, policy)
    recording, _ = replayed(table, durations)
    found = {name: column.tolist() for name, column in in_the_engines_words(recording, durations).items()}
    assert found == of_the_engine(simulate(table, durations), found)


@examples(10)
@given(case=cases(read=False))
@for_each(RUNNABLE)
def test_the_host_works_as_long_as_in_the_engine(policy: str, case: Case) -> None:
    table, durations = decided(case, policy)
    recording, _ = replayed(table, durations)
    timing = simulate(table, durations)
    assert host_ns(work_from(table, durations), recording).tolist() == timing.host.tolist()
    layers = table.num_layers
    assert latencies(recording).tolist() == (timing.step_end - timing.begin[::layers]).tolist()


@examples(150)
@given(case=cases(read=False), policy=st.sampled_from(RUNNABLE), cpu=cpu_costs(), seed=st.integers(0, 10_000))
def test_same_integers_as_the_engine_where_the_cpu_computes(policy: str, case: Case, cpu: CpuCosts, seed: int) -> None:
    table, durations = decided_on_cpu(case, policy, cpu, seed)
    recording, device = replayed(table, durations)
    timing = simulate(table, durations)
    found = {name: column.tolist() for name, column in in_the_engines_words(recording, durations).items()}
    assert found == of_the_engine(timing, found)
    assert host_ns(work_from(table, durations), recording).tolist() == timing.host.tolist()
    assert not device.errors().any()


def test_the_examples_have_waves_and_predictions() -> None:
    table, durations = decided(WAVES, "on-demand-lru")
    assert table.uses.wave.max() > 0
    table, durations = decided(WAVES, "lookahead")
    assert any(durations.predict) and table.prefetch_loads

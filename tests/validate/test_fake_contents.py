"""Every expert computes from its own weights: checksums of what lay in its slot, on every policy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from examples import examples, for_each
from fake_cases import costs_from, decided, replayed
from fake_device import NOBODY, Contents, FakeDevice, checksum, noisy, truth
from hypothesis import given
from hypothesis import strategies as st
from timing_cases import RUNNABLE, Case, Machine, cases, durations_by_hand, table_of
from tiny_routed import tiny_routed

from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.decide.table import DecisionTable

TINY = HostCosts(*[1] * len(HostCosts._fields))


class Forgetful(FakeDevice):
    """Copies at once, whoever reads the slot."""

    def _free(self, slot: int) -> int:
        return 0


class Hasty(FakeDevice):
    """Runs an expert whether its load has landed or not."""

    def launch(self, use: int) -> None:
        loads = self._work.table.uses.load
        loads[use], load = -1, loads[use]
        super().launch(use)
        loads[use] = load


def slow_kernels(slots: int = 3) -> Case:
    """Copies are fast and kernels slow, and demand comes in waves: the only time that a load follows a read so closely.

    In any other event the host has waited for a router that runs behind all former experts.
    """
    routed = tiny_routed(12, batch=3, num_layers=3, num_experts=6, top_k=2, candidates=3)
    machine = Machine(TINY, before=1, expert=500, token=0, after=1, copy=2, read=0, sync_each_layer=False)
    return Case(routed, machine, slots)


def by_event(table: DecisionTable, outputs: np.ndarray) -> list[int]:
    """In the order of demands, whatever the order of waves."""
    order = np.lexsort((table.uses.key, table.uses.event))
    return outputs[order].tolist()


@examples(25)
@given(case=cases(read=False), seed=st.integers(0, 99))
@for_each(RUNNABLE)
def test_computes_what_the_all_resident_run_computes(policy: str, case: Case, seed: int) -> None:
    table, durations = decided(case, policy)
    device = FakeDevice(lambda _: costs_from(durations), noisy(0.5, np.random.default_rng(seed)))
    replayed(table, durations, device)
    resident, its_durations = decided(case, "gpu-only")
    _, all_resident = replayed(resident, its_durations)
    assert by_event(table, device.outputs()) == by_event(resident, all_resident.outputs())
    assert device.outputs().tolist() == truth(table).tolist()


def outputs_of(device: Callable[..., FakeDevice], case: Case, policy: str) -> tuple[list[int], list[int]]:
    table, durations = decided(case, policy)
    made = device(lambda _: costs_from(durations))
    replayed(table, durations, made)
    return made.outputs().tolist(), truth(table).tolist()


@pytest.mark.parametrize("policy", ["on-demand", "on-demand-lru", "belady", "lookahead", "mixtral-offloading"])
def test_a_device_that_forgets_the_reader_is_caught(policy: str) -> None:
    found, right = outputs_of(FakeDevice, slow_kernels(), policy)
    assert found == right
    found, right = outputs_of(Forgetful, slow_kernels(), policy)
    assert found != right


def test_a_device_that_does_not_wait_for_the_load_is_caught() -> None:
    case = slow_kernels()
    case = case._replace(machine=case.machine._replace(copy=900))
    found, right = outputs_of(Hasty, case, "on-demand-lru")
    assert found != right


def contents() -> Contents:
    """Slot 0: key 1 from 10 to 20, key 2 from 30 to 40. Slot 1 holds key 5 from the start."""
    table = table_of(
        [(0, 1, 0, True, 0), (1, 2, 0, True, 0)],
        [(0, 1, 1, 0, 0, False, 0), (1, 2, 1, 0, 1, False, 0), (1, 5, 1, 1, -1, True, 0)],
        steps=2,
        layers=1,
        slots=2,
    )
    return Contents(table, np.array([10, 30]), np.array([20, 40]))


@pytest.mark.parametrize(
    ("slot", "start", "end", "keys"),
    [
        (0, 0, 10, (NOBODY,)),
        (0, 5, 11, (NOBODY, 1)),
        (0, 20, 30, (1,)),
        (0, 19, 30, (NOBODY, 1)),
        (0, 20, 31, (1, 2)),
        (0, 25, 50, (1, 2)),
        (0, 39, 41, (1, 2)),
        (0, 40, 90, (2,)),
        (1, 0, 90, (5,)),
    ],
)
def test_what_lay_in_a_slot(slot: int, start: int, end: int, keys: tuple[int, ...]) -> None:
    assert contents().during(slot, start, end) == keys


def test_checksums_tell_keys_tokens_and_torn_slots_apart() -> None:
    assert len({checksum(1, 7), checksum(2, 7), checksum(1, 8), checksum(1), checksum(1, 7, 8), checksum(1, 8, 7)}) == 6


def test_half_landed_bytes_are_not_an_experts() -> None:
    """A kernel in the middle of the only copy ever into its slot must not pass for a good one."""
    table = table_of([(0, 1, 0, True, 0)], [(0, 1, 1, 0, 0, False, 0)], steps=1, layers=1, slots=1)
    early = Contents(table, np.array([10]), np.array([20])).outputs(np.array([15]), np.array([25]))
    assert early.tolist() != truth(table).tolist()
    _, device = replayed(table, durations_by_hand(table))
    assert device.outputs().tolist() == truth(table).tolist()

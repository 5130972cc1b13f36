"""Whether policies compute what a model with all experts resident computes, and what is said of those that do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache

import pytest
from fake_device import FakeCosts, FakeDevice, Ints
from fake_machine import TRACES, prices

from specmoe.errors import InputError, MissingExtraError
from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.validate.checksums import Checked, check, check_policies
from specmoe.validate.replayer import Work, work_of

NAMES = ("gpu-only", "on-demand", "on-demand-lru", "lookahead", "pregated-lru", "transition", "belady", "oracle")


class Forgetful(FakeDevice):
    """Copies at once, whoever reads the slot."""

    def _free(self, slot: int) -> int:
        return 0


class Wrong(FakeDevice):
    """Computes something else three times."""

    def outputs(self) -> Ints:
        found = super().outputs()
        found[[0, 2, 5]] += 1
        return found


@cache
def scenario(phase: str = "encode", slots: int = 16) -> Scenario:
    """A whole sequence on few slots: demand comes in waves, so that loads follow reads closely."""
    batch, steps = (1, 2) if phase == "encode" else (8, 6)
    return Scenario(RunConfig(TRACES[phase], format="fp16", slots=slots, batch=batch, steps=steps, padded=True))  # type: ignore[index]


def slow_kernels(of: Scenario) -> type[FakeCosts] | object:
    """Experts take far longer than their copies."""
    priced = prices(of)

    def costs(work: Work) -> FakeCosts:
        found = priced(work)
        return found._replace(expert=[5_000_000] * len(found.expert), copy=[1_000] * len(found.copy))

    return costs


def checked(device: type[FakeDevice], names: Sequence[str] = NAMES, of: Scenario | None = None) -> list[Checked]:
    of = of or scenario()
    return list(check_policies(of, names, device(slow_kernels(of))))  # type: ignore[arg-type]


@pytest.mark.parametrize(("phase", "slots"), [("encode", 16), ("decode", 12)])
def test_every_policy_computes_what_it_should(phase: str, slots: int) -> None:
    rows = checked(FakeDevice, NAMES, scenario(phase, slots))
    assert [row.policy for row in rows] == list(NAMES)
    assert [row for row in rows if row.wrong or row.problem] == []
    assert all(row.loads for row in rows[1:]) and not rows[0].loads
    assert {row.uses for row in rows} == {len(scenario(phase, slots).routed.workload.keys)}
    assert [row.slots for row in rows] == [768] + [slots] * (len(NAMES) - 1)


@pytest.mark.parametrize("name", ["on-demand", "on-demand-lru", "lookahead", "belady"])
def test_a_device_that_forgets_the_reader_is_caught(name: str) -> None:
    (row,) = checked(Forgetful, [name])
    assert 0 < row.wrong <= row.uses


def test_experts_on_the_cpu_are_joined_before_the_next_dense_part() -> None:
    names = ["cpu-experts", "n-cpu-moe:3", "ktransformers", "lru-cpu", "law-split"]
    rows = checked(FakeDevice, names, scenario("decode", 400))
    assert [(row.policy, row.wrong, row.problem) for row in rows] == [(name, 0, "") for name in names]
    assert all(row.cpu_uses for row in rows) and rows[3].loads


class Late(FakeDevice):
    """Adds what the CPU computed without waiting for it."""

    def join(self, event: int) -> None:
        self._computed = 0
        super().join(event)


def test_a_device_that_does_not_wait_for_the_cpu_is_caught() -> None:
    (row,) = checked(Late, ["cpu-experts"], scenario("decode", 40))
    assert row.wrong and row.error == 1


def test_wrong_outputs_are_counted() -> None:
    (row,) = checked(Wrong, ["on-demand-lru"])
    assert row.wrong == 3 and row.problem == ""


def test_a_policy_is_checked_on_its_own_decisions() -> None:
    of = scenario()
    chosen = of.policy("lookahead")
    table = of.decide(chosen, of.slots)
    assert check(work_of(of, chosen, table), Wrong(slow_kernels(of)), 0) == (3, 0)  # type: ignore[arg-type]
    (row,) = checked(FakeDevice, ["lookahead"])
    assert (row.uses, row.loads) == (len(table.uses.key), len(table.loads.key))


def test_what_cannot_be_replayed_is_a_row_with_its_problem() -> None:
    eager = Scenario(dataclasses.replace(scenario().config, host_set="eager"))
    rows = checked(FakeDevice, ["gpu-only", "on-demand"], eager)
    assert [row[:5] for row in rows] == [("gpu-only", 16, 0, 0, 0), ("on-demand", 16, 0, 0, 0)]
    assert all(row.problem.startswith("host costs eager cannot be replayed") for row in rows)


@pytest.mark.parametrize("error", [InputError("no popularity"), MissingExtraError("torch", "torch")])
def test_what_cannot_be_decided_is_a_row_and_the_next_policy_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = Scenario.decide

    def failing(self: Scenario, chosen: object, slots: int) -> object:
        if getattr(chosen, "name", "") == "static":
            raise error
        return decide(self, chosen, slots)  # type: ignore[arg-type]

    monkeypatch.setattr(Scenario, "decide", failing)
    rows = checked(FakeDevice, ["static", "on-demand"])
    assert rows[0] == Checked("static", 16, 0, 0, 0, str(error))
    assert rows[1].uses and not rows[1].problem


def test_rows_come_one_by_one() -> None:
    """For a progress bar."""
    seen: list[str] = []

    class Counting(FakeDevice):
        def prepare(self, work: Work) -> None:
            seen.append("prepared")
            super().prepare(work)

    rows = check_policies(scenario(), ["on-demand", "on-demand-lru"], Counting(slow_kernels(scenario())))  # type: ignore[arg-type]
    assert next(rows).policy == "on-demand"
    assert seen == ["prepared"]

"""How many experts fit, and how much is simulated."""

from __future__ import annotations

import pytest
from advise_cases import GIB, setting

import specmoe.traces
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.sim.advise.setting import Question, Routings, Setting, gib

SWITCH = load_shape("switch-base-128")
DENSE = SWITCH.resident_parameters * 4
EXPERT = SWITCH.expert_bytes("fp32")
KV = SWITCH.kv_bytes(1)


def mixtral(vram: int) -> Setting:
    meta = specmoe.traces.open("switch-mini-128/decode/test").meta
    question = Question("mixtral-8x7b", "rtx4090", vram)
    return Setting(question, load_shape("mixtral-8x7b"), load_profile("rtx4090"), Routings("", meta))


def test_two_stacks_share_what_the_dense_weights_leave() -> None:
    here = setting()
    assert here.slots("fp32", DENSE + KV + 20 * EXPERT) == 10
    assert here.slots("fp32", DENSE + KV + 20 * EXPERT - 1) == 9


def test_one_stack_takes_all() -> None:
    here = mixtral(16 * GIB)
    expert = here.shape.expert_bytes("bf16")
    rest = here.shape.kv_bytes(1) + here.question.assumed_reserve
    assert here.slots("bf16", here.room("bf16").dense_bytes + rest + 7 * expert) == 7


def test_no_more_slots_than_experts_and_never_less_than_none() -> None:
    assert setting().slots("int4", 1000 * GIB) == 768
    assert setting().slots("fp32", 1) == 0


def test_all_is_held_once_both_stacks_fit() -> None:
    whole = DENSE + KV + 2 * 768 * EXPERT
    assert setting().whole_bytes("fp32") == whole
    assert setting().holds_all("fp32", whole)
    assert not setting().holds_all("fp32", whole - 1)
    assert setting().slots("fp32", whole) == 768


def test_vram_for_no_expert_is_refused_with_what_would_do() -> None:
    setting(vram=DENSE + KV + EXPERT).require_room()
    setting(vram=GIB // 2, formats=("fp32", "int4")).require_room()
    with pytest.raises(InputError, match=r"leaves no expert slot in 0\.50 GiB of VRAM: at least 0\.65 GiB expected"):
        setting(vram=GIB // 2).require_room()


def test_steps_fill_the_slots_many_times() -> None:
    assert setting(vram=2 * GIB).steps == 1000  # 6,000 demands, 6 a step
    few, many = setting(vram=8 * GIB), setting(vram=24 * GIB)
    assert few.steps == 1000
    assert many.steps == -(-12 * many.slots("fp32", 24 * GIB) // 6) > 1000
    assert setting(batch=10).steps == 100
    assert setting(batch=64).steps == 64
    assert setting(steps=7).steps == 256
    assert setting(steps=700).steps == 700


def test_another_batch_runs_about_as_many_tokens() -> None:
    assert setting(batch=2, steps=800).steps_of(8) == 200
    assert setting(steps=300).steps_of(16) == 64


def test_whole_sequences_are_few_steps() -> None:
    here = setting()
    encode = specmoe.traces.open("switch-mini-128/encode/test").meta
    assert here._replace(routings=Routings("", encode)).steps == 256


@pytest.mark.parametrize(("size", "shown"), [(GIB, "1 GiB"), (GIB + 1, "1.1 GiB"), (GIB // 2, "0.5 GiB"), (0, "0 GiB")])
def test_what_is_told_to_be_enough_is_enough(size: int, shown: str) -> None:
    assert gib(size) == shown

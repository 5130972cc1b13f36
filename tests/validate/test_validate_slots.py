"""Slots and copies at home, as far as they can be had without a GPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_shape
from specmoe.hwprofiles.measure.layers import expand
from specmoe.validate.slots import (
    ALIGNMENT,
    MIN_POOL_EXPERTS,
    POOL_BYTES,
    SPARE_BYTES,
    Arena,
    Pool,
    enough_vram,
    most_slots_in,
    pool_size,
    require_vram,
)

CPU = torch.device("cpu")
SHAPE = load_shape("switch-base-8")
TINY = dataclasses.replace(SHAPE, d_model=16, experts=dataclasses.replace(SHAPE.experts, d_ff=32))


def test_slots_do_not_overlap() -> None:
    arena = Arena(5, 300, 200, CPU)
    assert len(arena) == 5
    for slot in range(-1, 5):
        arena[slot].fill_(slot + 1)
    assert [arena[slot].unique().tolist() for slot in range(-1, 5)] == [[0], [1], [2], [3], [4], [5]]
    assert {len(arena[slot]) for slot in range(-1, 5)} == {300}


@pytest.mark.parametrize(("size", "copied", "stride"), [(300, 200, 512), (256, 600, 768)])
def test_as_many_slots_as_there_is_room_for(size: int, copied: int, stride: int) -> None:
    free = SPARE_BYTES + 11 * stride
    assert len(Arena(most_slots_in(free, size, copied), size, copied, CPU)._bytes) * stride == 11 * stride
    assert most_slots_in(free - 1, size, copied) == 9 and most_slots_in(0, size, copied) < 0


def test_the_slot_beside_is_no_slot_of_loads() -> None:
    arena = Arena(2, 256, 256, CPU)
    places = {arena[slot].data_ptr() for slot in (-1, 0, 1)}
    assert len(places) == 3
    assert {(place - min(places)) % ALIGNMENT for place in places} == {0}


@pytest.mark.parametrize("held", ["fp32", "fp16", "bf16", "int8", "int4"])
def test_every_key_has_other_weights_and_always_the_same(held: str) -> None:
    pool, again = (Pool(TINY, held, 4, CPU) for _ in range(2))  # type: ignore[arg-type]
    assert {len(pool[key]) for key in range(4)} == {TINY.expert_bytes(held)}  # type: ignore[arg-type]
    assert len({pool[key].numpy().tobytes() for key in range(4)}) == 4
    assert all(torch.equal(pool[key], again[key]) for key in range(4))


@pytest.mark.parametrize("held", ["int8", "int4"])
def test_what_is_compressed_expands_to_weights_of_a_sane_size(held: str) -> None:
    pool = Pool(TINY, held, 1, CPU)  # type: ignore[arg-type]
    out = torch.zeros(TINY.expert_bytes("fp16"), dtype=torch.uint8)
    expand(pool[0], held, TINY.expert_parameters, out)  # type: ignore[arg-type]
    weights = out.view(torch.float16)
    assert weights.isfinite().all() and 0.001 < weights.float().std() < 0.1


def test_fewer_stand_in_for_all() -> None:
    pool = Pool(TINY, "fp16", 3, CPU)
    assert torch.equal(pool[7], pool[1]) and not torch.equal(pool[7], pool[2])


def test_a_stretched_copy_is_longer_and_begins_with_the_weights() -> None:
    plain, longer = Pool(TINY, "fp16", 2, CPU), Pool(TINY, "fp16", 2, CPU, stretch=2.5)
    assert longer.copied == len(longer.source(1)) == round(2.5 * plain.size)
    assert torch.equal(longer[1][: plain.size], plain[1])


@pytest.mark.parametrize(
    ("size", "keys", "wanted"),
    [
        (1, 768, 768),
        (POOL_BYTES // 100, 768, 100),
        (POOL_BYTES, 768, MIN_POOL_EXPERTS),
        (9 * POOL_BYTES, 768, MIN_POOL_EXPERTS),
        (1, 2, 2),
    ],
)
def test_the_size_of_a_pool(size: int, keys: int, wanted: int) -> None:
    assert pool_size(size, keys) == wanted


def test_memory_that_cannot_be_had_is_one_line() -> None:
    with pytest.raises(InputError, match=r"GiB of (pinned )?host memory cannot be allocated: ") as raised:
        Pool(TINY, "fp16", 1 << 48, CPU)
    assert "\n" not in str(raised.value)


def gigabytes_free(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free * 2**30), 80 * 2**30))


def test_vram_must_hold_the_slots_and_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    gigabytes_free(monkeypatch, 10)
    device = torch.device("cuda", 0)
    require_vram(8 * 2**30, device)
    with pytest.raises(InputError, match=r"the slots need 8.1 GiB of VRAM and the rest 2.0 GiB: 10.0 GiB are free"):
        require_vram(round(8.1 * 2**30), device)


def test_memory_that_runs_out_later_is_one_line_too() -> None:
    with pytest.raises(InputError, match=r"^out of VRAM: no 2 GiB left$"), enough_vram():
        raise torch.OutOfMemoryError("no 2 GiB left\nsee the manual")
    with pytest.raises(RuntimeError, match="something else"), enough_vram():
        raise RuntimeError("something else")


def test_former_slots_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are given back before anybody looks, also those that refer to each other in a circle."""
    asked: list[str] = []
    monkeypatch.setattr("gc.collect", lambda: asked.append("collect"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: asked.append("empty"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: asked.append("look") or (1 << 40, 1 << 40))
    require_vram(1, torch.device("cuda", 0))
    assert asked == ["collect", "empty", "look"]


@pytest.mark.parametrize("held", ["int8", "int4"])
@pytest.mark.parametrize("stretch", [1, 2.05, 2.0501])
def test_what_was_copied_with_more_bytes_behind_it_expands_all_the_same(held: Any, stretch: float) -> None:
    pool = Pool(TINY, held, 2, CPU, stretch)
    arena = Arena(1, pool.size, pool.copied, CPU)
    arena.target(0).copy_(pool.source(1))
    out = [torch.zeros(TINY.expert_bytes("fp16"), dtype=torch.uint8) for _ in range(2)]
    expand(arena[0], held, TINY.expert_parameters, out[0])
    expand(Pool(TINY, held, 2, CPU)[1], held, TINY.expert_parameters, out[1])
    assert torch.equal(*out)
    assert len(arena.target(0)) == pool.copied


def test_slots_have_room_for_the_longer_of_expert_and_copy() -> None:
    arena = Arena(2, 100, 300, CPU)
    assert (len(arena[1]), len(arena.target(1))) == (100, 300)
    arena.target(0).fill_(7)
    assert not (arena[1] == 7).all() or arena[1].data_ptr() - arena[0].data_ptr() >= 300

"""The budget of VRAM: KV caches as published, lines that sum up, and what bad input gets."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from typer.testing import CliRunner

import specmoe
from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile, load_shape, shape_names
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.kernels import Style
from specmoe.hwprofiles.shape import KV_FORMATS, KvFormat
from specmoe.sim.budget import GIB, Ask, Room, budget
from specmoe.sim.config import AT_HOME

FUSED = Style("fused", "separate")
PUBLISHED = {  # GiB of 32k tokens in f16
    "mixtral-8x7b": 4.0,
    "qwen3-30b-a3b": 3.0,
    "olmoe-1b-7b": 4.0,
    "deepseek-moe-16b": 7.0,
    "deepseek-v2-lite": 0.95,
    "gpt-oss-20b": 0.75,
    "gpt-oss-120b": 1.13,
}


def room(model: str) -> Room:
    shape = load_shape(model)
    return Room(shape, shape.format, AT_HOME)


def printed(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["budget", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows[0]


@pytest.mark.parametrize("model", PUBLISHED)
def test_kv_cache_of_32k_tokens_is_as_published(model: str) -> None:
    assert load_shape(model).kv_bytes(32 << 10) / GIB == pytest.approx(PUBLISHED[model], abs=0.006)


def test_kv_cache_of_qwen3_30b_takes_the_room_of_341_bf16_experts() -> None:
    shape = load_shape("qwen3-30b-a3b")
    assert shape.kv_bytes(32 << 10) // shape.expert_bytes("bf16") == 341


def test_layers_with_a_window_keep_no_more_than_it() -> None:
    shape = load_shape("gpt-oss-20b")
    within, beyond = (shape.kv_bytes(end + 1) - shape.kv_bytes(end) for end in (127, 128))
    assert (within, beyond) == (24 * 2 * 8 * 64 * 2, 12 * 2 * 8 * 64 * 2)


def test_by_hand_every_second_layer_of_gpt_oss_attends_to_its_window() -> None:
    attended = load_shape("gpt-oss-20b").attended
    assert [attended("decode", 4096, layer) for layer in (0, 1, 22, 23, -1)] == [128, 4096, 128, 4096, 4096]
    assert attended("decode", 100, 0) == 100
    assert {load_shape("qwen3-30b-a3b").attended("decode", 4096, layer) for layer in range(48)} == {4096}


def test_attention_reads_its_window_only_and_fewer_bytes_of_a_smaller_format() -> None:
    def before_us(layer: int, context: int, held: KvFormat = "f16") -> float:
        costs = Costs(load_profile("rtx3090"), load_shape("gpt-oss-20b"), "int4", style=FUSED, kv_format=held)
        return costs.before_ns("decode", 1, context, layer) / 1000

    assert before_us(0, 1 << 17) == before_us(0, 128) == before_us(1, 128)
    assert before_us(1, 1 << 17, "q8_0") == before_us(1, (1 << 17) * 17 // 32)
    read_us = (1 << 17) * 2 * 8 * 64 * 2 / load_profile("rtx3090")["device.memory_bandwidth"] * 1e6
    assert before_us(1, 1 << 17) - before_us(1, 1) == pytest.approx(read_us, rel=0.01)
    assert before_us(1, 1 << 17) - before_us(1, 1 << 17, "q4_0") == pytest.approx(read_us * 23 / 32, rel=0.01)


def test_linear_attention_keeps_a_constant_state() -> None:
    shape = load_shape("qwen3.6-35b-a3b")
    assert shape.kv_bytes(0) == 30 * 32 * 128 * 128 * 4
    assert shape.kv_bytes(1) - shape.kv_bytes(0) == 10 * 2 * 2 * 256 * 2


def test_cross_attention_keeps_the_text_too() -> None:
    assert load_shape("switch-base-8").kv_bytes(10, "f16") == 10 * 12 * 2 * (2 * 12 * 64) * 2


def test_kv_formats_take_the_bytes_of_their_blocks() -> None:
    shape = load_shape("mixtral-8x7b")
    shares = [shape.kv_bytes(1024, held) / shape.kv_bytes(1024) * 2 for held in KV_FORMATS]
    assert shares == [2, 1.0625, 0.5625]


@given(
    model=st.sampled_from(shape_names()),
    gib=st.integers(2, 400),
    context=st.integers(1, 1 << 18),
    batch=st.integers(1, 8),
    held=st.sampled_from(KV_FORMATS),
)
def test_lines_sum_up_and_the_longest_context_is_the_last_that_fits(
    model: str, gib: int, context: int, batch: int, held: KvFormat
) -> None:
    def asked(tokens: int) -> Ask:
        return Ask(gib * GIB, tokens, batch, held)

    try:
        found = budget(room(model), asked(context))
    except InputError:
        return
    lines = found.dense_bytes + found.kv_bytes + found.assumed_reserve_bytes + found.slot_bytes + found.free_bytes
    assert lines == found.vram_bytes
    assert found.fits or found.free_bytes < found.expert_bytes
    assert context <= found.longest_context
    assert budget(room(model), asked(found.longest_context)).slots >= 1
    if found.longest_context < 10**8:
        with pytest.raises(InputError, match=f"at most --context {found.longest_context} fits"):
            budget(room(model), asked(found.longest_context + 1))


def test_command_answers_with_every_line() -> None:
    found = printed("--model", "qwen3-30b-a3b", "--vram", "80GiB", "--context", "32k")
    assert (found["kv_bytes"], found["assumed_reserve_bytes"], found["fits"]) == (3 * GIB, GIB, True)
    assert found["slots"] == found["experts"] == 48 * 128
    less = printed("--model", "qwen3-30b-a3b", "--vram", "24GiB", "--context", "32k", "--format", "bf16")
    assert not less["fits"]


def test_curves_fall_with_the_context_and_end_at_the_longest_that_leaves_a_slot() -> None:
    found = specmoe.budget("gpt-oss-20b", "8GiB", "16k")
    assert found.row == printed("--model", "gpt-oss-20b", "--vram", "8GiB", "--context", "16k")
    assert found.table["GiB"].sum() == pytest.approx(8)
    for held, line in found.slots_by_context.items():
        contexts, slots = zip(*line, strict=True)
        assert list(contexts) == sorted(contexts) and list(slots) == sorted(slots, reverse=True)
        asked = specmoe.budget("gpt-oss-20b", "8GiB", contexts[3], kv_format=held)
        assert (asked.found.slots, asked.found.longest_context) == (slots[3], contexts[-1])
    assert contexts[-1] > 3 * found.found.longest_context  # q4_0


def test_slots_are_drawn_on_given_axes_and_into_a_file(tmp_path: Path) -> None:
    axes = Figure().subplots()
    assert specmoe.budget("gpt-oss-20b", "8GiB", "16k").plot(axes) is axes
    assert [line.get_label() for line in axes.get_lines()[:3]] == [f"KV cache in {held}" for held in KV_FORMATS]
    printed("--model", "gpt-oss-20b", "--vram", "8GiB", "--context", "16k", "--plot", str(tmp_path / "slots.png"))
    assert (tmp_path / "slots.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--context", "10M"), "--context 10M: a number of tokens such as 4096 or 32k expected"),
        (("--context", "0"), "--context 0: at least 1 expected"),
        (("--context", "1k", "--kv-format", "q3"), "--kv-format q3: "),
        (("--context", "1k", "--plot", "slots.pdf"), "--plot slots.pdf: a file name that ends in .png expected"),
        (("--context", "1k", "--assumed-reserve", "9"), "--assumed-reserve 9: "),
        (("--context", "1000k"), "--context 1024000 leaves no expert slot in 8.00 GiB of VRAM: at most --context "),
    ],
)
def test_bad_input_gets_one_line(arguments: tuple[str, ...], complaint: str) -> None:
    result = CliRunner().invoke(app, ["budget", "--model", "mixtral-8x7b", "--vram", "8GiB", *arguments])
    assert result.exit_code == 1
    assert complaint in result.stderr and len(result.stderr.splitlines()) == 1

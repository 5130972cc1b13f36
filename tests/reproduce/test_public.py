"""Figures that others published: how their names are understood, and how far predictions are from them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import pytest
from doc_pages import builder_of
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_shape
from specmoe.hwprofiles.shape import is_compressed
from specmoe.sim.reproduce.public import (
    KINDS,
    PREDICTED,
    Rate,
    _reasons,
    covered_unseen,
    reason_of,
    reproduce,
    spread_of,
    spreads,
    spreads_of,
    widened,
)
from specmoe.sim.reproduce.public_cards import profile_of
from specmoe.sim.reproduce.public_names import (
    Offload,
    batch_of,
    context_of,
    held_of,
    policy_of,
    shape_of,
    style_of_runtime,
)
from specmoe.sim.reproduce.public_rows import NEEDED, UnpredictableError, number_of, read_rows

DOCS = Path(__file__).parents[2] / "docs"
HEADER = ",".join(NEEDED)
ROW = dict(zip(NEEDED, ("RTX 4090", "gpt-oss-20b", "mxfp4", "llama.cpp", "resident", "1", "short"), strict=True))
ISSUE = [  # card, model, measured, most error
    ("RTX 3090", "gpt-oss-20b", "147.5", 0.25),
    ("RTX 4090", "gpt-oss-20b", "225", 0.25),
    ("RTX 5090", "gpt-oss-20b", "221", 0.25),
    ("A100 80GB", "mixtral-8x7b", "56.0", 0.30),
    ("A100 80GB", "qwen3-30b-a3b", "103.9", 0.30),
]


@pytest.fixture(scope="module")
def made() -> list[dict[str, Any]]:
    return reproduce(read_rows())


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return builder_of("public")


def one(**changes: str) -> dict[str, Any]:
    return reproduce([ROW | changes])[0]


def test_resident_quantised_models_are_within_a_quarter(made: list[dict[str, Any]]) -> None:
    rows = [row for row in made if row["error"] is not None and row["policy"] == "resident"]
    errors = [abs(row["error"]) for row in rows if is_compressed(row["format"])]
    assert len(errors) >= 15
    assert median(errors) <= 0.25


@pytest.mark.parametrize(("card", "name", "measured", "most"), ISSUE)
def test_five_well_known_rows(made: list[dict[str, Any]], card: str, name: str, measured: str, most: float) -> None:
    wanted = [row for row in made if (row["gpu"], row["model"], row["measured"]) == (card, name, float(measured))]
    assert len(wanted) == 1
    assert abs(wanted[0]["error"]) <= most


def test_nothing_is_off_by_twice_without_a_reason(made: list[dict[str, Any]]) -> None:
    far = [row for row in made if row["error"] is not None and not 0.5 <= row["error"] + 1 <= 2]
    assert [row for row in far if reason_of(row) is None] == []


def test_the_page_is_what_the_list_gives(made: list[dict[str, Any]], builder: ModuleType) -> None:
    page = (DOCS / "public.md").read_text()
    assert builder.filled(page, made) == page


def test_every_row_is_on_the_page(made: list[dict[str, Any]]) -> None:
    page = (DOCS / "public.md").read_text()
    assert len(made) >= 25
    assert [row["source"] for row in made if row["source"] not in page] == []


def test_every_row_keeps_its_columns_and_place(made: list[dict[str, Any]]) -> None:
    rows = read_rows()
    assert [(row["gpu"], row["model"], row["source"]) for row in made] == [
        (row["gpu"], row["model"], row["source"]) for row in rows
    ]
    assert all(set(row) == {*rows[0], *PREDICTED} for row in made)


def test_a_row_has_a_prediction_in_its_range_or_a_reason(made: list[dict[str, Any]]) -> None:
    for row in made:
        if row["tokens_per_second"] is None:
            assert row["reason"]
            assert row["error"] is None
        else:
            assert 0 < row["low"] <= row["tokens_per_second"] <= row["high"]
            assert row["range"]
            assert row["error"] == pytest.approx(row["tokens_per_second"] / row["measured"] - 1)


def test_every_known_reason_is_of_a_row() -> None:
    rows = read_rows()
    given = {reason_of(row) for row in rows}
    assert {known["reason"] for known in _reasons()} <= given


@pytest.mark.parametrize(
    ("gpu", "profile"),
    [
        ("RTX 3090", "rtx3090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("GeForce RTX 4090 24GB", "rtx4090"),
        ("RTX 5090 (PCIe 5.0 x16)", "rtx5090"),
        ("A100", "a100-sxm4-80gb"),
        ("A100 80GB", "a100-sxm4-80gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("H200", "h200-sxm-141gb"),
        ("NVIDIA RTX A6000 48GB", "a6000"),
        ("h100-sxm5-80gb", "h100-sxm5-80gb"),
        ("NVIDIA GeForce RTX 3060 12GB", "rtx3060-12gb"),
        ("Quadro RTX 5000", "quadro-rtx-5000"),
        ("GTX 1650 4GB", "gtx-1650"),
        ("RTX 4060 Ti 8 GB", "rtx-4060-ti"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"),
        ("3060", "rtx3060-12gb"),
        ("rtx3060", "rtx3060-12gb"),
        ("GTX1650", "gtx-1650"),
        ("RTX 4090 Laptop GPU", "rtx-4090-laptop"),
        ("RTX 3080 Mobile", "rtx3080-laptop-16gb"),
        ("A100-PCIE-40GB", "a100-40gb"),
        ("H100 PCIe", "h100-pcie"),
        ("H100 NVL 94GB", "h100-nvl"),
        ("A10G", "a10g"),
    ],
)
def test_names_of_cards(gpu: str, profile: str) -> None:
    assert profile_of(gpu).name == profile


@pytest.mark.parametrize(
    "gpu",
    [
        "RTX 4090 D",
        "RTX 3060 8GB",
        "RX 7900 XTX",
        "RTX 4090 0GB",
        "",
    ],
)
def test_other_cards_have_no_profile(gpu: str) -> None:
    with pytest.raises(UnpredictableError, match="no profile of"):
        profile_of(gpu)


@pytest.mark.parametrize("gpu", ["2x RTX 3090", "RTX 3090 x2", "8 x A100 80GB", "dual RTX 4090"])
def test_several_cards(gpu: str) -> None:
    with pytest.raises(UnpredictableError, match="several GPUs"):
        profile_of(gpu)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("gpt-oss:20b", "gpt-oss-20b"),
        ("gpt-oss-120b-GGUF", "gpt-oss-120b"),
        ("Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3-30b-a3b"),
        ("Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
        ("mixtral 8x22b", "mixtral-8x22b"),
        ("DeepSeek-Coder-V2-Lite-Instruct", "deepseek-v2-lite"),
        ("Llama-4-Scout-17B-16E-Instruct", "llama-4-scout"),
        ("gptoss-20b", "gpt-oss-20b"),
        ("gpt-oss-120b (MXFP4)", "gpt-oss-120b"),
        ("qwen3-coder:30b", "qwen3-30b-a3b"),
        ("qwen3moe 30B.A3B", "qwen3-30b-a3b"),
        ("Qwen3 Next 80B A3B", "qwen3-next-80b-a3b"),
        ("Qwen3.6 35B A3B", "qwen3.6-35b-a3b"),
    ],
)
def test_names_of_models(model: str, shape: str) -> None:
    assert shape_of(model).name == shape


@pytest.mark.parametrize("model", ["llama-3-8b", "deepseek-v2", "Qwen3-REAP-30b-a3b", ""])
def test_other_models_have_no_shape(model: str) -> None:
    with pytest.raises(UnpredictableError, match="no shape of"):
        shape_of(model)


@pytest.mark.parametrize(
    ("quant", "runtime", "formats"),
    [
        ("mxfp4", "llama.cpp", ("mxfp4", "q8_0", "q8_0")),
        ("MXFP4", "vLLM", ("mxfp4", "bf16", "bf16")),
        ("Q4_K_M", "Ollama", ("q4_k", "q4_k", "q6_k")),
        ("UD-Q4_K_XL", "llama.cpp", ("q4_k", "q8_0", "q6_k")),
        ("q6_k_xl", "llama.cpp", ("q6_k", "q6_k", "q6_k")),
        ("Q4", "llama.cpp", ("q4_k", "q4_k", "q6_k")),
        ("IQ3_XXS", "llama.cpp", ("iq3_xxs", "iq3_xxs", "q6_k")),
        ("int8", "gpt-fast", ("int8", "int8", "int8")),
        ("int8", "TensorRT-LLM", ("int8", "int8", "bf16")),
        ("AWQ 4-bit", "vLLM", ("int4", "int4", "bf16")),
        ("GPTQ-Int4", "vLLM", ("int4", "int4", "bf16")),
        ("FP16", "vLLM", ("fp16", "fp16", "fp16")),
        ("IQ4_KS", "ik_llama.cpp", ("iq4_xs", "iq4_xs", "q6_k")),
        ("4.0 bpw", "exllamav3", ("int4", "int4", "bf16")),
        ("-", "llama.cpp", ("q4_k", "q4_k", "q6_k")),
        ("", "vLLM", ("bf16", "bf16", "bf16")),
    ],
)
def test_names_of_formats(quant: str, runtime: str, formats: tuple[str, str, str]) -> None:
    held = held_of(quant, runtime)
    assert (held.experts, held.dense, held.head) == formats


@pytest.mark.parametrize("quant", ["2-bit HQQ experts", "Q2_K", "IQ1_S", "magic"])
def test_formats_without_kernels(quant: str) -> None:
    with pytest.raises(UnpredictableError):
        held_of(quant, "llama.cpp")


def test_every_file_of_gpt_oss_has_mxfp4_experts() -> None:
    assert held_of("UD-Q4_K_XL", "llama.cpp", "unsloth/gpt-oss-20b-GGUF").experts == "mxfp4"
    assert one(quant="")["format"] == "mxfp4" == one(quant="Q4_K_M", runtime="Ollama")["format"]


def test_medium_files_have_a_sixth_of_their_experts_in_6_bits() -> None:
    """4.5 bits, and 6.5625 in half of the down projections: 4.84, as files of MoE models have."""
    mix = held_of("q4_k_m", "llama.cpp").mix
    assert mix is not None
    assert 4.5 * (1 - mix.share) + 6.5625 * mix.share == pytest.approx(4.84, abs=0.005)


@pytest.mark.parametrize(
    ("policy", "runtime", "meaning"),
    [
        ("resident", "llama.cpp", None),
        ("", "", None),
        ("all on GPU", "llama.cpp", None),
        ("everything in VRAM", "llama.cpp", None),
        ("no CPU offload", "llama.cpp", None),
        ("-ngl 99 -fa 1 -c 4096", "llama.cpp", None),
        ("ngl=99", "llama.cpp", None),
        ("offload", "MoE-Infinity", Offload("moe-infinity", None)),
        ("4 of 8 experts a layer cached", "mixtral-offloading", Offload("mixtral-offloading", 4)),
        ("on-demand-lru", "any", Offload("on-demand-lru", None)),
        ("freetoken", "FreeToken", Offload("freetoken", None)),
    ],
)
def test_names_of_policies(policy: str, runtime: str, meaning: Offload | None) -> None:
    assert policy_of(policy, runtime, load_shape("qwen3-30b-a3b")) == meaning


@pytest.mark.parametrize(
    ("policy", "runtime", "reason"),
    [
        ("cpu only", "llama.cpp", "a model whose every weight is on the CPU is not simulated"),
        ("resident, draft of 4", "llama.cpp", "speculative decoding is not simulated"),
        ("resident", "vLLM TP=2", "several GPUs are not simulated"),
        ("magic", "x", "policy 'magic' is not simulated"),
        ("-ngl 12", "llama.cpp", "whole layers on the CPU, attention with them, are not simulated"),
        ("n-cpu-moe -5", "llama.cpp", "policy 'n-cpu-moe -5': a number of layers from 0 expected"),
    ],
)
def test_policies_that_are_not_simulated(policy: str, runtime: str, reason: str) -> None:
    assert one(policy=policy, runtime=runtime)["reason"] == reason


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("short", 128),
        ("0", 64),
        ("2048", 2048),
        ("4k", 4096),
        ("1,024", 1024),
        ("d=0", 64),
        ("d=4096", 4096),
        ("tg128 @ d8192", 8192),
        ("pp512/tg128", 64),
        ("16k ctx", 16384),
        ("-c 32768", 32768),
        ("n/a", 128),
        ("2k-4k", 3072),
        ("512 in; 128 out", 576),
    ],
)
def test_contexts(text: str, positions: int) -> None:
    assert context_of(text) == positions


@pytest.mark.parametrize("text", ["long", "-1", "nan", "9" * 30])
def test_contexts_that_are_no_number(text: str) -> None:
    assert "a number of positions" in one(context=text)["reason"]


@pytest.mark.parametrize("text", ["0", "x", "1.5", "9" * 30])
def test_batches_that_are_no_number(text: str) -> None:
    with pytest.raises(UnpredictableError, match="a whole number from 1"):
        batch_of(text)


def test_a_batch_in_words() -> None:
    assert [batch_of(text) for text in ("", "n/a", "bs=4", "1.0", "2 users", "single")] == [1, 1, 4, 1, 2, 1]


def test_measured_values_with_words() -> None:
    texts = ("38.5", "~38.5 t/s", "38.5 \u00b1 0.2", "37-40", "1,038.5", "", "-3", "fast", "nan")
    assert [number_of(text) for text in texts] == [38.5, 38.5, 38.5, 38.5, 1038.5, None, None, None, None]


def test_a_batch_gives_more_tokens_in_all() -> None:
    assert one(batch="8")["tokens_per_second"] > one()["tokens_per_second"]


def test_an_eager_runtime_is_slower() -> None:
    assert style_of_runtime("transformers, torch.compile")[1] == "graph"
    eager = one(runtime="transformers eager", quant="bf16", model="olmoe-1b-7b")
    assert eager["tokens_per_second"] < one(runtime="vLLM", quant="bf16", model="olmoe-1b-7b")["tokens_per_second"]


def test_a_model_that_does_not_fit_has_a_reason() -> None:
    assert "do not fit" in one(model="mixtral-8x7b", quant="bf16")["reason"]


def test_a_row_without_a_policy_leaves_in_ram_what_does_not_fit() -> None:
    unsaid = one(model="qwen3-30b-a3b", quant="q4_k_m", gpu="RTX 3060", policy="")
    assert unsaid["kind"] == "cpu"
    assert "no policy is named" in unsaid["reason"]
    assert one(policy="")["kind"] == "resident"


def test_offloading_is_slower_than_residence() -> None:
    offloaded = one(policy="offload", runtime="MoE-Infinity", model="olmoe-1b-7b", quant="bf16", gpu="RTX 3090")
    assert offloaded["tokens_per_second"] is not None
    cached = one(policy="4 of 64 experts a layer cached", model="olmoe-1b-7b", quant="bf16", gpu="RTX 3090")
    resident = one(runtime="vLLM", model="olmoe-1b-7b", quant="bf16", gpu="RTX 3090")
    assert cached["tokens_per_second"] < resident["tokens_per_second"]
    assert "routing is drawn" in cached["reason"]


def test_a_user_s_own_shape_and_profile_are_read(tmp_path: Path) -> None:
    shape = tmp_path / "mine.toml"
    shipped = DOCS.parent / "specmoe" / "hwprofiles"
    shape.write_text((shipped / "shapes" / "olmoe-1b-7b.toml").read_text())
    asked = {"gpu": str(shipped / "profiles" / "rtx3090.toml"), "policy": "offload", "quant": "bf16"}
    mine, shipped_one = one(model=str(shape), **asked), one(model="OLMoE-1B-7B-0924", **asked)
    assert mine["tokens_per_second"] == shipped_one["tokens_per_second"] is not None
    assert "mine.toml" in one(model=str(tmp_path / "no" / "mine.toml"))["reason"]


def test_a_batch_beyond_the_drawn_sequences_has_a_reason() -> None:
    assert "at most 64 sequences" in one(policy="offload", batch="65", quant="bf16")["reason"]


def test_unknown_columns_are_kept_and_a_missing_value_has_no_error(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(f"{HEADER},mine,tokens_per_second\n{','.join(ROW.values())},x,\n")
    (row,) = reproduce(read_rows(file))
    assert (row["mine"], row["measured"], row["error"]) == ("x", None, None)
    assert row["tokens_per_second"] > 0


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "not a CSV table with the columns gpu"),
        ("gpu,model\na,b\n", "quant is missing"),
        (f"{HEADER},gpu\n", "a column comes twice"),
        (f'{HEADER}\n"a,b\n', "not a CSV table"),
        ("\0" * 9, "not a CSV table"),
    ],
)
def test_a_file_that_is_no_such_list_is_one_line(text: str, wrong: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=wrong) as error:
        read_rows(file)
    assert "\n" not in str(error.value)
    result = CliRunner().invoke(app, ["reproduce", "public", "--rows", str(file)])
    assert result.exit_code == 1


def test_a_practitioner_s_table_is_answered_row_by_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        "GPU;CPU;RAM;Model;Quantization;Policy;tok/s\n"
        "3060;R5 5600;DDR4 3200 dual channel;Qwen3 30B A3B;UD-Q4_K_XL;ncmoe=20;~40 t/s\n"
        "RTX 3090;;;no-such-model;Q4_K_M;resident;100\n"
        "RTX 3090;;;qwen3-30b-a3b;Q4_K_M;resident;100;one cell too many\n"
        "RTX 4090;;;qwen3-30b-a3b;Q4_K_M\n"
    )
    first, unknown, long, short = reproduce(read_rows(file))
    assert (first["measured"], first["kind"], first["host"]) == (40, "cpu", "R5 5600, DDR4 3200 dual channel")
    assert first["low"] < first["tokens_per_second"] < first["high"]
    assert (unknown["tokens_per_second"], unknown["reason"]) == (None, "no shape of no-such-model")
    assert (long["tokens_per_second"], long["reason"][:18]) == (None, "8 cells: 7, as in ")
    assert short["tokens_per_second"] > 0


def test_the_shipped_spreads_are_those_of_the_list(made: list[dict[str, Any]]) -> None:
    assert spreads() == pytest.approx(spreads_of(made), abs=6e-4)


def test_ranges_of_other_machines_cover_most_rows(made: list[dict[str, Any]]) -> None:
    rows = [row for row in made if row["error"] is not None]
    assert 0.8 * len(rows) < covered_unseen(made) < len(rows)


def test_by_hand_a_spread_is_a_quantile_of_machines() -> None:
    """Of four machines, one with three figures, it is the 0.8 x 5 = 4th; of 13 the twelfth, as 0.8 x 14 = 11.2."""
    errors = [("a", 1.1), ("a", 1.1), ("a", 1.1), ("b", 1.2), ("c", 1.3), ("d", 1.4)]
    rows = [
        {"gpu": gpu, "source": "x", "kind": "cpu", "tokens_per_second": ratio, "measured": 1.0} for gpu, ratio in errors
    ]
    assert math.exp(spread_of(rows, "cpu")) == pytest.approx(1.4)
    assert math.exp(spread_of([*rows, rows[0] | {"gpu": "e"}], "cpu")) == pytest.approx(1.4)
    assert math.exp(spread_of([*rows, *(rows[0] | {"gpu": str(n)} for n in range(9))], "cpu")) == pytest.approx(1.3)
    assert {spread_of(rows, kind) for kind in KINDS} == {spread_of(rows, "cpu")}


def test_by_hand_uncertainties_add_as_squares() -> None:
    rate = widened(Rate(10, 10 / math.exp(0.3), 10 * math.exp(0.3), "hosts"), "cpu", 0.4)
    assert (rate.low, rate.high) == pytest.approx((10 / math.exp(0.5), 10 * math.exp(0.5)))


def test_the_command_prints_what_the_library_gives(made: list[dict[str, Any]]) -> None:
    result = CliRunner().invoke(app, ["reproduce", "public", "--json"])
    assert json.loads(result.stdout) == json.loads(json.dumps(made))
    table = CliRunner().invoke(app, ["reproduce", "public"])
    assert "[1] " in table.stdout


def test_no_two_cards_of_the_plot_look_alike(made: list[dict[str, Any]], builder: ModuleType) -> None:
    cards = {row["gpu"] for row in made}
    assert len({str(builder.look(number)) for number in range(len(cards))}) == len(cards) > 7

"""Figures that others published of models whose experts are on the CPU."""

import csv
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.kernels import Share
from specmoe.hwprofiles.shape import bytes_of
from specmoe.sim.reproduce.public import reproduce
from specmoe.sim.reproduce.public_cards import card_profile, cards
from specmoe.sim.reproduce.public_cpu import (
    ALL_ON_CPU,
    OnCpu,
    cpu_layer_ns,
    handoff_ns,
    shares_in_ram,
    step_with_cpu_ns,
    usual_host,
)
from specmoe.sim.reproduce.public_hosts import TABLE, RowHost, host_of
from specmoe.sim.reproduce.public_names import GRAPH, policy_of
from specmoe.sim.reproduce.public_rows import NEEDED, UnpredictableError, read_rows
from specmoe.sim.resident import ResidentModel, ResidentStep

COLUMNS = (*NEEDED, "host")
ROW = dict(
    zip(
        COLUMNS,
        ("RTX 3090", "qwen3-30b-a3b", "q4_k_m", "llama.cpp", "n-cpu-moe 24", "1", "0", "Ryzen 5700X DDR4-3000"),
        strict=True,
    )
)
GIGA = 1e9


def rate(**changes: str) -> float:
    (row,) = reproduce([ROW | changes])
    assert row["tokens_per_second"] is not None, row["reason"]
    assert row["low"] <= row["tokens_per_second"] <= row["high"]
    return float(row["tokens_per_second"])


def model(shape: str = "qwen3-30b-a3b") -> ResidentModel:
    costs = Costs(load_profile("rtx3090"), load_shape(shape), "q4_k", moves=(), style=GRAPH, dense_format="q4_k")
    return ResidentModel(costs, "q6_k")


def test_rows_of_the_list_are_within_a_fifth_in_the_median() -> None:
    rows = [row for row in reproduce(read_rows()) if "n-cpu-moe" in row["policy"]]
    assert len(rows) == 13
    assert median(abs(row["error"]) for row in rows) < 0.2
    assert max(abs(row["error"]) for row in rows) < 0.35


def test_handoff_is_that_of_the_engine_and_of_the_row_that_chose_it() -> None:
    costs = model().costs
    engine = sum(costs.hidden_ns(1)) + costs.profile.ns("cpu.start") + costs.profile.ns("cpu.join")
    ends = [handoff_ns(costs, 1, end) for end in ("usual", "fastest", "slowest")]
    assert ends == pytest.approx([20_000, 8_000, 95_000], rel=0.01)
    assert ends[0] == engine and "cpu.call" not in costs.profile


def test_the_row_that_chose_the_handoff_is_met() -> None:
    chosen = [row for row in read_rows() if (row["gpu"], row["policy"]) == ("RTX 3090", "n-cpu-moe 40")]
    assert len(chosen) == 1
    assert abs(reproduce(chosen)[0]["error"]) < 0.05


def test_a_step_is_linear_in_layers_on_the_cpu() -> None:
    host = RowHost(Share(40 * GIGA, 40 * GIGA, 40 * GIGA), 8)
    times = [
        step_with_cpu_ns(model(), host, shares_in_ram(OnCpu("first", layers), model()), 1, 128)
        for layers in (0, 12, 24, 48)
    ]
    assert times[0] == ResidentStep.of(model(), 1, 128).total_ns
    assert times[2] - times[0] == pytest.approx(2 * (times[1] - times[0]))
    assert times[3] - times[0] == pytest.approx(4 * (times[1] - times[0]))


def test_by_hand_a_layer_reads_its_chosen_experts() -> None:
    shape, read = load_shape("qwen3-30b-a3b"), 40 * GIGA
    weights = 3 * shape.d_model * shape.experts.d_ff
    wanted = shape.experts.top_k * bytes_of(weights, "q4_k") / read * 1e9
    host = RowHost(Share(read, read / 2, read), 8)
    assert cpu_layer_ns(model(), host, 1) == pytest.approx(wanted, rel=1e-4)
    assert cpu_layer_ns(model(), host, 1, "slowest") == pytest.approx(2 * wanted, rel=1e-4)


def test_few_cores_are_slower_than_the_memory() -> None:
    read = 400 * GIGA
    one, many = (cpu_layer_ns(model(), RowHost(Share(read, read, read), cores), 1) for cores in (4, 64))
    assert one == pytest.approx(many * 400 / 84, rel=1e-3)


def test_a_layer_of_both_sides_takes_the_longer_of_the_two() -> None:
    host = RowHost(Share(40 * GIGA, 40 * GIGA, 40 * GIGA), 8)
    resident, half = ResidentStep.of(model(), 1, 128).total_ns, [0.5] * 48
    on_gpu = sum(model().experts_ns(1))
    wanted = resident + 48 * (handoff_ns(model().costs, 1) + cpu_layer_ns(model(), host, 1) / 2 - on_gpu)
    assert step_with_cpu_ns(model(), host, half, 1, 128) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("policy", "runtime", "meaning"),
    [
        ("n-cpu-moe 20", "llama.cpp", OnCpu("first", 20)),
        ("--n-cpu-moe 20", "llama.cpp", OnCpu("first", 20)),
        ("--n-cpu-moe=20", "llama.cpp", OnCpu("first", 20)),
        ("-ngl 99 -ncmoe 20", "llama.cpp", OnCpu("first", 20)),
        ("n_cpu_moe: 20", "llama.cpp", OnCpu("first", 20)),
        ("n-cpu-moe:20", "llama.cpp", OnCpu("first", 20)),
        ("n-cpu-moe", "llama.cpp", OnCpu("first", None)),
        ("ncmoe=20", "llama.cpp", OnCpu("first", 20)),
        ("", "llama.cpp -ngl 99 -ncmoe 20", OnCpu("first", 20)),
        ("experts of 20 layers on the CPU", "llama.cpp", OnCpu("first", 20)),
        ("cpu-experts", "llama.cpp", ALL_ON_CPU),
        ("--cpu-moe", "llama.cpp", ALL_ON_CPU),
        ("-cmoe", "llama.cpp", ALL_ON_CPU),
        ("all experts on CPU", "llama.cpp", ALL_ON_CPU),
        ("experts in RAM", "ik_llama.cpp", ALL_ON_CPU),
        ("llama-fit", "llama.cpp", OnCpu("last", None)),
        ("--fit on", "llama.cpp", OnCpu("last", None)),
        ("llama-fit:8", "llama.cpp", OnCpu("last", 8)),
        ("", "KTransformers 0.3", ALL_ON_CPU),
        ("ktransformers:0.25", "KTransformers", OnCpu("share", 0.25)),
        ("ktransformers, 25 % of experts on the GPU", "KTransformers", OnCpu("share", 0.25)),
        ("32 experts per layer on GPU", "KTransformers", OnCpu("share", 0.25)),
        ("fiddler", "Fiddler", OnCpu("share", None)),
        (r"-ot \.ffn_.*_exps\.=CPU", "llama.cpp", OnCpu("pattern", None, r"\.ffn_.*_exps\.")),
    ],
)
def test_names_of_policies(policy: str, runtime: str, meaning: OnCpu) -> None:
    assert policy_of(policy, runtime, load_shape("qwen3-30b-a3b")) == meaning


@pytest.mark.parametrize("policy", ["cpu only", "ngl 0", "-ot blk[=CPU"])
def test_policies_that_are_not_predicted(policy: str) -> None:
    with pytest.raises(UnpredictableError):
        policy_of(policy, "llama.cpp", load_shape("qwen3-30b-a3b"))


def test_which_layers_stay_in_ram() -> None:
    one = model()
    assert shares_in_ram(OnCpu("first", 2), one) == [1.0] * 2 + [0.0] * 46
    assert shares_in_ram(OnCpu("last", 2), one) == [0.0] * 46 + [1.0] * 2
    assert shares_in_ram(OnCpu("first", 999), one) == [1.0] * 48 == shares_in_ram(ALL_ON_CPU, one)
    pattern = OnCpu("pattern", None, r"blk\.([0-9]|1[0-1])\.ffn_(up|down)_exps")
    assert shares_in_ram(pattern, one) == [pytest.approx(2 / 3)] * 12 + [0.0] * 36
    assert sum(shares_in_ram(OnCpu("first"), one)) == 0


def test_layers_without_experts_count_as_llama_cpp_counts_them() -> None:
    lite = model("deepseek-v2-lite")
    assert sum(shares_in_ram(OnCpu("first", 10), lite)) == 9


def test_without_a_number_as_few_layers_as_fit_stay_in_ram() -> None:
    small, large = (rate(gpu=card, policy="n-cpu-moe") for card in ("RTX 3060 12GB", "RTX 3090"))
    assert rate(gpu="RTX 3060 12GB", policy="n-cpu-moe 48") < small < large
    assert large == rate(policy="n-cpu-moe 0")


@pytest.mark.parametrize(
    ("text", "giga", "cores"),
    [
        ("Ryzen 7 5700X 8c t=6, 64GB DDR4-3000 2ch, read 42.4 GB/s, PCIe4 x16 (26.7 GB/s probe)", 42.4, 6),
        ("Ryzen 5700X DDR4-3000", 42.4, 8),
        ("Ryzen 7 5700X, DDR4-2133", 31.5, 8),
        ("Ryzen 7 5700X DDR4-3600", 42.4 * 1.2, 8),
        ("AMD Ryzen 9 9950X3D", 71.6, 16),
        ("i7-7700 4c t=4 32GB DDR4-2133 2ch", 0.88 * 2 * 8 * 2.133, 4),
        ("i9-10900X DDR4 (102 GB/s)", 50, 10),
        ("a desktop, 102 GB/s", 0.82 * 102, 8),
        ("R5 5600, DDR4 3200 dual channel", 0.88 * 2 * 8 * 3.2, 8),
        ("i7 6700k", 0.88 * 2 * 8 * 2.4, 4),
        ("EPYC 7642 4 channels", 41, 48),
        ("2x EPYC 9654", 1.5 * 340, 96),
        ("DDR5-6000", 0.72 * 2 * 8 * 6, 8),
        ("quad-channel 3200 MT/s", 0.88 * 4 * 8 * 3.2, 8),
    ],
)
def test_names_of_hosts(text: str, giga: float, cores: int) -> None:
    host = host_of(text)
    assert host is not None
    assert (host.read.value / GIGA, host.cores) == (pytest.approx(giga, rel=1e-3), cores)
    assert host.read.low <= host.read.value <= host.read.high


@pytest.mark.parametrize("text", ["", "PCIe4", "PCIe3 x16 (13.9 GB/s probe)", "a desktop", "0 GB/s"])
def test_texts_that_name_no_host(text: str) -> None:
    assert host_of(text) is None


def test_threads_may_stand_in_the_runtime() -> None:
    host = host_of("Ryzen 7950X", "llama.cpp, 6 threads")
    assert host is not None
    assert host.cores == 6


def test_a_host_that_is_not_named_has_a_wider_range() -> None:
    unnamed, own = usual_host(load_profile("rtx3090")), host_of(ROW["host"])
    assert own is not None
    assert unnamed.read.high / unnamed.read.low > own.read.high / own.read.low
    assert "names no CPU" in str(reproduce([ROW | {"host": ""}])[0]["reason"])


def test_a_row_that_leaves_no_expert_in_ram_is_a_resident_one() -> None:
    none, resident = (reproduce([ROW | {"policy": policy}])[0] for policy in ("n-cpu-moe 0", "resident"))
    assert none.pop("policy") != resident.pop("policy")
    assert none == resident


def test_faster_memory_and_fewer_layers_are_faster() -> None:
    assert rate(host="DDR4-2133") < rate(host="DDR4-3200") < rate(host="DDR5-6000")
    assert rate(policy="n-cpu-moe 48") < rate() < rate(policy="n-cpu-moe 0")


def test_a_named_host_comes_from_the_option() -> None:
    (row,) = reproduce([ROW], "desktop-ddr5-pcie5")
    assert row["tokens_per_second"] > rate()


def test_policies_with_a_cache_are_simulated_on_the_row_s_host() -> None:
    slow, fast = (rate(policy="lru-cpu", model="mixtral-8x7b", host=host) for host in ("DDR4-2133", "EPYC 9374F"))
    assert slow < fast


def test_every_card_has_a_profile_no_faster_than_its_data_sheet() -> None:
    for card in cards():
        profile: Any = card_profile(card["card"])
        assert 0.7 * float(card["memory"]) < profile["device.memory_bandwidth"] / GIGA < float(card["memory"])
        assert profile["device.vram"] == float(card["vram"]) * 2**30


def test_every_row_has_a_source_and_what_it_does_not_give_is_assumed() -> None:
    """A row of cards or of hosts' memory names a document, and which numbers are in it, or says that none was found."""
    columns = {"vram", "memory", "fp32", "generation"}, {"read", "speed", "channels", "cores"}
    hosts = csv.DictReader(TABLE.read_text().splitlines())
    for rows, known in zip((cards(), hosts), columns, strict=True):
        for row in rows:
            confirmed = set(row["confirmed"].split())
            assert row["source"] and confirmed <= known and bool(confirmed) == (row["source"] != "not confirmed"), row
    for card in cards():
        profile, confirmed = card_profile(card["card"]), card["confirmed"].split()
        assert (profile.quantities["device.vram"].source == "published") == ("vram" in confirmed)
        assert (profile.quantities["device.memory_bandwidth"].source == "published") == ("memory" in confirmed)


def test_lists_with_other_columns_are_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        "gpu,cpu,ram,link,model,quant,runtime,policy,context,decode_tps\n"
        "RTX 3090 24GB,Ryzen 7 5700X 8c t=8,DDR4-3000 2ch,PCIe4 x16 (26.7 GB/s probe),Qwen3-30B-A3B,Q4_K_M,llama.cpp,"
        "n-cpu-moe 24,d=0,65-66\n"
    )
    (row,) = reproduce(read_rows(file))
    assert (row["measured"], row["batch"]) == (65.5, "1")
    assert row["tokens_per_second"] == pytest.approx(rate())

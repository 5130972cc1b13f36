"""`specmoe simulate` from the outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from examples import in_turn
from test_results import PINNED, RUNNABLE, types_of
from typer.testing import CliRunner, Result

from specmoe import traces
from specmoe.cli import app
from specmoe.commands.options import parse_override
from specmoe.hwprofiles.catalogue import profile_names, shape_names, shape_of_model
from specmoe.results import RunResult
from specmoe.sim.claims import default_shape
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.run import Scenario
from specmoe.summary import BOUNDS, LINES, summary

TRACE = "switch-mini-128/decode/test"


def simulate(*arguments: str, trace: str = TRACE) -> Result:
    return CliRunner().invoke(app, ["simulate", trace, *arguments])


def answer(*arguments: str, trace: str = TRACE) -> Any:
    """The rows that --json prints; of one policy, its row."""
    result = simulate(*arguments, "--json", trace=trace)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert isinstance(rows, list)
    return rows[0] if len(rows) == 1 else rows


def complaint(*arguments: str, trace: str = TRACE) -> str:
    """The one line of an error, whose exit status is 1."""
    result = simulate(*arguments, trace=trace)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


LRU = ("--policy", "on-demand-lru", "--steps", "5", "--draws", "0")
SMALL = (*LRU, "--slots", "40")


# Drafted tokens


def test_certain_acceptance_makes_steps_of_whole_windows() -> None:
    plain, sure = (answer(*SMALL, *words) for words in ((), ("--verify", "3", "--assumed-acceptance", "1")))
    assert (plain["tokens"], sure["tokens"]) == (plain["steps"], 4 * sure["steps"])
    assert sure["tokens_per_second"] == pytest.approx(sure["tokens"] / (sure["latency_mean_ns"] * sure["steps"] / 1e9))
    assert sure["parameters"]["assumed_acceptance"] == [1.0]
    assert "acceptance of drafted tokens: 1" in sure["assumed"]


def test_rejected_tokens_cost_time_and_are_not_counted() -> None:
    plain, never = (answer(*SMALL, *words) for words in ((), ("--verify", "3", "--assumed-acceptance", "0")))
    assert never["tokens"] == never["steps"]
    assert never["demands"] > 2 * plain["demands"]
    assert never["tokens_per_second"] < plain["tokens_per_second"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--verify", "2"),
            "--assumed-acceptance missing: one number from 0 to 1 expected, or 2, one for each drafted",
        ),
        (("--verify", "2", "--assumed-acceptance", "0.5,0.5,0.5"), "--assumed-acceptance 0.5,0.5,0.5: one number from"),
        (("--verify", "2", "--assumed-acceptance", "1.5"), "--assumed-acceptance 1.5: one number from 0 to 1"),
        (("--verify", "2", "--assumed-acceptance", "nan"), "--assumed-acceptance nan: one number from 0 to 1"),
        (("--verify", "2", "--assumed-acceptance", "x"), "--assumed-acceptance x: numbers with commas expected"),
        (("--assumed-acceptance", "0.5"), "--verify 0: at least 1 expected"),
        (("--verify", "65", "--assumed-acceptance", "0.5"), "--verify 65: at most 64 expected"),
    ],
)
def test_wrong_drafts_are_refused(words: tuple[str, ...], message: str) -> None:
    assert message in complaint(*SMALL, *words)


def test_an_encoder_drafts_nothing() -> None:
    words = ("--verify", "2", "--assumed-acceptance", "0.5")
    assert "a trace of decode expected" in complaint(*SMALL, *words, trace="switch-mini-128/encode/test")


# Output


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    """What `--policy all` prints, by policy."""
    return {row["policy"]: row for row in answer("--policy", "all", "--steps", "50", "--slots", "40")}


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_policy(name: str, everything: dict[str, Any]) -> None:
    found = everything[name]
    assert types_of(found | {"set.a": 1.0}) == PINNED
    assert (found["policy"], found["trace"], found["phase"]) == (name, TRACE, "decode")
    assert (found["steps"] + found["warm_up_steps"], found["batch"]) == (50, 1)
    assert found["tokens"] == found["steps"]
    assert found["floor_ns"] <= found["latency_mean_ns"]
    assert "routing of switch-mini-128 timed with the shape of switch-base-128" in found["warnings"]


@pytest.mark.parametrize("profile", profile_names())
def test_every_profile(profile: str) -> None:
    found = answer(*SMALL, "--profile", profile)
    assert found["profile"] == profile
    assert found["evidence"] in ("fitted", "published", "extrapolated", "assumed")


SWITCH_8: dict[str, Any] = {"model": "google/switch-base-8", "num_layers": 6, "num_experts": 8, "top_k": 1}


def test_routing_is_timed_with_the_shape_of_its_own_model(make_trace: Callable[..., Path]) -> None:
    trace = str(make_trace(20, **SWITCH_8))
    one = ("--policy", "on-demand-lru", "--slots", "9")
    found = answer(*one, trace=trace)
    assert found["shape"] == "switch-base-8"
    assert not [warning for warning in found["warnings"] if "timed" in warning]
    assert answer(*one, "--shape", "switch-base-8", trace=trace) == found
    said = f"{trace} is timed with the shape switch-base-8 of its model, google/switch-base-8"
    assert said in " ".join(simulate(*one, trace=trace).stdout.split())
    assert said not in " ".join(simulate(*one, "--shape", "switch-base-8", trace=trace).stdout.split())
    other = answer(*one, "--shape", "switch-base-16", trace=trace)
    assert any("timed as switch-base-16" in warning for warning in other["warnings"])


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
        ("google/switch-base-128", "switch-base-128"),
        ("google/switch-base-8", "switch-base-8"),
        ("mistralai/Mixtral-8x7B-v0.1", "mixtral-8x7b"),
        ("openai/gpt-oss-20bis", None),
        ("switch-mini-128", None),
    ],
)
def test_the_shape_that_a_model_names(model: str, shape: str | None) -> None:
    assert shape_of_model(model) == shape


@pytest.mark.parametrize("shape", shape_names())
def test_every_shape(shape: str) -> None:
    found = answer(*SMALL, "--shape", shape)
    assert found["shape"] == shape
    assert any("switch-mini-128" in warning and shape in warning for warning in found["warnings"])


@pytest.mark.parametrize(("number", "shape"), list(enumerate(shape_names())))
def test_every_shape_and_every_machine(number: int, shape: str, make_trace: Callable[..., Path]) -> None:
    trace, routing = str(make_trace(4)), None
    for profile in in_turn(profile_names(), number):
        scenario = Scenario(RunConfig(trace, profile=profile, shape=shape, slots=8), routing=routing)
        routing = scenario.routing
        mean = summary(scenario.run("lookahead").result)["latency_mean_ns"]
        assert scenario.floor_ns(scenario.warm_up()) <= mean, profile


@pytest.mark.parametrize("held", ["fp32", "fp16", "bf16", "int8", "int4"])
@pytest.mark.parametrize("tier", ["host-pinned", "host-pageable", "nvme"])
@pytest.mark.parametrize("host_set", ["graph", "eager"])
def test_every_format_tier_and_host(held: str, tier: str, host_set: str, make_trace: Callable[..., Path]) -> None:
    found = answer(
        *("--policy", "lookahead", "--slots", "8", "--format", held, "--tier", tier, "--host-set", host_set),
        *("--draws", "0"),
        trace=str(make_trace(20)),
    )
    assert (found["format"], found["parameters"]["tier"], found["parameters"]["host_set"]) == (held, tier, host_set)
    assert max(found["floor_ns"], found["link_ns"]) <= found["latency_mean_ns"]


def test_compressed_slots_in_vram_take_memory_and_spare_the_link() -> None:
    arguments = ("--policy", "on-demand-lru", "--steps", "200", "--format", "fp16", "--home-format", "int4")
    plain, tiered = (answer(*arguments, "--slots", "20", "--compressed-slots", slots) for slots in ("0", "200"))
    assert tiered["bytes_loaded"] < plain["bytes_loaded"]
    assert tiered["latency_mean_ns"] < plain["latency_mean_ns"]
    assert tiered["vram_peak_bytes"] > plain["vram_peak_bytes"]
    assert [tiered[name] for name in ("hits", "demand_loads")] == [plain[name] for name in ("hits", "demand_loads")]
    for found in (plain, tiered):
        assert max(found["floor_ns"], found["link_ns"]) <= found["oracle_ns"] <= found["latency_mean_ns"]
        assert found["latency_mean_ns"] <= found["ceiling_ns"]


@pytest.mark.parametrize("link", ["fifo", "priority", "chunked"])
def test_every_link_order(link: str) -> None:
    found = answer("--policy", "prefetch-all", "--steps", "20", "--slots", "40", "--link", link)
    assert found["parameters"]["link"] == link


def test_one_policy_is_an_object_and_several_are_a_list() -> None:
    drawn = ("--policy", "on-demand-lru", "--steps", "5", "--slots", "40")
    assert isinstance(answer(*SMALL), dict)
    found = answer(*drawn, "--policy", "lookahead")
    assert [row["policy"] for row in found] == ["on-demand-lru", "lookahead"]
    assert found[0] | {"fastest_share": 1} == answer(*drawn), "alone, it is the fastest on each drawn machine"
    assert found == answer("--steps", "5", "--slots", "40", "--policy", "on-demand-lru,lookahead")


def test_all_policies_in_the_order_of_their_table_with_the_same_bounds(everything: dict[str, Any]) -> None:
    ran = [name for name, row in everything.items() if not row.get("error")]
    assert [name for name in ran if name in RUNNABLE] == RUNNABLE
    assert set(everything) == set(POLICIES)
    assert list(everything) == [*ran, *(name for name in POLICIES if name not in ran)]
    assert len({tuple(everything[name][bound] for bound in BOUNDS) for name in ran}) == 1


def test_of_all_policies_those_that_cannot_run_are_named_at_the_end(make_trace: Callable[..., Path]) -> None:
    trace, arguments = str(make_trace(has_lookahead=False)), ("--policy", "all", "--slots", "9")
    found = {row["policy"]: row for row in answer(*arguments, trace=trace)}
    assert set(found["lookahead"]) == {"policy", "error"}
    assert "0 recorded" in found["mixtral-offloading"]["error"]
    assert types_of(found["on-demand-lru"] | {"set.a": 1.0}) == PINNED
    shown = simulate(*arguments, trace=trace)
    assert shown.exit_code == 0
    last = [line for line in shown.stdout.splitlines() if line.startswith("not run: lookahead: ")]
    assert len(last) == 1


def test_if_no_policy_at_all_can_run_that_is_an_error() -> None:
    told = complaint("--policy", "all", "--steps", "2", "--slots", "9", "--tier", "nvme", "--link", "priority")
    assert "fifo expected" in told


def test_the_table_names_every_policy_the_bounds_and_the_warnings() -> None:
    result = simulate("--policy", "all", "--steps", "5", "--slots", "6", "--batch", "4")
    assert result.exit_code == 0
    for name in (
        *POLICIES,
        "foreseen",
        "wasted GB",
        "floor",
        "oracle",
        "ceiling",
        "event-atomic",
        " 6 slots",
        "warning: ",
        "its cliff",
    ):
        assert name in result.stdout


def test_encode() -> None:
    trace = "switch-mini-128/encode/test"
    found = answer("--policy", "pregated-lru", "--steps", "3", "--slots", "300", "--phase", "encode", trace=trace)
    assert found["phase"] == "encode"
    assert found["tokens"] > 100


def test_a_batch() -> None:
    found = answer(*SMALL, "--batch", "8")
    assert (found["batch"], found["tokens"]) == (8, 8 * found["steps"])
    assert found["demands"] <= 40 * 6


@pytest.mark.parametrize(("slots", "link"), [("1", "fifo"), ("3", "fifo"), ("3", "priority"), ("1", "chunked")])
def test_fewer_slots_than_a_layer_demands_are_served_in_waves(slots: str, link: str) -> None:
    names = [name for name in RUNNABLE if POLICIES[name].sharing != "per-layer"]
    chosen = [argument for name in names for argument in ("--policy", name)]
    rows = answer(*chosen, "--steps", "4", "--batch", "16", "--slots", slots, "--link", link, "--draws", "0")
    assert [row["policy"] for row in rows] == names
    for found in rows:
        assert found["floor_ns"] <= found["latency_mean_ns"]
        assert found["hits"] + found["misses"] == found["demands"]


def test_vram_makes_slots() -> None:
    few, many = (answer(*LRU, "--format", "fp16", "--vram", vram) for vram in ("2GiB", "16GiB"))
    assert few["slots"] < many["slots"]
    assert 0 <= few["free_bytes"] < few["expert_bytes"]
    assert sum(few[line] for line in LINES) == 2 * few["vram_bytes"] == 4 << 30
    assert many["slots"] == 6 * 128


def test_more_slots_than_experts_are_as_many_as_experts() -> None:
    assert answer(*LRU, "--slots", "100000") == answer(*LRU, "--slots", "768")


# Warnings


def warnings_of(*arguments: str, trace: str = TRACE) -> str:
    found: list[str] = answer(*arguments, trace=trace)["warnings"]
    return "\n".join(found)


def test_fewer_slots_than_a_step_demands() -> None:
    assert "5 slots are fewer than the 6 experts that one step uses" in warnings_of(*LRU, "--slots", "5")
    assert "up to 5 slots (its cliff)" in warnings_of(*LRU, "--slots", "5")
    assert "cliff" not in warnings_of(*LRU, "--slots", "6")
    assert "cliff" not in warnings_of("--policy", "gpu-only", "--steps", "5", "--slots", "5")


def test_the_cliff_is_where_the_warning_says() -> None:
    hits = [answer("--policy", "on-demand-lru", "--steps", "200", "--slots", str(slots))["hits"] for slots in (5, 6)]
    assert hits[0] == 0 < hits[1]


@pytest.mark.parametrize("kind", ["random", "synthetic"])
def test_traces_that_no_trained_model_made(kind: str, make_trace: Callable[..., Path]) -> None:
    assert f"is {kind}" in warnings_of(*LRU, "--slots", "8", trace=str(make_trace(kind=kind)))


def test_routing_timed_as_another_model(make_trace: Callable[..., Path]) -> None:
    found = warnings_of(*LRU, "--slots", "8", "--shape", "mixtral-8x7b", trace=str(make_trace(top_k=1)))
    assert "routing of tiny (3 layers of 16) timed as mixtral-8x7b (32 of 8)" in found
    assert "the trace uses 1 experts a token and layer, mixtral-8x7b 2" in found


def test_a_link_full_of_prefetches() -> None:
    assert "saturated by prefetches, 9" in warnings_of("--policy", "prefetch-all", "--steps", "20", "--slots", "200")
    assert "saturated" not in warnings_of("--policy", "on-demand", "--steps", "20", "--slots", "200")


def test_a_profile_beyond_its_points() -> None:
    assert "is outside the measured" in warnings_of(*SMALL, "--profile", "a100-sxm4-80gb", "--shape", "mixtral-8x7b")


def test_weights_that_do_not_fit() -> None:
    assert "GiB, but rtx3090 has only" in warnings_of(
        "--policy", "gpu-only", "--steps", "2", "--slots", "9", "--shape", "mixtral-8x7b"
    )


def test_popularity_of_the_trace_itself() -> None:
    train = "switch-mini-128/decode/train"
    assert "the very trace that is simulated" in warnings_of(*SMALL, trace=train)
    assert "the very trace" not in warnings_of(*SMALL)


# Predicting


def test_a_threshold_keeps_doubtful_guesses_back() -> None:
    arguments = ("--policy", "token-identity", "--steps", "100", "--slots", "100")
    plain, sure = (answer(*arguments, "--set", f"prefetch.threshold={least}") for least in (0, 0.5))
    assert 0 < sure["prefetch_loads"] < plain["prefetch_loads"]
    assert sure["precision"] > plain["precision"]


def test_predictions_are_kept_between_runs(tmp_path: Path) -> None:
    arguments = ("--policy", "transition", "--steps", "20", "--slots", "40", "--predictions", str(tmp_path / "p"))
    assert answer(*arguments) == answer(*arguments)
    (kept,) = (tmp_path / "p").iterdir()
    kept.write_text("no")
    assert f"{kept}: not a table of predictions" in complaint(*arguments)


def test_break_even_is_null_unless_asked_for() -> None:
    arguments = ("--policy", "lookahead", "--steps", "100", "--slots", "150", "--format", "fp16")
    assert answer(*arguments)["break_even_precision"] is None
    found = answer(*arguments, "--break-even")["break_even_precision"]
    assert 0.1 < found < 0.9
    shown = simulate(*arguments, "--break-even").stdout
    assert (
        f"prefetching one expert ahead is faster above {100 * found:.0f} % precision on this machine (rtx3090)" in shown
    )


def test_break_even_that_there_is_not_says_why() -> None:
    arguments = (*SMALL, "--break-even", "--set", "assumed_predict_ns=10000000")
    assert answer(*arguments)["break_even_precision"] is None
    assert "does not pay even with perfect guesses on this machine" in simulate(*arguments).stdout


def test_out_has_a_picture_of_the_break_even_if_asked_for(tmp_path: Path) -> None:
    arguments = ("--policy", "lookahead", "--steps", "20", "--slots", "150", "--break-even", "--out", str(tmp_path))
    assert simulate(*arguments).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"lookahead.parquet", "break_even.png"}
    assert (tmp_path / "break_even.png").read_bytes().startswith(b"\x89PNG")


# Overrides


def test_a_value_of_the_policy_is_changed_and_said() -> None:
    plain = answer("--policy", "lookahead", "--steps", "20", "--slots", "40")
    found = answer("--policy", "lookahead", "--steps", "20", "--slots", "40", "--set", "prefetch.limit=4")
    assert found["parameters"]["prefetch"]["limit"] == 4
    assert found["parameters"]["set"] == ["prefetch.limit=4"]
    assert found["prefetch_loads"] > plain["prefetch_loads"]
    assert [found[name] for name in BOUNDS] == [plain[name] for name in BOUNDS]


def test_a_value_of_the_profile_is_changed_assumed_and_said() -> None:
    plain, found = (answer(*SMALL, *extra) for extra in ([], ["--set", "host_to_device.pinned.bandwidth=1TB/s"]))
    assert found["latency_mean_ns"] < plain["latency_mean_ns"]
    assert found["parameters"]["set"] == ["host_to_device.pinned.bandwidth=1TB/s"]
    assert "host_to_device.pinned.bandwidth" in found["assumed"]
    assert [found[name] for name in ("hits", "demand_loads")] == [plain[name] for name in ("hits", "demand_loads")]


def test_parameters_of_an_eviction_are_changed_and_said() -> None:
    options = ("--policy", "on-demand-lru", *SMALL[2:], "--set", "eviction=lfu-decayed")
    short, long = (answer(*options, "--set", f"eviction.half_life={steps}") for steps in ("1", "100"))
    assert short["parameters"]["eviction_parameters"] == {"half_life": 1}
    assert short["parameters"]["set"] == ["eviction=lfu-decayed", "eviction.half_life=1"]
    assert long["parameters"]["eviction_parameters"] == {"half_life": 100}


def test_several_values_and_no_prefetch_at_all() -> None:
    found = answer("--policy", "lookahead", *SMALL[2:], "--set", "prefetch.limit=0", "--set", "keep=false")
    assert (found["prefetch_loads"], found["parameters"]["keep"]) == (0, False)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("prefetch.limt=2", "did you mean 'prefetch.limit'?"),
        ("host.graph.isue=2", "did you mean 'host.graph.issue'?"),
        ("eviction.half_lif=2", "did you mean 'eviction.half_life'?"),
        ("eviction.half_life=2", "eviction lru: no parameter 'half_life': it has none"),
        ("eviction.half_life=long", "a number, 0 or more expected"),
        ("eviction.half_life=-1", "a number, 0 or more expected"),
        ("evction=lru", "did you mean 'eviction'?"),
        ("eviction=lruu", "did you mean 'lru'?"),
        ("predictor=lokahead", "did you mean 'lookahead'?"),
        ("sharing=per-layers", "did you mean 'per-layer'?"),
        ("keep=1", "true or false expected"),
        ("prefetch.after_launch=1", "true or false expected"),
        ("assumed_predict_ns=-1", "a whole number, 0 or more expected"),
        ("assumed_predict=1", "did you mean 'assumed_predict_ns'?"),
        ("prefetch.limit=-1", "a whole number, 0 or more expected"),
        ("prefetch.limit=1.5", "a whole number, 0 or more expected"),
        ("prefetch.depth=two", "a whole number, 0 or more expected"),
        ("prefetch.backlog=inf", "a whole number, 0 or more expected"),
        ("prefetch.limit=true", "a whole number, 0 or more expected"),
        ("prefetch.threshold=2", "a number, 0 .. 1 expected"),
        ("prefetch.threshold=nan", "a number, 0 .. 1 expected"),
        ("prefetch.limit=" + "9" * 400, "at most 1,000,000,000,000 expected"),
        ("host.graph.issue=much", "a time such as 2.7us expected"),
        ("host.graph.issue=true", "a time such as 2.7us expected"),
        ("host.graph.issue=3", "host.graph.issue is in units of time: e.g. 2.7us"),
        ("host.graph.issue=-1us", "a finite number from 0ns to 100s expected"),
        ("device.vram=nan", "bytes such as 8GiB expected"),
        ("device.vram=4", "device.vram is in bytes: did you mean 4GiB?"),
        ("host_to_device.pinned.bandwidth=26.4", "host_to_device.pinned.bandwidth is in bytes/s: e.g. 26.2GB/s"),
        ("host_to_device.pinned.bandwidth=1e-300", "host_to_device.pinned.bandwidth is in bytes/s: e.g. 26.2GB/s"),
        ("host_to_device.pinned.bandwidth=1e-300GB/s", "a finite number from 1MB/s to 1000TB/s expected"),
        ("host_to_device.pinned.bandwidth=1e999GB/s", "a finite number from 1MB/s to 1000TB/s expected"),
        ("gemm.fp16.rate=5GB/s", "GB/s is no unit of gemm.fp16.rate, which is in operations/s: e.g. 5TFLOP/s"),
        ("link.generation=5", "it describes the link and changes no time: set host_to_device.pinned.bandwidth"),
        ("pcie=5", "or of profile rtx3090: the nearest of "),
        ("name=x", "no setting of a policy or of profile rtx3090"),
        ("prefetch.limit", "name=value expected"),
        ("=3", "name=value expected"),
    ],
)
def test_overrides_of_no_sense(override: str, told: str) -> None:
    assert told in complaint(*SMALL, "--set", override)


def test_values_of_overrides() -> None:
    pairs = {
        "1": 1,
        "-2": -2,
        "1.5": 1.5,
        "1e3": 1000.0,
        "true": True,
        "false": False,
        "lru": "lru",
        "": "",
        "a=b": "a=b",
    }
    for text, value in pairs.items():
        assert parse_override(f"x={text}") == ("x", value)
        assert type(parse_override(f"x={text}")[1]) is type(value)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--slots", "3", "--vram", "3GiB"], "either --slots or --vram expected, and not both"),
        (["--slots", "0"], "--slots 0: at least 1 expected"),
        (["--steps", "9" * 30], "at most 1,000,000,000 expected"),
        (["--batch", "1" + "0" * 400], "at most 1,000,000 expected"),
        (
            ["--policy", "all"],
            "--policy on-demand-lru,all: all is every policy: either all or names expected",
        ),
        (["--policy", ""], "--policy: a name expected, e.g. on-demand-lru, or all (every policy)"),
        (["--slots", "-3"], "--slots -3: at least 1 expected"),
        (["--vram", "much"], "such as 8GiB expected"),
        (["--vram", "1.2.3GiB"], "such as 8GiB expected"),
        (["--vram", "-1GiB"], "a finite number from 1B to"),
        (["--vram", "8XiB"], "XiB is no unit of VRAM, which is in bytes: e.g. 8GiB"),
        (["--vram", "."], "such as 8GiB expected"),
        (["--vram", "0"], "VRAM is in bytes: e.g. 8GiB"),
        (["--vram", "4"], "--vram 4: VRAM is in bytes: did you mean 4GiB?"),
        (["--vram", "8589934592"], "did you mean 8589934592B?"),
        (["--format", "FP16"], "did you mean 'fp16'?"),
        (["--vram", "100MB"], "leaves no expert slot in 0.09 GiB of VRAM: at least 1.66 GiB expected"),
        (["--vram", "2GiB", "--context", "99k"], "at most --context 5224 fits"),
        (["--context", "9.5"], "--context 9.5: a number of tokens such as 4096 or 32k expected"),
        (["--batch", "0"], "at least 1 expected"),
        (["--steps", "0"], "at least 1 expected"),
        (["--profile", "rtx3009"], "did you mean 'rtx3090'?"),
        (["--profile", "none.toml"], "No such file"),
        (["--shape", "switch-base-129"], "did you mean 'switch-base-128'?"),
        (["--format", "fp61"], "did you mean 'fp16'?"),
        (["--phase", "encode"], f"--phase encode: {TRACE} is a trace of decode"),
        (["--link", "lifo"], "did you mean 'fifo'?"),
        (["--tier", "tape"], "one of host-pageable, host-pinned, nvme expected"),
        (["--host-set", "idle"], "one of eager, graph expected"),
        (["--tier", "nvme", "--link", "priority"], "not simulated for experts on NVMe: fifo expected"),
        (["--compressed-slots", "3"], "together with --home-format"),
        (["--compressed-slots", "-1", "--home-format", "int4"], "--compressed-slots -1: at least 0 expected"),
        (["--home-format", "fp32", "--format", "int8"], "fp32 at home is copied as it is: --format fp32 expected"),
        (["--home-format", "int8", "--format", "bf16"], "int8 at home is expanded to fp16: --format fp16 expected"),
        (["--home-format", "int8", "--format", "int4"], "int8 at home is expanded to fp16: --format fp16 expected"),
        (["--home-format", "fp16", "--format", "fp32"], "fp16 at home is copied as it is: --format fp16 expected"),
        (["--batch", "100000"], "has only 240 sequences: at most 240 expected"),
        (["--home-format", "int3"], "did you mean 'int8'?"),
        (["--train", "switch-mini-128/decode/trian"], "did you mean 'switch-mini-128/decode/train'?"),
        (["--format", "bf16", "--home-format", "int8"], "int8 at home is expanded to fp16: --format fp16 expected"),
        (["--format", "int8", "--home-format", "fp32"], "fp32 at home is copied as it is: --format fp32 expected"),
        (["--train", "switch-mini-128/encode/train"], "phase encode: decode expected"),
    ],
)
def test_bad_options_are_one_line(arguments: list[str], told: str) -> None:
    assert told in complaint("--policy", "on-demand-lru", "--steps", "5", *arguments)


def test_an_unknown_policy_is_found_before_the_first_run(tmp_path: Path) -> None:
    told = complaint("--policy", "on-demand", "--policy", "on-demand-lur", "--steps", "2", "--out", str(tmp_path / "o"))
    assert "did you mean 'on-demand-lru'" in told
    assert not (tmp_path / "o").exists()


def test_an_unknown_trace() -> None:
    assert "did you mean 'switch-mini-128/decode/test'?" in complaint(*LRU, trace="switch-mini-128/decode/tset")


def test_a_file_that_is_no_trace(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("no")
    assert "not a whole Parquet file" in complaint(*LRU, trace=str(tmp_path / "t.parquet"))


def test_a_train_trace_of_another_shape(make_trace: Callable[..., Path]) -> None:
    one, other = make_trace(), make_trace(num_layers=4, name="other.parquet")
    assert "num_layers 4: 3 expected" in complaint(*LRU, "--slots", "9", "--train", str(other), trace=str(one))


def test_a_policy_that_the_trace_cannot_serve(make_trace: Callable[..., Path]) -> None:
    trace = str(make_trace(has_lookahead=False))
    assert "this trace has 0 recorded" in complaint("--policy", "lookahead", "--slots", "9", trace=trace)


def test_too_few_slots_for_a_pool_a_layer() -> None:
    assert "5 slots: at least 6 expected" in complaint("--policy", "mixtral-offloading", "--steps", "2", "--slots", "5")


@pytest.mark.parametrize("option", ["--out", "--timeline"])
def test_places_that_cannot_be_written(option: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in complaint(*SMALL, option, str(tmp_path / "file" / "below"))


def test_out_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "a directory expected" in complaint(*SMALL, "--out", str(tmp_path / "file"))


# Files


def test_out_has_a_result_for_each_policy(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    found = answer(*SMALL, "--policy", "lookahead", "--out", str(out))
    assert sorted(path.name for path in out.iterdir()) == ["lookahead.parquet", "on-demand-lru.parquet"]
    for row in found:
        loaded = summary(RunResult.load(out / f"{row['policy']}.parquet"))
        loaded |= {"fastest_share": row["fastest_share"]}  # of all policies
        assert json.loads(json.dumps(loaded)) == row


@pytest.mark.parametrize("link", [["--link", "fifo"], ["--link", "chunked"], ["--tier", "nvme"]])
def test_the_timeline_is_a_chrome_trace(link: list[str], tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    answer("--policy", "layer-minus-1", "--steps", "30", "--slots", "40", *link, "--timeline", str(path))
    events = json.loads(path.read_text())["traceEvents"]
    lanes = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(lanes.values()) == ["host", "compute", "copy", "disk", "cpu"]
    names: dict[str, list[str]] = {}
    for number, lane in lanes.items():
        slices = [event for event in events if event["ph"] == "X" and event["tid"] == number]
        spans = sorted((round(s["ts"] * 1000), round(s["ts"] * 1000) + round(s["dur"] * 1000)) for s in slices)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
        names[lane] = [event["name"] for event in slices]
    assert all(names[lane] for lane in ("host", "compute", "copy"))
    assert bool(names["disk"]) == ("nvme" in link)
    assert {name.split(" (")[1] for name in names["copy"]} == {
        "demand, useful)",
        "prefetch, useful)",
        "prefetch, wasted)",
    }


def test_the_timeline_is_of_the_fastest_that_copies(tmp_path: Path) -> None:
    path, policies = tmp_path / "t.json", "gpu-only,oracle,on-demand-lru,lookahead"
    command = ["simulate", TRACE, "--policy", policies, "--slots", "40", "--steps", "12", "--timeline", str(path)]
    told = CliRunner().invoke(app, command)
    assert f"timeline: {path}: on-demand-lru, the first 12 of 12 steps" in told.stdout
    told = CliRunner().invoke(app, [*command, "--timeline-policy", "lookahead", "--timeline-steps", "5"])
    assert f"timeline: {path}: lookahead, the first 5 of 12 steps" in told.stdout
    told = CliRunner().invoke(app, [*command[:2], "--policy", "gpu-only", *command[4:]])
    assert f"timeline: {path}: gpu-only, the first 12 of 12 steps" in told.stdout


def test_timeline_options_that_do_not_fit(tmp_path: Path) -> None:
    assert "--timeline-policy x: one of --policy expected" in complaint(*SMALL, "--timeline-policy", "x")
    assert "--timeline FILE expected" in complaint(*SMALL, "--timeline-steps", "3")


def test_what_a_priority_link_leaves_out_is_said() -> None:
    def warnings(*options: str) -> list[str]:
        run = ["simulate", TRACE, "--policy", "lookahead", "--slots", "154", "--steps", "20", "--format", "fp16"]
        done = CliRunner().invoke(app, [*run, "--profile", "h100-sxm5-80gb", "--json", *options])
        assert done.exit_code == 0, done.output
        return [line for line in json.loads(done.stdout)[0]["warnings"] if "beside a copy" in line]

    assert len(warnings("--link", "priority")) == 1
    assert warnings() == []


def test_routing_of_more_layers_than_the_usual_model_gets_the_smallest_model_alike() -> None:
    names = ("switch-mini-128/decode/test", "decoder-mini-64/decode/test")
    assert [default_shape(traces.open(name).meta) for name in names] == ["switch-base-128", "olmoe-1b-7b"]

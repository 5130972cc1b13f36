"""What predicting takes, and whom it keeps waiting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_routed import tiny_routed

from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES, Policy, Prefetch
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.predictor import Guess, Predictor, Routed, no_guess
from specmoe.sim.speculate.predictors import (
    FREE,
    ON_THE_DEVICE,
    PREDICTORS,
    RunningTime,
    measured_time,
    read_times,
    running_time,
    shipped_times,
)
from specmoe.sim.timing.durations import charge
from specmoe.summary import BOUNDS, summary

VALUE = '{{value = {}, unit = "us", source = "measured", ref = "here"}}'
ROUTED = tiny_routed(12, batch=3, num_layers=4, has_lookahead=True)


class Clockwork(Predictor):
    """Takes 100 ns a layer and 7 a token, it says."""

    def guess(self, routed: Routed) -> Guess:
        return no_guess(len(routed.workload.rows), routed.workload.meta.num_layers, 1)

    def event_seconds(self, routed: Routed) -> float:
        return (100 + 7 * len(routed.workload.rows) / routed.workload.num_steps) * 1e-9


def charged(predictor: str, depth: int = 1, **parameters: Any) -> Any:
    chosen = Policy("p", "", predictor, prefetch=Prefetch(depth=depth), predictor_parameters=parameters)
    return charge(chosen, ROUTED.workload, costs())


def costs() -> Costs:
    return Costs(load_profile("rtx3090"), load_shape("switch-base-128"), "fp16", most_tokens=3)


def test_measured_at_two_batch_sizes_is_a_fixed_time_and_one_a_token() -> None:
    one, many = tiny_routed(32), tiny_routed(32, batch=16, mean_length=1)
    assert measured_time(Clockwork(), one, many)[:2] == (100, 7)
    with pytest.raises(InputError, match="more than 1 expected"):
        measured_time(Clockwork(), one, one)


def test_every_predictor_costs_something_or_is_free_by_definition() -> None:
    learned = {name for name in PREDICTORS if name.startswith("learned-")}
    known = {name for name, _ in shipped_times()}
    assert set(PREDICTORS) - learned <= known | {*FREE, *ON_THE_DEVICE}
    for (name, _), time in shipped_times().items():
        assert 0 < time.ns(1) < 10_000_000, name
        assert "measured: " in time.ref
        assert not {name} & {*FREE, *ON_THE_DEVICE}


def test_by_hand_the_hosts_time_grows_with_the_tokens_of_a_step_and_the_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specmoe.sim.timing.durations.running_time", lambda *_: RunningTime(100, 7, "made up"))
    tokens = ROUTED.workload.step_tokens.tolist()
    for depth in (1, 2):
        found = charged("transition", depth)
        assert found.ns == [depth * (100 + 7 * count) for count in tokens for _ in range(4)]
        assert (found.on, found.ref, found.assumed) == ("host", "made up", None)


@pytest.mark.parametrize(("batch", "told"), [(16, None), (17, "with 17 tokens, extrapolated from 16")])
def test_more_tokens_than_were_measured_are_said_to_be_assumed(batch: int, told: str | None) -> None:
    workload = tiny_routed(40, batch=batch, mean_length=1, num_layers=4).workload
    chosen = Policy("p", "", "transition", prefetch=Prefetch())
    found = charge(chosen, workload, costs())
    assert found.ns and found.assumed == (told and f"predictor time of transition {told}")


def test_the_look_ahead_is_a_router_on_the_gpu_for_each_layer_that_there_is() -> None:
    for depth, routers in {1: [1, 1, 1, 0], 3: [3, 2, 1, 0]}.items():
        found = charged("lookahead", depth)
        tokens = ROUTED.workload.step_tokens.tolist()
        assert found.ns == [costs().router_ns(count) * number for count in tokens for number in routers]
        assert (found.on, found.assumed) == ("gpu", None)


@pytest.mark.parametrize("name", FREE)
def test_free_by_definition(name: str) -> None:
    found = charged(name)
    assert (found.ns, found.mean_ns, found.assumed) == ([], 0, None)


@pytest.mark.parametrize(("parameters", "on"), [({}, "host"), ({"device": "cuda"}, "gpu")])
def test_a_predictor_that_nobody_measured_is_said_to_be_assumed(parameters: dict[str, str], on: str) -> None:
    found = charged("a-plug-in", **parameters)
    assert (found.ns, found.on, found.assumed) == ([], on, "predictor time of a-plug-in: 0")


def test_a_checkpoint_knows_its_own_time(tmp_path: Path) -> None:
    told = {"running_time": {"cuda": {"fixed_ns": 50, "per_token_ns": 2}}}
    (tmp_path / "metrics.json").write_text(json.dumps(told))
    found = running_time("learned-x", {"checkpoint": str(tmp_path), "device": "cuda"})
    assert found is not None
    assert found[:2] == (50, 2)
    assert running_time("learned-x", {"checkpoint": str(tmp_path / "model.safetensors"), "device": "cuda"}) == found
    assert running_time("learned-x", {"checkpoint": str(tmp_path)}) is None  # nobody measured it on the host
    (tmp_path / "metrics.json").write_text("[]")
    assert running_time("learned-x", {"checkpoint": str(tmp_path), "device": "cuda"}) is None


def test_a_file_has_a_table_for_each_predictor_or_for_each_of_its_devices(tmp_path: Path) -> None:
    path, pair = tmp_path / "t.toml", f"fixed = {VALUE.format(2)}\nper_token = {VALUE.format(0.5)}\n"
    path.write_text(f"[a]\n{pair}[b.cpu]\n{pair}[b.cuda]\n{pair}")
    assert read_times(path) == {
        key: RunningTime(2000, 500, "measured: here") for key in (("a", "cpu"), ("b", "cpu"), ("b", "cuda"))
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a]\n", "a"),
        (f"[a]\nfixed = {VALUE.format(2)}\n", "per_token: missing"),
        (f"[a]\nfixed = {VALUE.format(-2)}\nper_token = {VALUE.format(1)}\n", "0 or more, expected"),
        (f"[a.cpu]\nfixed = {VALUE.format(2)}\n", "a.cpu.per_token: missing"),
        ("a = 3\n", "a table expected"),
        ("[a\n", "not a TOML file"),
    ],
)
def test_files_of_no_sense_are_one_line(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(text)
    if told == "a":
        assert read_times(tmp_path / "t.toml") == {}  # no device, no time
        return
    with pytest.raises(InputError, match=told) as caught:
        read_times(tmp_path / "t.toml")
    assert "\n" not in str(caught.value)


# In whole runs


SPEC = RunConfig("switch-mini-128/decode/test", slots=154, steps=60, format="fp16", warm_up=0)


def run(name: str, **overrides: Any) -> Any:
    return summary(Scenario(SPEC.having(overrides)).run(name).result)


def test_a_run_says_what_predicting_took_and_where() -> None:
    host, gpu, none = (run(name) for name in ("transition", "lookahead", "on-demand-lru"))
    time = shipped_times()["transition", "cpu"]
    assert host["predict_ns"] == time.ns(1)
    assert (host["parameters"]["predict_on"], host["parameters"]["predict_ref"]) == ("host", time.ref)
    assert gpu["parameters"]["predict_on"] == "gpu"
    assert gpu["predict_ns"] > 0 == none["predict_ns"]


def test_the_hosts_time_is_the_hosts_and_the_gpus_the_gpus() -> None:
    free, slow = (run("transition", assumed_predict_ns=ns) for ns in (0, 50_000))
    assert slow["host_ns"] - free["host_ns"] == 60 * 6 * 50_000
    assert slow["compute_ns"] == free["compute_ns"]
    free, slow = (run("lookahead", assumed_predict_ns=ns) for ns in (0, 50_000))
    assert slow["compute_ns"] - free["compute_ns"] == 60 * 6 * 50_000
    assert slow["host_ns"] == free["host_ns"]


@pytest.mark.parametrize("name", ["lookahead", "pregated-lru"])
@pytest.mark.parametrize("late", [False, True])
def test_a_slow_predictor_loses(name: str, late: bool) -> None:
    plain = run("on-demand-lru")["latency_mean_ns"]
    fast, slow = (run(name, assumed_predict_ns=ns, **{"prefetch.after_launch": late}) for ns in (0, 1_000_000))
    assert fast["latency_mean_ns"] < plain < slow["latency_mean_ns"]
    assert "assumed_predict_ns: 1000000" in slow["assumed"]
    assert fast["prefetch_loads"] == slow["prefetch_loads"]


def test_assumed_time_is_not_charged_to_who_does_not_predict() -> None:
    assert run("on-demand-lru", assumed_predict_ns=10**6)["latency_max_ns"] == run("on-demand-lru")["latency_max_ns"]


def test_bounds_hold_whatever_predictors_take() -> None:
    slow, free = run("transition", assumed_predict_ns=10**6), run("transition")
    assert [slow[name] for name in BOUNDS] == [free[name] for name in BOUNDS]


def test_a_plug_in_without_a_time_says_so_in_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PREDICTORS, "clockwork", Clockwork)
    monkeypatch.setitem(POLICIES, "clockwork", Policy("clockwork", "a test", "clockwork", prefetch=Prefetch()))
    assert "predictor time of clockwork: 0" in run("clockwork")["assumed"]


def test_the_noisy_oracle_says_what_it_assumes(make_trace: Callable[..., Path]) -> None:
    spec = RunConfig(str(make_trace(20)), slots=8, settings=(("predictor.assumed_precision", 0.25),))
    assert "assumed_precision: 0.25" in Scenario(spec).run("noisy-oracle").result.manifest.assumed

"""The Python API: the functions that the commands call, with DataFrames for results.

    import specmoe

    result = specmoe.simulate("switch-mini-128/decode/test", policy=["on-demand-lru", "lookahead"], vram="8GiB")
    result.table  # one row per policy, the fastest first
    result.steps  # one row per policy and step
    result.plot()  # matplotlib Axes

Each function raises `specmoe.errors.InputError`, with one line that says what would be right. Names of arguments are
those of the command's options, but for `machine` (`--profile`), `model` (`--shape`), `settings` (`--set`) and `scales`
(`--scale`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, overload

from specmoe.answers import Advice, Simulation, Summaries, Sweep
from specmoe.catalogues import evictions, hosts, misses, policies, predictors, profiles, shapes
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import machine_name
from specmoe.hwprofiles.kernels import style_of
from specmoe.sim.config import Home, RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.run import Run, Scenario, each_run
from specmoe.sim.sweep.retiming import Draws, require_drawable, usual_draws
from specmoe.summary import Row
from specmoe.traces.store import domains_in
from specmoe.units import quantity
from specmoe.vram import VramBudget, budget

__all__ = [
    "Advice",
    "Simulation",
    "Summaries",
    "Sweep",
    "VramBudget",
    "advise",
    "budget",
    "evictions",
    "hosts",
    "misses",
    "policies",
    "predictors",
    "profiles",
    "shapes",
    "simulate",
    "sweep",
]

Name = str | Path
Names = str | Sequence[str]
Size = int | str  # bytes, or text such as "8GiB"


@overload
def simulate(
    trace: Name, policy: Names = ..., *, summary_only: Literal[True], out: Name | None = ..., **choices: Any
) -> Summaries: ...


@overload
def simulate(trace: Name, policy: Names = ..., *, summary_only: Literal[False] = ..., **choices: Any) -> Simulation: ...


def simulate(
    trace: Name,
    policy: Names = "on-demand-lru",
    *,
    machine: Name = "rtx3090",
    host: Name | None = None,
    model: Name | None = None,
    vram: Size | None = None,
    slots: int | None = None,
    settings: Mapping[str, Any] | None = None,
    scales: Mapping[str, float] | None = None,
    predictions: Path | None = None,
    break_even: bool = False,
    on_policy: Callable[[str], object] | None = None,
    summary_only: bool = False,
    out: Name | None = None,
    **choices: Any,
) -> Simulation | Summaries:
    """Simulate policies on a recorded trace: how fast each is, and how far from the best possible.

    `trace` is a bundled trace's name or a trace file, `policy` one name, several, or "all". `machine` and `model` are
    shipped names (`specmoe.profiles()`, `specmoe.shapes()`) or TOML files; the default model is the trace's own where a
    shape of it is shipped. `host` is what the machine's device stands in (`specmoe.hosts()`; default: its usual one).
    `vram` is all of it ("8GiB"), `slots` are for experts alone; default: the whole device. `choices` are `cache_bytes`
    (of slots, instead of their number), `format`, `context`, `kv_format`, `assumed_reserve` (bytes), `threads`,
    `dense_format`, `style`, `batch`, `aligned`, `steps`, `warm_up`, `link`, `tier`, `home_format`, `compressed_slots`,
    `host_set`, `train`, `verify`, `assumed_acceptance` (one number, or one for each drafted token), `prefill` (the
    trace of the prefills), `source` and `train_source` (text domains, one or several, that run and are learnt from),
    `draws` (machines out of the machine's ranges that the same decisions are timed on; 0: none; default: 200 unless a
    number of the machine is set or scaled) and their `seed`.
    `table` and `rows` leave out the warm-up; `steps` has all steps. `on_policy` is called with each policy's name
    before it runs. With "all", policies that cannot run are left out and named in `failures`; a policy that was named
    and cannot run raises InputError.

    With `summary_only` a trace of any length is simulated part by part, in memory that its length does not change, and
    only the rows are kept, without bounds; with a directory `out`, a row for each step is written there as it goes.
    """
    names = list(POLICIES) if policy == "all" else [policy] if isinstance(policy, str) else list(policy)
    config = _config(trace, _machine(machine, host), model, vram, slots, settings, scales, choices)
    if out is not None and not summary_only:
        raise InputError("out: summary_only=True expected with it; a Simulation is saved by its method save")
    if config.draws and summary_only:
        raise InputError(f"draws {config.draws}: the whole run is needed: summary_only=False expected")
    if summary_only:
        return _summaries(config, names, policy == "all", on_policy, out)
    if "draws" not in choices:
        config = config.having(draws=usual_draws(config))
    scenario = Scenario(config, predictions, with_break_even=break_even)
    if choices.get("draws"):
        require_drawable(scenario)
    runs, failures = dict[str, Run](), dict[str, str]()
    for name, run, error in each_run(scenario, Draws().run, names, policy == "all", on_policy):
        if run is None:
            failures[name] = error
        else:
            runs[name] = run
    return Simulation(runs, failures, scenario)


def _summaries(
    config: RunConfig, names: list[str], lenient: bool, on_policy: Callable[[str], object] | None, out: Name | None
) -> Summaries:
    from specmoe.sim.long_run import long_runs

    rows, failures = list[Row](), dict[str, str]()
    for name, row, error in long_runs(config, names, lenient, on_policy, None if out is None else Path(out)):
        if row is None:
            failures[name] = error
        else:
            rows.append(row)
    return Summaries(rows, failures)


def sweep(
    trace: Names,
    policy: Names,
    *,
    out: Name | None = None,
    machine: Names = "rtx3090",
    host: Names | None = None,
    model: Names | None = None,
    settings: Mapping[str, Any] | None = None,
    scales: Mapping[str, Any] | None = None,
    workers: int = 1,
    **axes: Any,
) -> Sweep:
    """Simulate every combination of values, each given alone or as a list.

    `axes` are `slots`, `vram`, `context`, `kv_format`, `batch`, `format`, `dense_format`, `style`, `threads`, `link`,
    `tier`, `home_format`, `compressed_slots`, `host_set`, `source` and `train_source` (of several text domains
    "fiction,legal" is one value and a list has several), and one value each of `steps`, `warm_up`, `aligned` and
    `train`. `settings` and `scales` map dotted names to values; a range is written as on the command line:
    `settings={"host_to_device.pinned.bandwidth": "6GB/s..50GB/s:8log"}`. With `out`, the table is kept in that
    directory, and an interrupted sweep continues when it is run again.
    """
    from specmoe.sim.sweep.grid import cells_of
    from specmoe.sim.sweep.job import Asked, run_sweep
    from specmoe.sim.sweep.question import read_grid
    from specmoe.sim.sweep.workers import processes

    named = {"trace": trace, "policy": policy, "profile": machine, "host": host, "shape": model, **axes}
    table = {name.replace("_", "-"): value for name, value in named.items() if value is not None}
    table |= {name: dict(values) for name, values in (("set", settings), ("scale", scales)) if values}
    question = read_grid(table)
    asked = Asked(cells_of(question), question, "specmoe.sweep(...)")
    with TemporaryDirectory(prefix="specmoe-") as scratch:
        return Sweep(run_sweep(asked, Path(scratch if out is None else out), partial(processes, workers)).table)


def advise(
    model: Name,
    vram: Size,
    *,
    machine: Name = "rtx3090",
    host: Name | None = None,
    target: float | None = None,
    **choices: Any,
) -> Advice:
    """Search for the fastest configuration of a model on a machine, and for what would make it faster.

    `target` is a throughput to reach, tokens/s summed over all sequences. `choices` are `trace`, `train`, `source`,
    `train_source`, `batch`, `formats`, `home_formats`, `dense_format`, `style`, `steps`, `warm_up`, `context`,
    `kv_format`, `assumed_reserve` (bytes) and `threads`; without a `trace`, a bundled one is used, of the same model or
    of one with as many experts and the same top-k; else one is drawn.
    """
    from specmoe.sim.advise.advice import advise as search
    from specmoe.sim.advise.setting import Question

    if choices.get("style") is not None:
        choices["style"] = style_of(choices["style"])
    choices |= _domains(choices)
    return Advice(search(Question(str(model), _machine(machine, host), _bytes(vram), target=target, **choices)))


def _config(
    trace: Name,
    machine: str,
    model: Name | None,
    vram: Size | None,
    slots: int | None,
    settings: Mapping[str, Any] | None,
    scales: Mapping[str, float] | None,
    choices: dict[str, Any],
) -> RunConfig:
    """The configuration of `simulate`, without a policy; raises InputError for an unknown choice."""
    home = Home(*(choices.pop(name, usual) for name, usual in zip(HOME, Home(), strict=True)))
    known = {*CHOICES, *HOME, *DOMAINS}
    for name in choices:
        if name not in known:
            raise InputError(f"simulate has no argument {name!r}: one of {', '.join(sorted(known))} expected")
    if "aligned" in choices:
        choices["staggered"] = not choices.pop("aligned")
    if choices.get("style") is not None:
        choices["style"] = style_of(choices["style"])
    if choices.get("cache_bytes") is not None:
        choices["cache_bytes"] = _bytes(choices["cache_bytes"])
    if isinstance(choices.get("assumed_acceptance"), int | float):
        choices["assumed_acceptance"] = (choices["assumed_acceptance"],)
    choices |= _domains(choices)
    return RunConfig(
        str(trace),
        profile=machine,
        slots=slots,
        vram=None if vram is None else _bytes(vram),
        home=home,
        settings=tuple((settings or {}).items()),
        scales=tuple((scales or {}).items()),
        **choices | ({} if model is None else {"shape": str(model)}),
    )


CHOICES = (
    *("format", "batch", "aligned", "steps", "warm_up", "link", "train", "host_set", "style", "dense_format"),
    *("context", "kv_format", "assumed_reserve", "threads", "cache_bytes"),
    *("verify", "assumed_acceptance", "prefill", "draws", "seed"),
)
HOME = ("tier", "home_format", "compressed_slots")
DOMAINS = ("source", "train_source")


def _domains(choices: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Text domains, given as a list or with commas."""
    texts = {name: choices[name] for name in DOMAINS if name in choices}
    return {name: domains_in(text if isinstance(text, str) else ",".join(text)) for name, text in texts.items()}


def _machine(device: Name, host: Name | None) -> str:
    return machine_name(str(device), None if host is None else str(host))


def _bytes(size: Size) -> int:
    return size if isinstance(size, int) else int(quantity(f"vram {size!r}", "vram", size, "B"))

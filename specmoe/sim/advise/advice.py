"""The answer of `advise`: from a question to the best configuration and its levers, and their wording in five lines."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from specmoe import traces
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile, load_shape, shape_of_model
from specmoe.hwprofiles.expected_error import Expected, expected_error
from specmoe.sim.advise.levers import Judged, Lever, Reach, drawn_words, judged_of, levers, rate_with, reach, words_of
from specmoe.sim.advise.search import EVERYTHING, LEVEL, LLAMA_CPP, Found, Trial, Trials, chosen, search
from specmoe.sim.advise.setting import (
    FEWEST_SEQUENCES,
    Question,
    Setting,
    gib,
    routings_of,
)
from specmoe.sim.budget import fitting, words
from specmoe.sim.budget import lines as lines_of
from specmoe.sim.claims import LEARNED
from specmoe.sim.config import RunConfig
from specmoe.summary import Row
from specmoe.uncertainty import ends, fastest_on, first_to_measure, is_level, rates, routing_of, timed

PARTS = {"vram": "VRAM", "link": "the link", "memory": "host memory (DRAM)"}  # by the kind of a lever
LEVERS_NAMED = 2  # levers that the answer names
NAMED = 6  # assumed values that are named; of more, the number


@dataclass(frozen=True)
class Advice:
    """The answer: the best configuration, the expected error of its rate, levers, and how to reach the target if any.

    `extremes` are the rates between which the true rate is expected where the routing is not the model's own, and
    `judged` is what that was found to cost another model. `sequences` run in the
    steps that the answer rests on. `failures` say why policies could not be tried, by their names. `drawn` are rows of
    the contenders, the best first, with their spread over machines that fit what is known of this one.
    """

    setting: Setting
    found: Found
    expected: Expected
    levers: tuple[Lever, ...]
    reach: Reach | None
    extremes: tuple[float, ...]
    sequences: int
    runs: int
    failures: dict[str, str]
    drawn: tuple[Row, ...] = ()
    judged: Judged | None = None


def advise(question: Question, on_run: Callable[[int], None] = lambda runs: None) -> Advice:
    """Search for the best configuration and its levers; `on_run` is called with the number of finished configurations.

    Raises InputError for a wrong name or number, a trace of another model, and VRAM that is too small for one expert.
    """
    _check(question)
    with TemporaryDirectory(prefix="specmoe-") as directory:
        return _advised(question, Path(directory), on_run)


def _advised(question: Question, directory: Path, on_run: Callable[[int], None]) -> Advice:
    shape, profile = load_shape(question.shape), load_profile(question.profile)
    setting = Setting(question, shape, profile, routings_of(shape, question.trace, question.batch, directory))
    setting.require_domains()
    setting.require_homes()
    setting.require_room()
    trials = Trials(setting, directory, on_run)
    found = search(trials, setting)
    best, judged = found.best.config, judged_of(setting, found.best)
    return Advice(
        setting=setting,
        found=found,
        expected=_expected(setting, best),
        levers=tuple(levers(trials, setting, found)),
        reach=None if question.target is None else reach(trials, setting, found, question.target),
        extremes=_extremes(trials, setting, found.best, judged),
        sequences=trials.sequences(found.best),
        runs=trials.runs,
        failures=trials.failures,
        drawn=tuple(trials.drawn(found)),
        judged=judged,
    )


def _extremes(trials: Trials, setting: Setting, best: Trial, found: Judged | None) -> tuple[float, ...]:
    """Least and largest rate as routing may be; empty for the model's own, and where every expert is resident."""
    if found is None:
        return ()
    elsewhere = [trials.drawn_with(stickiness, best) for stickiness in setting.routings.extremes]
    rates = sorted([best.rate, *elsewhere, rate_with(best, found.ratio)])
    return (rates[0], rates[-1])


def _expected(setting: Setting, best: RunConfig) -> Expected:
    """Expected error of a configuration, in its style."""
    style, dense = best.style_for(best.policy == EVERYTHING), best.dense_format
    on_cpu = chosen(best).uses_cpu
    held = setting.held(best)
    return expected_error(setting.profile, setting.shape, held, style=style, dense_format=dense, on_cpu=on_cpu)


def _check(question: Question) -> None:
    for name, value in (("vram", question.vram), ("batch", question.batch), ("steps", question.steps)):
        if value is not None and value < 1:
            raise InputError(f"--{name} {value}: at least 1 expected")
    if question.warm_up is not None and question.warm_up < 0:
        raise InputError(f"--warm-up {question.warm_up}: at least 0 expected")
    if question.target is not None and question.target <= 0:
        raise InputError(f"--target {question.target:g}: more than 0 tokens/s expected")


def lines(advice: Advice) -> list[str]:
    """Five lines: what to run and why, how fast it is, the next levers, the target, and the evidence."""
    return [_best(advice), _predicted(advice), _next(advice), _target(advice), _evidence(advice)]


def described(one: RunConfig) -> str:
    """A configuration in words: policy, formats, slots, settings."""
    settings = "".join(f", {name}={value}" for name, value in one.settings)
    home = "" if one.home.format is None else f" ({one.home.format} at home)"
    return f"{one.policy} in {one.format}{home}, {one.slots} slots{settings}"


def rate(value: float) -> str:
    """Tokens per second with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _best(advice: Advice) -> str:
    best, setting = advice.found.best, advice.setting
    if best.config.policy == EVERYTHING:
        held = setting.held(best.config)
        whole, vram = gib(setting.whole_bytes(held)), gib(setting.budget(best.config))
        fits = f"the whole model in {held} takes {whole} of {vram} (gpu-only)"
        return f"Fits: nothing to offload: {fits}{_formats(advice)}."
    share = " (both stacks have as many slots for each layer)" if setting.shape.encoder else ""
    why = f"{_why(advice)}{_limits(advice)}{_in_llama_cpp(advice)}{_formats(advice)}"
    return f"Best{_of_routing(setting)}: {described(best.config)}{share}: {why}."


def _formats(advice: Advice) -> str:
    """The best of each other format that was a candidate; empty where there was one format."""
    asked = dict.fromkeys(advice.setting.formats)
    if len(asked) == 1:
        return ""
    of = {one.config.format: f"{rate(one.rate)} tokens/s ({one.config.policy})" for one in advice.found.formats}
    others = [*of, *(held for held in asked if held not in of)]
    others.remove(advice.found.best.config.format)
    best = "".join(f"; in {held} {of.get(held, 'no policy could be simulated')}" for held in others)
    return f"{best}; formats differ in quality, and nothing here measured it"


def _of_routing(setting: Setting) -> str:
    """What is said in the first line of routing that is not the model's own."""
    if setting.routings.drawn:
        return ", on drawn routing"
    return ", on another model's routing" if setting.routings.borrowed else ""


def limits(advice: Advice) -> list[str]:
    """Parts of the machine that limit the answer: those of which more or a faster one helps, by their gain."""
    gains = sorted((lever for lever in advice.levers if lever.kind in PARTS), key=lambda lever: -lever.gain)
    return list(dict.fromkeys(PARTS[lever.kind] for lever in gains))


def _limits(advice: Advice) -> str:
    first, *others = limits(advice) or ["the GPU itself"]
    return f"; {first} limits it most" + "".join(f", then {other}" for other in others)


def _in_llama_cpp(advice: Advice) -> str:
    """The flags of llama.cpp's fastest policy that was tried, and its rate; empty if none was, or for an encoder."""
    if advice.setting.shape.encoder:
        return ""
    trial = next((one for one in advice.found.ranking if one.config.policy in LLAMA_CPP), None)
    return f"; in llama.cpp {flags(advice.setting, trial.config)}: {rate(trial.rate)} tokens/s" if trial else ""


def flags(setting: Setting, one: RunConfig) -> str:
    """Flags of llama.cpp for a policy that it has."""
    if one.policy == "cpu-experts":
        return "-ngl 99 --cpu-moe"
    decoder, experts = setting.shape.decoder, setting.shape.experts
    in_ram = decoder.moe_layers - (one.slots or 0) // experts.number
    layers = range(decoder.first_moe, decoder.layers, decoder.moe_every)
    return f"-ngl 99 --n-cpu-moe {layers[in_ram - 1] + 1 if in_ram else 0}"


def _why(advice: Advice) -> str:
    """Hit rate and stall of the best configuration, and its lead over the next policy."""
    best, ranking = advice.found.best, advice.found.ranking
    hits = f"{best.row['hit_rate']:.0%} hits, {best.stall_ms / best.step_ms:.0%} of a step waits for loads"
    if chosen(best.config).uses_cpu:
        hits += f" and {best.cpu_stall_ms / best.step_ms:.0%} for the CPU"
    others = (trial for trial in ranking if trial.config.policy != best.config.policy)
    second = next(others, None)
    return hits if second is None else f"{hits}; {_beside(best, second)}"


def _beside(best: Trial, second: Trial) -> str:
    name, gain = second.config.policy, best.rate / second.rate - 1
    if gain <= LEVEL or is_level(timed(best.row), timed(second.row)):
        return f"level with {name}, the next"
    return f"{gain:.0%} faster than {name}, the next"


def _predicted(advice: Advice) -> str:
    best, expected = advice.found.best, advice.expected
    low, high = expected.rates(best.rate)
    least = "" if expected.validated else "or worse "
    own = "the timing model's own error " if advice.drawn else "timing " if advice.extremes else ""
    band = f"{own}±{expected.error:.1%} {least}({rate(low)} .. {rate(high)}: {expected.basis})"
    head = f"Predicted: {rate(best.rate)} tokens/s, {best.step_ms:.3g} ms a step of batch {best.config.batch}"
    if advice.extremes:
        ends = f"{rate(advice.extremes[0])} .. {rate(advice.extremes[-1])}"
        return f"{head}; {ends} as routing may be, {band}{_unknown(advice)}."
    return f"{head}; {band}{_unknown(advice)}."


def _unknown(advice: Advice) -> str:
    """What is unknown of the machine: who is fastest on how many, how far the best varies, what to measure first."""
    if not advice.drawn:
        return ""
    best = advice.drawn[0]
    apart = f"apart from that, what is unknown of {best['profile']} changes a step by {ends(best)}"
    parts = (apart, fastest_on(advice.drawn), f"{best['policy']}: {rates(best)}", first_to_measure(best))
    return "".join(f"; {part}" for part in parts if part)


def _next(advice: Advice) -> str:
    if not advice.levers:
        return "Next: nothing that was tried gives more than a percent."
    return f"Next: {'; '.join(map(_lever, _named(advice)))}."


def _named(advice: Advice) -> list[Lever]:
    """The first levers, and where the CPU computes experts all of the machine."""
    first, others = advice.levers[:LEVERS_NAMED], advice.levers[LEVERS_NAMED:]
    on_cpu = chosen(advice.found.best.config).uses_cpu
    return [*first, *(lever for lever in others if on_cpu and lever.kind in ("vram", "link", "memory"))]


def _lever(lever: Lever) -> str:
    return f"{lever.what}: {rate(lever.rate)} tokens/s ({', '.join(_parts(f'{lever.gain:+.0%}', lever.caveat))})"


def _target(advice: Advice) -> str:
    reached = advice.reach
    if reached is None:
        ceiling = rate(advice.found.best.rate_at("floor_ns"))
        return f"Target: none given (e.g. --target 20tok/s); with every expert in VRAM it would be {ceiling} tokens/s."
    target = f"Target: {rate(reached.target)} tokens/s"
    if reached.reached:
        low, _ = advice.expected.rates(advice.found.best.rate)
        sure = "" if low >= reached.target else ", but not at the low end of the error"
        return f"{target} is reached, with {advice.found.best.rate / reached.target - 1:.0%} to spare{sure}."
    if reached.ways:
        missed = f"{target} is missed by {1 - advice.found.best.rate / reached.target:.0%}"
        return f"{missed}; reached with {', or '.join(map(_way, reached.ways))}."
    return f"{target}: nothing that was tried reaches it. {_limit(reached)}"


def _way(lever: Lever) -> str:
    return f"{lever.what} ({', '.join(_parts(f'{rate(lever.rate)} tokens/s', lever.caveat))})"


def _parts(*parts: str) -> list[str]:
    return [part for part in parts if part]


def _limit(reached: Reach) -> str:
    beyond = f"With every expert in VRAM it is {rate(reached.ceiling)} at this batch and format"
    if reached.most is None:
        return f"{beyond}."
    return f"{beyond}; the most was with {_way(reached.most)}."


def _evidence(advice: Advice) -> str:
    row, setting = advice.found.best.row, advice.setting
    policies = f"{_count(len(advice.found.ranking), 'policy', 'policies')} in {', '.join(setting.formats)}"
    names = row["assumed"]
    assumed = ", ".join(names) or "nothing" if len(names) <= NAMED else _count(len(names), "value", "values")
    return (
        f"Evidence: {row['evidence']} for {row['profile']} (assumed: {assumed}); "
        f"routing: {_routing(advice)}; {row['semantics']}, {_steps(advice)}; {_budget(setting, advice.found.best)}; "
        f"searched: {policies}, {advice.runs} configurations{_left_out(advice)}{_warned(row)}."
    )


def _budget(setting: Setting, best: Trial) -> str:
    """The lines of the budget."""
    vram, batch = setting.budget(best.config), best.config.batch
    room, ask = setting.room(setting.held(best.config)), setting.ask(vram, batch)
    return words(lines_of(room, ask, min(fitting(room, ask), setting.shape.routed_experts)), ask)


def _steps(advice: Advice) -> str:
    """The steps and sequences that the answer rests on, and whether these are few or not those that were asked for."""
    row, asked = advice.found.best.row, advice.setting.question.steps
    fewest = advice.setting.fewest(advice.found.best.config.batch)
    after = f" after {row['warm_up_steps']} of warm-up" if row["warm_up_steps"] else ""
    rests = f"{_count(row['steps'], 'step', 'steps')} of {_count(advice.sequences, 'sequence', 'sequences')}{after}"
    if asked is not None and asked < fewest:
        rests = f"{rests} (--steps {asked} raised to {fewest})"
    if row["steps"] < fewest or advice.sequences < FEWEST_SEQUENCES:
        least = f"{fewest} steps of {FEWEST_SEQUENCES} sequences"
        return f"{rests}: fewer than the {least} that an answer should rest on"
    return rests


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _routing(advice: Advice) -> str:
    setting = advice.setting
    if setting.routings.drawn:
        return f"{drawn_words(setting)}{words_of(advice.judged, 'a drawn one')}"
    trace = setting.question.trace or setting.routings.trace
    own = "; ".join(filter(None, (f"{trace} ({routing_of(advice.found.best.row)})", setting.routings.borrowed)))
    return f"{own}{words_of(advice.judged, 'this one')}"


def _left_out(advice: Advice) -> str:
    on_cpu = [] if "cpu.threads" in advice.setting.profile else ["any on the CPU (not measured)"]
    names = [f"{LEARNED} ones", *on_cpu, *advice.failures]
    return f", not tried: {', '.join(names)}"


def _warned(row: Row) -> str:
    worded = ("routing is synthetic", "routing of none")  # the line about routing says so already
    return "".join(f"; {warning}" for warning in row["warnings"] if not warning.startswith(worded))


def shape_of(trace: str | None) -> str:
    """The shape of a trace's own model; raises InputError if there is none."""
    name = None if trace is None else shape_of_model(traces.open(trace).meta.model)
    if name is None:
        raise InputError("--model expected, a shape by name or a .toml file, or --trace of a model whose shape ships")
    return name

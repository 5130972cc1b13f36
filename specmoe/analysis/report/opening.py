"""The first screen of a page: warnings, which policy is fastest, its distance from the bounds, next steps."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from specmoe.analysis.answer import PREDICTOR, Answer, Lever, SettingAnswer
from specmoe.analysis.figures.setting import NO_POLICY, ms, percent, settings_of
from specmoe.analysis.point import Point, bounds_of, ranked, three_digits, winner
from specmoe.analysis.report.html import Html, breakable, join, tag
from specmoe.analysis.report.inputs import Inputs, Study
from specmoe.sweep_table import SweepTable
from specmoe.uncertainty import ends, machines_of

MADE_UP = {
    "random": "the trace's model was never trained, so nothing follows for real routing",
    "synthetic": "no model produced the trace, so nothing follows for real routing",
}
MISSED = "missed its target"  # in a warning: what a profile says of its calibration
NAMED = 3  # items of a list that are named; the others are counted


class Note(NamedTuple):
    """What is wrong in a few words, and what that means."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}."


def notes_of(inputs: Inputs) -> list[Note]:
    """The heaviest first."""
    studies = inputs.studies
    found = (_routing(inputs), _calibrations(studies), _validations(inputs), _assumed(studies), _failures(studies))
    return [note for notes in found for note in notes]


def marked(notes: Sequence[Note]) -> Html | None:
    """As a list; None of nothing."""
    lines = (tag("li", tag("strong", note.what), f": {note.why}.") for note in notes)
    return tag("ul", *lines, class_="notes", aria_label="Before you rely on this") if notes else None


def distinct(studies: Sequence[Study], column: str) -> list[Any]:
    """Values of a column in all rows with figures, sorted; those of lists one by one."""
    values = (value for study in studies for value in study.table.good[column])
    return sorted({each for value in values for each in ([value] if isinstance(value, str) else value)})


def listed(names: Sequence[str]) -> str:
    """The first few of them."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _routing(inputs: Inputs) -> Iterator[Note]:
    analysed = [analysis.facts["trace"]["kind"] for analysis in inputs.analyses]
    for kind in sorted({*distinct(inputs.studies, "trace_kind"), *analysed}):
        if kind in MADE_UP:
            yield Note(f"{kind.capitalize()} routing", MADE_UP[kind])


def _calibrations(studies: Sequence[Study]) -> Iterator[Note]:
    for warning in distinct(studies, "warnings"):
        if MISSED in warning:
            yield Note("Failed calibration", warning)


def _validations(inputs: Inputs) -> Iterator[Note]:
    failed = [each.name for each in inputs.validations if each.verdict.failed]
    if failed:
        yield Note("Failed validation", f"{listed(failed)} missed a target (see Validation)")
    version = inputs.studies[0].version if inputs.studies else None
    others = [
        each.name for each in inputs.validations if version not in (None, each.circumstances.versions.get("specmoe"))
    ]
    if others:
        yield Note("Validation of another version", f"{listed(others)}, while the results are of specmoe {version}")


def _assumed(studies: Sequence[Study]) -> Iterator[Note]:
    """Those results only that rest on nothing better."""
    weak = [study for study in studies if "assumed" in distinct([study], "evidence")]
    if weak:
        names = distinct(weak, "assumed")
        yield Note(
            "Assumed, not measured",
            f"results depend on these values: {listed(names) or 'see the evidence'}",
        )


def _failures(studies: Sequence[Study]) -> Iterator[Note]:
    for study in studies:
        failed, cells = len(study.table.rows) - len(study.table.good), len(study.table.rows)
        if failed:
            yield Note("Failed cells", f"{failed} of {cells} in {study.name}; its table says why")


RIVALS = 4  # policies beside the best that are shown
BOUNDS = {"floor": "floor: all experts resident", "oracle": "oracle: perfect knowledge"}
LEVERS = {  # what a lever of the answer is: a thing to buy, or something else
    "slots": ("Choose next", "less VRAM"),
    "link": ("Buy next", "a faster link"),
    "format": ("Choose next", "a smaller format"),
    PREDICTOR: ("What could help", "better predictions"),
}
Fact = tuple[str, str, str]  # a label, a value, a remark


class Opening(NamedTuple):
    """The page's title in plain words, and what stands above everything else."""

    title: str
    body: Html


def opening(inputs: Inputs, answers: Sequence[Answer]) -> Opening:
    """Of the first study, whose answer is the first; of a validation, an analysis or timelines where there is none."""
    if answers:
        return _of_study(inputs.studies[0].table, answers[0])
    if inputs.validations:
        worst = max(each.worst for each in inputs.validations)
        return _plain(f"Simulated mean steps are within {percent(worst)} of measured ones")
    if inputs.analyses:
        return _plain(f"How the experts of {inputs.analyses[0].facts['trace']['model']} are used")
    return _plain("Timelines")


def _plain(title: str, *more: Html) -> Opening:
    return Opening(title, join([tag("h1", title), *more]))


def _of_study(table: SweepTable, answer: Answer) -> Opening:
    """Of its first setting with a policy that could be built; of several, each has its headline."""
    if not answer.settings:
        return _plain(NO_POLICY.removesuffix("."))
    first, several = answer.settings[0], len(answer.settings)
    slices = ((setting, [cell.point for cell in setting.along()]) for setting in settings_of(table))
    setting, points = next((setting, points) for setting, points in slices if winner(points) is not None)
    order = [point for point in ranked(points) if not point.yardstick]
    title, *others = [_headline(each, several > 1) for each in answer.settings]
    heading = join([tag("h1", title), *(tag("p", tag("strong", other), class_="lead") for other in others)])
    verdict = tag("p", f"{first.headline}.", class_="lead") if first.fits else None
    crossover = tag("p", first.crossover, class_="lead") if first.crossover else None
    where = tag("p", _where(order[0], several, bool(setting.varying)), class_="lead")
    shown = (heading, verdict, crossover, where, _facts(first, order[0]), _bars(order, bounds_of(points)))
    return Opening("; ".join([title, *others][:NAMED]), join([part for part in shown if part is not None]))


def _headline(setting: SettingAnswer, named: bool) -> str:
    """What is said first of a setting; `named` where there are others."""
    text = "Fits: nothing to offload" if setting.fits else setting.headline
    return f"{setting.where}: {text}" if named else text


def _where(best: Point, several: int, varied: bool) -> str:
    """What the answer holds for; `varied` if there are other values of what it names."""
    it = best.about
    changed = "".join(f", {change}" for change in it.changed)
    more = " Other values of what was varied are below." if varied else ""
    more += f" The first of {several} settings; the others are below." if several > 1 else ""
    return (
        f"{it.shape} in {it.format} on {it.profile}{changed}; {it.phase} of batch {it.batch} with {it.slots} slots "
        f"({three_digits(best.vram_gib)} GiB of experts); routing: {it.trace} ({it.trace_kind}).{more}"
    )


def _facts(answer: SettingAnswer, best: Point) -> Html:
    """The answer in numbers, each with a remark."""
    facts: list[Fact] = [("A step takes", ms(answer.latency_ns), f"one in a hundred {ms(best.tail.p99)} or more")]
    if answer.level:
        facts.append(("Level with", listed(answer.level), "not told apart by the expected error or the noise"))
    if answer.band:
        error, _, basis = answer.band.partition(": ")
        own = "the timing model's own; " if answer.drawn else ""
        facts.append(("Expected error", error, f"{own}{basis}"))
    if answer.drawn:
        won = f"fastest on {percent(answer.drawn['fastest_share'])} of {machines_of(answer.drawn)}"
        facts.append(("Unknown of the machine", f"{ends(answer.drawn)} of a step", f"on 90 % of the machines; {won}"))
    if answer.ahead is not None:
        facts.append(("Ahead of the next by", percent(answer.ahead), f"of the time that {answer.runner_up} takes"))
    if not math.isnan(answer.of_oracle):
        ratio = f"{three_digits(answer.of_oracle)} \N{MULTIPLICATION SIGN} the oracle"
        best_ns = answer.latency_ns / answer.of_oracle
        facts.append(("Beside perfect knowledge", ratio, f"which takes {ms(best_ns)} in the same slots"))
    facts += [_advice(lever) for lever in _helpful(answer.levers)[:1]]
    return tag(
        "dl", *(tag("div", tag("dt", a), tag("dd", b), tag("dd", breakable(c))) for a, b, c in facts), class_="facts"
    )


def _helpful(levers: Sequence[Lever]) -> list[Lever]:
    """Those that save time, what nobody sells last."""
    return sorted((lever for lever in levers if lever.gain > 0), key=lambda lever: lever.name == PREDICTOR)


def _advice(lever: Lever) -> Fact:
    """What to change; the sentence says `what: how the time changes`, of predictions in one."""
    label, value = LEVERS[lever.name]
    what, told, _ = lever.sentence.partition(": ")
    gain = f": {percent(lever.gain)} less time a step" if told else ""
    return label, value, what.removeprefix(f"{value} (").removesuffix(")" if what.startswith(value) else "") + gain


def _bars(order: Sequence[Point], bounds: dict[str, float]) -> Html:
    """The fastest policies, with what bounds them; slower ones are only counted."""
    shown, best = order[: RIVALS + 1], order[0]
    longest = max(point.latency_ns for point in shown)
    known = [(text, bounds[name]) for name, text in BOUNDS.items() if not math.isnan(bounds[name])]
    rows = [_bar(text, value, longest, "bound") for text, value in known]
    rows += [_bar(each.about.policy, each.latency_ns, longest, "best" if each is best else None) for each in shown]
    left = len(order) - len(shown)
    more = f"; {left} slower {'policy is' if left == 1 else 'policies are'} left out" if left else ""
    return tag("table", tag("caption", f"Mean time of a step{more}."), tag("tbody", *rows), class_="bars")


def _bar(name: str, value: float, longest: float, look: str | None) -> Html:
    bar = tag("span", style=f"width:{min(100, 100 * value / longest):.1f}%")
    drawn, told = tag("td", bar, class_="bar", aria_hidden="true"), tag("td", ms(value), class_="number")
    return tag("tr", tag("th", name, scope="row"), drawn, told, class_=look)

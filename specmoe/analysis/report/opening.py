"""The first screen: which policy, how fast, how far from the best possible, and what to change next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from specmoe.analysis.answer import Answer, SettingAnswer
from specmoe.analysis.comparison import bounds_of, ranked, three_digits, winner
from specmoe.analysis.figures.setting import settings_of
from specmoe.analysis.figures.words import ms, percent
from specmoe.analysis.levers import PREDICTOR, Lever
from specmoe.analysis.point import Point
from specmoe.analysis.report.inputs import Inputs
from specmoe.analysis.report.markup import Html, breakable, join, tag
from specmoe.sweep_table import SweepTable

RIVALS = 4  # policies beside the best that are shown
BOUNDS = {"floor": "floor: all experts resident", "oracle": "oracle: perfect knowledge"}
LEVERS = {  # what a lever of the answer is: a thing to buy, or something else
    "slots": ("Buy next", "more VRAM"),
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
    """Of its first setting with a policy that could be built."""
    if not answer.settings:
        return _plain("There are yardsticks only: no policy that could be built")
    first, several = answer.settings[0], len(answer.settings)
    slices = ((setting, [cell.point for cell in setting.along()]) for setting in settings_of(table))
    setting, points = next((setting, points) for setting, points in slices if winner(points) is not None)
    order = [point for point in ranked(points) if not point.yardstick]
    said = f" is fastest: {three_digits(first.tokens_per_second)} tokens/s"
    heading = tag("h1", tag("span", first.policy, class_="accent"), said)
    where = tag("p", _where(order[0], several, bool(setting.varying)), class_="lead")
    return Opening(
        first.policy + said, join([heading, where, _facts(first, order[0]), _bars(order, bounds_of(points))])
    )


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

"""From a question to an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from specmoe.errors import InputError
from specmoe.hwprofiles.accuracy import Expected, expected_error
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.sim.advise.levers import Lever, levers
from specmoe.sim.advise.question import Question
from specmoe.sim.advise.routings import routings_of
from specmoe.sim.advise.setting import Setting
from specmoe.sim.advise.space import Found, search
from specmoe.sim.advise.target import Reach, reach
from specmoe.sim.advise.trials import Trials


@dataclass(frozen=True)
class Advice:
    """What was found: the best configuration, the error to expect of its rate, levers, and the target if there is one.

    `extremes` are the rates between which the truth is expected where the routing is drawn; `failures` say why policies
    could not be tried.
    """

    setting: Setting
    found: Found
    expected: Expected
    levers: tuple[Lever, ...]
    reach: Reach | None
    extremes: tuple[float, ...]
    runs: int
    failures: dict[str, str]


def advise(question: Question, on_run: Callable[[int], None] = lambda runs: None) -> Advice:
    """Search, and see what would change the answer; `on_run` is told how many configurations are done.

    Raises InputError for a wrong name or number, a trace of another model, and VRAM in which no expert fits.
    """
    _check(question)
    with TemporaryDirectory(prefix="specmoe-") as directory:
        return _advised(question, Path(directory), on_run)


def _advised(question: Question, directory: Path, on_run: Callable[[int], None]) -> Advice:
    shape, profile = load_shape(question.shape), load_profile(question.profile)
    setting = Setting(question, shape, profile, routings_of(shape, question.trace, question.batch, directory))
    setting.require_room()
    trials = Trials(setting, directory, on_run)
    found = search(trials, setting)
    best = found.best.configuration
    return Advice(
        setting=setting,
        found=found,
        expected=expected_error(profile, shape, best.format),
        levers=tuple(levers(trials, setting, found)),
        reach=None if question.target is None else reach(trials, setting, found, question.target),
        extremes=tuple(sorted(trials.elsewhere(trace, best) for trace in setting.routings.extremes)),
        runs=trials.runs,
        failures=trials.failures,
    )


def _check(question: Question) -> None:
    for name, value in (("vram", question.vram), ("batch", question.batch), ("steps", question.steps)):
        if value is not None and value < 1:
            raise InputError(f"--{name} {value}: at least 1 expected")
    if question.target is not None and question.target <= 0:
        raise InputError(f"--target {question.target:g}: more than 0 tokens a second expected")

"""Which examples hypothesis tries: HYPOTHESIS_PROFILE=ci (default) or fuzz.

`ci` tries the same examples in every run, `fuzz` ten times as many, new ones in every run.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings

PROFILES = {"ci": 1, "fuzz": 10}  # how many times the examples of a test
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")


def examples(number: int, *allowed: HealthCheck) -> settings:
    """The settings of a test with that number of examples; a slow machine is no defect."""
    return settings(max_examples=number * PROFILES[PROFILE], suppress_health_check=[HealthCheck.too_slow, *allowed])


def in_turn(names: Sequence[str], number: int) -> Sequence[str]:
    """Every third name, beginning with one that depends on the number; all names where new examples are asked for."""
    return names if PROFILE == "fuzz" else names[number % 3 :: 3]


def load_profile() -> None:
    """Make the chosen profile that of every test that is collected from now on."""
    settings.register_profile("ci", examples(100), deadline=None, database=None, derandomize=True)
    settings.register_profile("fuzz", examples(100), deadline=None, derandomize=False)
    settings.load_profile(PROFILE)


def for_each(names: Iterable[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A property of each name, its first argument, on the same examples; a failure says of which.

    Examples are drawn once for all shipped names, which takes longer than most properties do. A plug-in's name has a
    test of its own, so that `pytest -k NAME` finds it.
    """
    from specmoe.sim.decide.evictions import EVICTIONS

    known = list(names)
    plugged = [name for name in known if name in EVICTIONS and not EVICTIONS[name].__module__.startswith("specmoe.")]
    groups = {"shipped": [name for name in known if name not in plugged]} | {name: [name] for name in plugged}

    def of(check: Callable[..., None]) -> Callable[..., None]:
        @wraps(check)
        def of_all(group: str, *drawn: Any, **named: Any) -> None:
            for name in groups[group]:
                note(f"of {name}")
                check(name, *drawn, **named)

        del of_all.__wrapped__  # type: ignore[attr-defined]  # or pytest looks for a fixture for the first argument
        first, *others = inspect.signature(check).parameters.values()
        of_all.__signature__ = inspect.Signature([first.replace(name="group"), *others], return_annotation=None)  # type: ignore[attr-defined]
        return pytest.mark.parametrize("group", groups)(of_all)

    return of

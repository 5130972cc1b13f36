"""Which examples hypothesis tries: HYPOTHESIS_PROFILE=ci (default) or fuzz.

`ci` tries the same examples in every run, `fuzz` ten times as many, new ones in every run.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

PROFILES = {"ci": 1, "fuzz": 10}  # how many times the examples of a test
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")


def examples(number: int, *allowed: HealthCheck) -> settings:
    """The settings of a test with that number of examples; a slow machine is no defect."""
    return settings(max_examples=number * PROFILES[PROFILE], suppress_health_check=[HealthCheck.too_slow, *allowed])


def load_profile() -> None:
    """Make the chosen profile that of every test that is collected from now on."""
    settings.register_profile("ci", examples(100), deadline=None, database=None, derandomize=True)
    settings.register_profile("fuzz", examples(100), deadline=None, derandomize=False)
    settings.load_profile(PROFILE)

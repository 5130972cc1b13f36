"""What a policy's parts say of it: which plug-ins bring them, and whether a runtime could follow it."""

from __future__ import annotations

from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policies import POLICIES
from specmoe.sim.decide.policy import Policy
from specmoe.sim.speculate.predictors import PREDICTORS


def brought(chosen: Policy) -> dict[str, str]:
    """Versions of the distributions that bring a policy, its eviction or its predictor; none where all is built in."""
    parts = (POLICIES, chosen.name), (EVICTIONS, chosen.eviction), (PREDICTORS, chosen.predictor)
    return {name: version for table, part in parts for name, version in table.versions(part).items()}


def is_yardstick(chosen: Policy) -> bool:
    """Whether no runtime could follow the policy with this model: it holds every expert, or its eviction or predictor
    declares `peeks` (it knows the future, or needs a model made for it). An unknown part is none."""
    predictor = PREDICTORS.get(chosen.predictor)
    parts = EVICTIONS.get(chosen.eviction), getattr(predictor, "func", predictor)  # configured ones are partial
    return chosen.sharing == "all-resident" or any(getattr(part, "peeks", False) for part in parts)

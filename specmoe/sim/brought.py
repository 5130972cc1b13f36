"""Which plug-ins a policy is made of."""

from __future__ import annotations

from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policies import POLICIES
from specmoe.sim.decide.policy import Policy
from specmoe.sim.speculate.predictors import PREDICTORS


def brought(chosen: Policy) -> dict[str, str]:
    """Versions of the distributions that bring a policy, its eviction or its predictor; none where all is built in."""
    parts = (POLICIES, chosen.name), (EVICTIONS, chosen.eviction), (PREDICTORS, chosen.predictor)
    return {name: version for table, part in parts for name, version in table.versions(part).items()}

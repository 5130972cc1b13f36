"""Policies by name: `POLICIES` lists the published ones and those of plug-ins; settings change their fields."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from specmoe.errors import InputError, hint
from specmoe.plugins import Table
from specmoe.sim.decide.choice import Policy as Policy
from specmoe.sim.decide.choice import Prefetch as Prefetch
from specmoe.sim.decide.choice import Sharing as Sharing
from specmoe.sim.decide.miss import Rates
from specmoe.sim.decide.misses import filled, named
from specmoe.sim.decide.published import PUBLISHED

ALL = "all"


def _wrong(name: str, value: Any) -> str:
    """What is wrong with a plug-in's value; empty if nothing."""
    if not isinstance(value, Policy):
        return f"{type(value).__name__}: a specmoe.sim.decide.policy.Policy expected"
    return "" if value.name == name else f"a Policy named {value.name!r}: the entry point's name expected"


POLICIES: Table[Policy] = Table("specmoe.policies", {row.name: row for row in PUBLISHED}, _wrong)


OF_SPECMOE = {  # speculation modes of the research code that this project began as
    "none": "on-demand",
    "layer_minus_1": "layer-minus-1",
    "multi_layer": "multi-layer",
    "learned": "learned-transformer",
}


def policy(name: str, overrides: dict[str, Any] | None = None) -> Policy:
    """A named policy, with fields changed by dotted name (`prefetch.limit`, `eviction`); raises InputError.

    A name may end with a number (`n-cpu-moe:20`). Modes of the research code specMoE are names too (`OF_SPECMOE`).
    """
    name = OF_SPECMOE.get(name, name)
    POLICIES.require_usable(name)
    changed = POLICIES[name] if name in POLICIES else _numbered(name)
    for dotted, value in (overrides or {}).items():
        changed = _changed(changed, dotted, value)
    return changed


def _numbered(name: str) -> Policy:
    """The policy of a name with a number; raises InputError."""
    plain, number = named(name)
    if plain not in POLICIES:
        raise InputError(f"policy {name!r}: {hint(plain, POLICIES)}")
    made = POLICIES[plain]
    if not made.number:
        raise InputError(f"policy {name!r}: {plain} takes no number: {plain} expected")
    completed = f"{named(getattr(made, made.number))[0]}:{number}"
    return _changed(dataclasses.replace(made, name=name), made.number, completed)


def with_rates(chosen: Policy, rates: Rates) -> Policy:
    """A policy whose miss rule is given the times of a machine that it takes and that were not set."""
    return dataclasses.replace(chosen, miss_parameters=filled(chosen.miss, chosen.miss_parameters, rates))


def chosen_names(names: Sequence[str]) -> list[str]:
    """The policies that an option names; `all` alone stands for every policy. Raises InputError."""
    if list(names) == [ALL]:
        return list(POLICIES)
    if not names or "" in names:
        raise InputError(f"--policy: a name expected, e.g. on-demand-lru, or {ALL} (every policy)")
    if ALL in names:
        raise InputError(
            f"--policy {','.join(names)}: {ALL} is every policy: either {ALL} or names expected, and not both"
        )
    return list(names)


def fields() -> list[str]:
    """Dotted names that `policy` can override."""
    own = [
        f.name
        for f in dataclasses.fields(Policy)
        if f.name not in ("name", "source", "about", "prefetch", "number") and not f.name.endswith("_parameters")
    ]
    return [*own, *(f"prefetch.{f.name}" for f in dataclasses.fields(Prefetch))]


def _changed(made: Policy, dotted: str, value: Any) -> Policy:
    first, _, second = dotted.partition(".")
    if first == "eviction" and second:
        return dataclasses.replace(made, eviction_parameters={**made.eviction_parameters, second: value})
    if first == "miss" and second:
        return dataclasses.replace(made, miss_parameters={**made.miss_parameters, second: value})
    if first == "predictor" and second:
        return dataclasses.replace(made, predictor_parameters={**made.predictor_parameters, second: value})
    if dotted not in fields():
        raise InputError(f"{dotted}: no setting of a policy: {hint(dotted, fields())}")
    if not second:
        return dataclasses.replace(made, **{first: value})
    rule = made.prefetch or Prefetch()
    return dataclasses.replace(made, prefetch=dataclasses.replace(rule, **{second: value}))

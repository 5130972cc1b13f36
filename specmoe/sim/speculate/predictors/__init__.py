"""All predictors by name, plug-ins included. A new one is one file and one line here, and is then tested."""

from collections.abc import Callable
from functools import partial
from inspect import isabstract, signature
from typing import Any

from specmoe.errors import InputError, hint
from specmoe.plugins import Table
from specmoe.sim.speculate.learned.predictor import Learned
from specmoe.sim.speculate.predictor import Predictor
from specmoe.sim.speculate.predictors.activation_match import ActivationMatch
from specmoe.sim.speculate.predictors.adaptive import Adaptive
from specmoe.sim.speculate.predictors.frequency import Frequency
from specmoe.sim.speculate.predictors.heuristics import (
    Everybody,
    LayerMinus1,
    LookAhead,
    MultiLayer,
    Nobody,
    Oracle,
    PreGated,
    PreviousStep,
)
from specmoe.sim.speculate.predictors.noisy_oracle import NoisyOracle
from specmoe.sim.speculate.predictors.token_identity import TokenIdentity
from specmoe.sim.speculate.predictors.transition import Transition, Transition2

LARGE = 1e300  # beyond any number of sense
MOST = {"depth": 1000, "capacity": 10**6, "history": 1000, "top": 1000}  # of whole numbers that memory depends on

_BUILT_IN: dict[str, Callable[..., Predictor]] = {
    "none": Nobody,
    "previous_step": PreviousStep,
    "layer_minus_1": LayerMinus1,
    "multi_layer": MultiLayer,
    "frequency": Frequency,
    "frequency-sequence": partial(Frequency, warm=False, reset="sequence"),
    "frequency-decayed": partial(Frequency, half_life=64),
    "transition": Transition,
    "transition-2": Transition2,
    "adaptive": Adaptive,
    "activation_match": ActivationMatch,
    "token_identity": TokenIdentity,
    "lookahead": LookAhead,
    "learned-contextual": partial(Learned, architecture="contextual"),
    "learned-transformer": partial(Learned, architecture="transformer"),
    "learned-hierarchical": partial(Learned, architecture="hierarchical"),
    "learned-fusion": partial(Learned, architecture="fusion"),
    "pregated": PreGated,
    "all": Everybody,
    "noisy_oracle": NoisyOracle,
    "oracle": Oracle,
}


def _wrong(name: str, value: Any) -> str:
    """What a plug-in should be instead; what makes configured ones is not one, a policy's parameters do that."""
    fits = isinstance(value, type) and issubclass(value, Predictor) and not isabstract(value)
    return "" if fits else f"{value!r}: a class that implements specmoe.sim.speculate.predictor.Predictor expected"


PREDICTORS: Table[Callable[..., Predictor]] = Table("specmoe.predictors", _BUILT_IN, _wrong)


def keywords(name: str) -> tuple[str, ...]:
    """What a predictor can be configured by; raises InputError for an unknown one."""
    PREDICTORS.require_usable(name)
    if name not in PREDICTORS:
        raise InputError(f"predictor {name!r}: {hint(name, PREDICTORS)}")
    return tuple(signature(PREDICTORS[name]).parameters)


def make_predictor(name: str, parameters: dict[str, Any] | None = None) -> Predictor:
    """A predictor by its name; raises InputError for an unknown name, keyword or value."""
    known = keywords(name)
    for keyword in parameters or {}:
        if keyword not in known:
            raise InputError(f"predictor {name} has no {keyword}: {hint(keyword, known)}")
    defaults = signature(PREDICTORS[name]).parameters
    for keyword, value in (parameters or {}).items():
        _require_kind(keyword, value, defaults[keyword].default)
    return PREDICTORS[name](**(parameters or {}))


def _require_kind(keyword: str, value: Any, default: Any) -> None:
    """Raise InputError for a value of another kind than the keyword's default."""
    most = MOST.get(keyword, 2**31 - 1)
    kinds: dict[type, tuple[str, bool]] = {
        bool: ("true or false", isinstance(value, bool)),
        int: (f"a whole number, 0 to {most},", type(value) is int and 0 <= value <= most),
        float: ("a number", type(value) in (int, float) and abs(value) < LARGE),
        str: ("a text", isinstance(value, str)),
    }
    expected, fits = kinds.get(type(default), ("", True))
    if not fits and value != default:
        raise InputError(f"predictor.{keyword}={value}: {expected} expected")

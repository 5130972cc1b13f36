"""Durations: hardware profiles, model shapes, and the costs of a model on a machine.

    costs = Costs(load_profile("rtx3090"), load_shape("switch-base-128"), "fp16")
    costs.load_ns("host-pinned"), costs.expert_ns(tokens=1), costs.evidence, costs.assumed

Start with these three files: `quantity.py` (a number with unit, source and reference, and the schema of a profile),
`profile.py` (a machine: quantities, measured curves, calibration) and `costs.py` (the interface of the timing stage).
Then `launches.py`, `dense.py`, `kernels.py` and `curves.py` (where a duration comes from),
`profile_file.py` and `shape_file.py` (TOML), `model_config.py` and `gguf_file.py` (shapes from models' own files),
`what_if.py` (changed machines), `fit.py` and `expected_error.py` (how good a profile is), and `measure/`
(measuring one).
"""

from specmoe.hwprofiles.basis import HostSet, Move
from specmoe.hwprofiles.catalogue import load_profile, load_shape, profile_names, shape_names
from specmoe.hwprofiles.costs import Costs, HostCosts, Tier
from specmoe.hwprofiles.kernels import Steps
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import Evidence, Quantity, Source, weakest
from specmoe.hwprofiles.shape import Format, ModelShape, Phase

__all__ = [
    "Costs",
    "Evidence",
    "Format",
    "HardwareProfile",
    "HostCosts",
    "HostSet",
    "ModelShape",
    "Move",
    "Phase",
    "Quantity",
    "Source",
    "Steps",
    "Tier",
    "load_profile",
    "load_shape",
    "profile_names",
    "shape_names",
    "weakest",
]

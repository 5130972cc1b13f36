"""How long things take: measured hardware, model shapes, and what the one costs on the other.

profile = load_profile("rtx3090")
costs = Costs(profile, load_shape("switch-base-128"), "fp16")
costs.load_ns("host-pinned"), costs.expert_ns(tokens=1), costs.evidence, costs.assumed
"""

from specmoe.hwprofiles.catalogue import load_profile, load_shape, profile_names, shape_names
from specmoe.hwprofiles.costs import Costs, HostCosts, HostSet, Move, Tier
from specmoe.hwprofiles.formats import Format
from specmoe.hwprofiles.measured_curves import Steps
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import Evidence, Quantity, Source, weakest
from specmoe.hwprofiles.shape import ModelShape, Phase

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

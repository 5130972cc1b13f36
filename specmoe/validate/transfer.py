"""Constants for a machine that nothing was fitted on, from its microbenchmarks and a machine that has both."""

from __future__ import annotations

from specmoe.hwprofiles.fields import CONTENTION, HOST_COSTS, INTERFERENCE, OPTIONAL_HOST_COSTS
from specmoe.hwprofiles.profile import HardwareProfile


def carried(
    calibrated: HardwareProfile, measured: HardwareProfile, other: HardwareProfile, host_set: str = "graph"
) -> dict[str, float]:
    """The other machine's microbenchmarks, times what calibration made of the first one's; by dotted name.

    Where either machine has no such microbenchmark, or one of 0, the calibrated value itself. `calibrated` and
    `measured` are the first machine's profile after and before calibration; a cost that it lacks is not carried.
    """
    costs = [f"host.{host_set}.{cost}" for cost in (*HOST_COSTS, *OPTIONAL_HOST_COSTS)]
    found: dict[str, float] = {
        name: _carried(name, calibrated, measured, other) for name in costs if name in calibrated
    }
    shares = {name: calibrated[name] for name in (CONTENTION, INTERFERENCE) if name in calibrated}
    return found | shares


def _carried(name: str, calibrated: HardwareProfile, measured: HardwareProfile, other: HardwareProfile) -> int:
    before, there = (profile.ns(name) if name in profile else 0 for profile in (measured, other))
    return round(there * calibrated.ns(name) / before) if before and there else calibrated.ns(name)

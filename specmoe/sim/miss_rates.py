"""Times of one expert on a machine, for miss rules that weigh a copy against the CPU (see `sim/decide/miss.py`)."""

from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.cpu import CpuExperts
from specmoe.sim.config import Home
from specmoe.sim.decide.miss import Rates
from specmoe.sim.timing.durations import copy_ns


def miss_rates(costs: Costs, cpu: CpuExperts, home: Home) -> Rates:
    """Times of one expert: over the link, on the CPU, and of each of many where both work and slow each other.

    On the CPU few tokens take the time of one, and each of many a share of the time of the most that an expert serves.
    """
    copy, one, most = copy_ns(costs, home), cpu.expert_ns(1), max(1, costs.most_tokens)
    copies, computed = 1 / (copy * (1 + cpu.slows_copy)), 1 / (one * (1 + cpu.slowed_by_copy))  # of each, per ns
    return Rates(
        copy_ns=copy,
        cpu_ns=one,
        both_ns=1 / (copies + computed),
        cpu_token_ns=cpu.expert_ns(most) / most,
        gpu_ns=costs.use_ns(1),
    )

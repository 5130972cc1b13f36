"""The schema of a profile: every dotted name that a profile must or may have, and its dimension.

device.vram                     what a model may use
device.memory_bandwidth         bytes a second that kernels reach, reads and writes together
device.kernel_floor             least time between two kernels that depend on each other
link.generation, link.lanes     PCI Express, as built in
link.contention                 optional: how many times longer pinned copies take in whole runs than alone
link.interference               optional: share by which kernels take longer while a copy is under way
<copy>.latency, .bandwidth      host_to_device.pinned and .pageable, device_to_host (pinned), device_copy (inside
                                VRAM, bytes copied), allocation, nvme (read into host memory)
<copy>.points                   instead of a bandwidth: measured (bytes, time); host_to_device.pinned: of copies back to
                                back, alone: what a saturated link takes for each
<copy>.isolated                 for comparison: one copy at a time, and the host waits for it
<copy>.busy                     for comparison: back to back while the GPU computes
gemm.<format>.rate              what large matrix products reach; .efficiency: the share of it that experts reach
expert_tiles.fp32...            optional: expert kernels work in tiles of rows * columns, one on each multiprocessor
                                at a time, each at its part of gemm.fp32.rate * efficiency
dense.layer_floor               least time of one layer's attention and dense feed-forward: its chain of kernels
router.floor                    the same for a router: gate, softmax, choice
dequantise.<format>.rate        expanded bytes written a second, and a kernel's floor; in its place if there are any:
dequantise.<format>.points      optional: measured (expanded bytes, time)
host.<set>.launch               starting one expert, and .launch_dense: everything up to the next router
host.<set>.issue                starting one copy
host.<set>.event                making one stream wait for another
host.<set>.sync                 from the router's end until the host has its result
host.<set>.bookkeeping          the policy's own work, each MoE layer
host.<set>.begin                optional: from the end of the host's call until an idle device begins what it launched
host.<set>.begin_copy           optional: likewise, until an idle link begins a copy
<copy or gemm>.fitted_to        points (bytes or flop, time) that the line, or the efficiency, was fitted on
<copy>.held_out                 points that nothing was fitted on, to judge by

Beside these stand `name` and `title`, and optionally

fitted_by                       one of SYSTEM_FITS
[machine]                       plain facts about the machine that was measured
[calibration]                   how the host's costs were fitted on whole runs and judged: see `calibration`
[[expert_curve]]                d_model, d_ff, gated, format and points (tokens, time) of one expert alone, out of its
                                slot: its expansion included
[[dense_curve]]                 part (before: everything up to the router's result in host memory, or head), phase,
                                d_model, parameters (`ModelShape.dense_parameters` or `.head_parameters`), format,
                                context (positions attended to; 0 for a head) and points (tokens, time)

Curves go before the roofline for their shape.
"""

from __future__ import annotations

from specmoe.units import Dimension

COPIES = ("host_to_device.pinned", "host_to_device.pageable", "device_to_host", "device_copy", "allocation", "nvme")
GEMMS = ("gemm.fp32", "gemm.fp16", "gemm.bf16")
EXPANSIONS = ("dequantise.int8", "dequantise.int4")
TILES = "expert_tiles.fp32"
HOST_SETS = ("graph", "eager")
HOST_COSTS = ("launch", "launch_dense", "issue", "event", "sync", "bookkeeping")
CONTENTION, INTERFERENCE = "link.contention", "link.interference"
OPTIONAL_HOST_COSTS = ("begin", "begin_copy")
COPY_ROLES = ("points", "isolated", "busy", "fitted_to", "held_out")
SYSTEM_FITS = ("isca24",)  # what `fitted_by` may say: see `fit`
SHARES = "efficiency"  # names that end so are at most 1

REQUIRED: dict[str, Dimension] = {
    "device.vram": "B",
    "device.memory_bandwidth": "B/s",
    "device.kernel_floor": "ns",
    "link.generation": "1",
    "link.lanes": "1",
    **dict.fromkeys((f"{copy}.latency" for copy in COPIES), "ns"),
    **dict.fromkeys((f"{gemm}.rate" for gemm in GEMMS), "flop/s"),
    **dict.fromkeys((f"{gemm}.efficiency" for gemm in GEMMS), "1"),
    "dense.layer_floor": "ns",
    "router.floor": "ns",
    **dict.fromkeys((f"{kind}.rate" for kind in EXPANSIONS), "B/s"),
    **dict.fromkeys((f"host.{kind}.{cost}" for kind in HOST_SETS for cost in HOST_COSTS), "ns"),
}
OPTIONAL: dict[str, Dimension] = {
    CONTENTION: "1",
    INTERFERENCE: "1",
    **dict.fromkeys((f"{copy}.bandwidth" for copy in COPIES), "B/s"),
    **dict.fromkeys((f"host.{kind}.{cost}" for kind in HOST_SETS for cost in OPTIONAL_HOST_COSTS), "ns"),
    **dict.fromkeys((f"{TILES}.{part}" for part in ("rows", "columns", "multiprocessors", "efficiency")), "1"),
}
POINTS: dict[str, Dimension] = {
    **dict.fromkeys((f"{copy}.{role}" for copy in COPIES for role in COPY_ROLES), "B"),
    **dict.fromkeys((f"{kind}.points" for kind in EXPANSIONS), "B"),
    **dict.fromkeys((f"{gemm}.fitted_to" for gemm in GEMMS), "flop"),
}
QUANTITIES: dict[str, Dimension] = {**REQUIRED, **OPTIONAL}

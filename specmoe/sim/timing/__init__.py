"""Timing: when each decision starts and ends, in integer nanoseconds.

Start with these three files: `durations.py` (how long each thing takes), `engine.py` (the host thread, the compute
stream and the copy engine as three clocks) and `link.py` (in which order copies use the link). `bounds.py` computes
what limits any policy. `retimer.py` computes the same times as the engine for many machines in one pass;
`variants.py` and the two kernels are its parts.
"""

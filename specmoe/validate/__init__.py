"""Replays of simulated decisions on a real device, and their comparison with the simulation.

Start with these three files: `replayer.py` (executes the decisions of a run; the twin of `sim.timing.engine`),
`validation.py` (a whole validation: plan, replays, judgement) and `fidelity.py` (errors of the simulation). `grid.py`
names the cells to replay, `cuda.py` is the device that executes them, `fit.py` and `calibration.py` fit host costs to
replays, `store.py` keeps the results.
"""

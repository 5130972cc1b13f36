"""The simulator: which experts a policy loads, when everything happens, and what a run costs.

Start with these three files: `config.py` (what a run is), `run.py` (one run from configuration to result) and
`routing.py` (a trace in batches, with what predictors say of it). Then follow one run through the packages: `speculate`
(predictors), `decide` (loads and evictions, without a clock), `timing` (when each of them starts and ends). `sweep`
runs many configurations, `advise` searches for the best one, `reproduce` repeats published experiments.
"""

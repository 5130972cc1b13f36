"""Predictors: which experts later layers will want, and with what confidence.

Start with these three files: `predictor.py` (the interface and the table of predictions), `online.py` (the loop of
predictors that learn as they go) and one of `predictors/`, e.g. `frequency.py`. `learned/` holds trained networks,
`scoring/` measures how good predictions are, `running_time.py` says how long they take and `store.py` keeps them.
"""

"""Predictors: which experts later layers will want, and with what confidence.

Start with these three files: `predictor.py` (the interface and the table of predictions), `online.py` (the loop of
predictors that learn as they go) and one of `predictors/`, e.g. `counted.py`; `predictors/__init__.py` lists them and
says how long they take. `learned/` holds trained networks, `scoring/` measures how good predictions are, and `store.py`
keeps them.
"""

"""Scores of predictions on held-out sequences, and the accuracy that any predictor could reach.

Start with `evaluate.py` (one JSON object for each predictor); `accuracy.py` counts hits, checks confidences and gives
intervals, `cost.py` measures what predicting costs, and `ceilings.py` estimates how predictable routing is.
"""

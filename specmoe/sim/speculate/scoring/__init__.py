"""Scores of predictions on held-out sequences, and the accuracy that any predictor could reach.

Start with `evaluate.py` (one JSON object for each predictor, and what predicting costs); `accuracy.py` counts hits,
checks confidences and gives intervals, and `ceilings.py` estimates how predictable routing is.
"""

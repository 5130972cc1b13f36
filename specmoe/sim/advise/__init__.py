"""Advice: what to run with a model on a machine in a given amount of VRAM, and what would make it faster.

Start with these three files: `setting.py` (the question, its routing and what fits into VRAM), `search.py` (the
configurations that are tried) and `levers.py` (what one change would give). `advice.py` puts the answer into words.
"""

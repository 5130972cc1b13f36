"""Sweeps: many configurations, where predictions and decisions are computed once and timed on every machine.

Start with these three files: `question.py` (what a sweep file or command line may say), `job.py` (a sweep from its
cells to its files) and `evaluate.py` (the rows of a group of cells). `grid.py` turns a question into cells;
`retiming.py` times one decision table on many machines.
"""

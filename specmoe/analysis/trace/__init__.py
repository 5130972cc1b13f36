"""Studies of a trace alone: how its experts are routed, reused and predicted. Each file holds a study and its plot.

Start with `job` (runs all studies and writes their files), `tables` (what they share) and `working_set` (a typical
study).
"""

"""Decisions: which experts are loaded and evicted, and in what order. Nothing here knows a clock.

Start with these three files: `director.py` (the mechanism that all policies share), `eviction.py` (the interface of an
eviction policy; all of them are in `evictions/`) and `table.py` (the decisions as arrays). `misses.py` says what a miss
gets, from the link or the CPU, and `placement.py` what stays in VRAM or in RAM. `published.py` lists the named
policies; `program.py` puts the decisions into the order in which the host executes them.
"""

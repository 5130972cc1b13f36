"""Figures, tables and report pages of traces and results. Nothing in this package simulates or needs a device.

Start with `point` (one run as figures see it), `figures.setting` (which part of a sweep one figure shows) and `answer`
(which policy is fastest, and what would help). `report` builds the page, `trace` analyses a trace by itself.
"""

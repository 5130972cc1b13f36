"""Speculate, decide, time: from a trace to latencies, in three stages that are tables in between."""

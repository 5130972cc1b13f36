"""Benchmarks that print figures for people and a JSON line for programs."""

"""Measuring the machine at hand: kernels of a model's parts, and microbenchmarks that fill a profile. Needs torch."""

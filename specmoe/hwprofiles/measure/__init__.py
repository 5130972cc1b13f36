"""Measuring this machine: kernels of a model's parts, and microbenchmarks that fill a profile. Needs torch.

Start with these three files: `job.py` (all tasks in order), `tasks.py` (each task, from measurement to profile) and
`bench.py` (the interface to a device; `cuda.py` implements it). `layers.py` and `experts.py` hold the kernels,
`copies.py` and `host.py` the microbenchmarks, `findings.py` turns timings into numbers of a profile.
"""

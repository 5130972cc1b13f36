"""Published experiments, simulated and compared with what their authors measured.

Start with `isca24.py` (the runtime and the figures of Pre-gated MoE, Hwang et al., ISCA 2024); `report.py` compares
them with the authors' numbers and `routing.py` makes their synthetic routing.
"""

"""Trained networks that predict which experts come next.

Start with these three files: `predictor.py` (a network as a predictor), `inputs.py` (what a network sees and what it
shall say) and `training.py` (the training loop). `networks.py` lists the architectures, one file each; `job.py` is a
training run from trace to checkpoint. `predictor`, `config` and `data` can be imported without torch.
"""

"""Networks that learn, from a train split, which experts come next; `predictor`, `config` and `data` need no torch."""

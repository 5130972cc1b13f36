"""How good predictions are, on held-out sequences, and how good they could be."""

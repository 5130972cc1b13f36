"""What to run with this model, on this machine, in this much VRAM, and what would make it faster."""

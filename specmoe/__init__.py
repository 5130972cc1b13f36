"""specmoe: which expert-offloading policy is fastest, by how much, and how far from the best possible."""

__version__ = "0.1.0"

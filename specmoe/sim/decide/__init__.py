"""Which experts are loaded and evicted, and in what order; no clock."""

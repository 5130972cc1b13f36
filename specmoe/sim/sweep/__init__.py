"""Many configurations at once: predicted once, decided once, timed on every machine in one pass."""

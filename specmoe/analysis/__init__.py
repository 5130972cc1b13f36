"""Tables and plots of traces and results."""

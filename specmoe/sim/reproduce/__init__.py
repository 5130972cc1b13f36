"""Published experiments, simulated and laid beside what their authors measured."""

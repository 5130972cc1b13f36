"""The same decisions on a real device, beside what the simulator says of them."""

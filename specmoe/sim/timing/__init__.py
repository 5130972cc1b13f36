"""When each decision starts and ends: the SimPy engine, and what bounds any result."""

"""How fast minigrad is beside the libraries that its users know: `python -m tests.benchmarks`."""

"""Benchmarks: ours beside rivals in the same run. `python -m benchmarks --help`."""

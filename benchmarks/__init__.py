"""Studies that print a table: `python -m benchmarks`."""

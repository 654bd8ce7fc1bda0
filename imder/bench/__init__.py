"""Benchmarks: is a draw right, and what does one cost? `python -m imder bench NAME` runs one and prints its table."""

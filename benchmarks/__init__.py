"""Benchmarks of `uring_trio` beside its peers, and the engine of the demonstration.

`python -m benchmarks` measures, `python -m benchmarks.demo` shows. Everything listens on and connects to
loopback only.
"""

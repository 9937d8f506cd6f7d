"""Test-suites of Trio and of what is built on it, on the ring: ``python -m tests.conformance``.

``suites`` says which and what is demanded of each; ``suite`` runs one once in a process of its own, on stock
Trio or on the ring, and records every outcome; ``verdict`` compares two records; ``__main__`` does all runs
and prints the verdicts.
"""

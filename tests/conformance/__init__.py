"""Trio's own test-suite on the ring: ``python -m tests.conformance``.

``suite`` runs it once in a process of its own, on stock Trio or on the ring, and records every outcome;
``verdict`` compares the two records; ``__main__`` does both runs and prints the verdict.
"""

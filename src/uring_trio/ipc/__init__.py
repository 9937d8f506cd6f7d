"""Pipes, child processes, and channels between runs."""

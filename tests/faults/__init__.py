"""Faults in the system calls of the shim, one at a time, under programs whose answer is known."""

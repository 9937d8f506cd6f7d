"""Random programs on stock Trio and on the ring: what they see is the same.

A program is a list of steps on sockets, listeners, pipes, raw descriptors and files. Its seed determines
it, so a failing seed is a report. It is played in two processes, one on Trio's own loop, one on the ring,
and the transcripts are compared: results, errors, descriptors, what each peer saw, ports, warnings.

``python -m tests.differential --programs 10000`` plays the seeds from 0; ``--seed N`` plays one and prints
both transcripts.
"""

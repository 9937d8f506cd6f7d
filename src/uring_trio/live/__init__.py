"""A ring run seen from another process: `server` answers in the run, `view` asks and shows.

With ``RingOptions(monitor=True)`` a run has a system task that listens on a Unix socket of its user alone. It
answers each line that it gets with one line of JSON, see `snapshot`. The parts that cost something, the ages
and the counts of each kind of operation, are on only while a viewer is connected.
"""

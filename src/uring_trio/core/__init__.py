"""The engine room: operations in flight, cancels, descriptors, and the I/O manager that Trio calls."""

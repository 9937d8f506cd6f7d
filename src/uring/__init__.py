"""Linux io_uring for Python: the kernel boundary, without a scheduler or policy."""

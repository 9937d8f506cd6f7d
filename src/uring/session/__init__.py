"""The parts that `uring.Ring` is made of."""

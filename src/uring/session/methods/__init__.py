"""One method per operation, by family; `uring.Ring` has them all."""

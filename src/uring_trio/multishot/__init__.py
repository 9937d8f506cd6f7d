"""Multishot operations as async iterators: subscriptions, and the buffers that they lend."""

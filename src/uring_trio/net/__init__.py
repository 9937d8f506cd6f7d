"""Sockets, streams, listeners and datagrams."""

"""The protocol of what is in flight, in every state that small sizes allow: ``python -m tests.model``."""

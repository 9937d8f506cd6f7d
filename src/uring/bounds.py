"""The check of an argument that is an int within bounds."""

__all__ = ["check_int"]


def check_int(name: str, value: object, least: int, most: int) -> int:
    """The value as an int within bounds.

    Raises:
        TypeError, ValueError: saying what was given and what is allowed.
    """
    if value.__class__ is int and least <= value <= most:
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {least} to {most}, not {value}")
    return int(value)

"""What scripts take from W&B's `util`: new ids."""

from __future__ import annotations

from runfold.naming import ID_LENGTH, random_id

__all__ = ["generate_id"]


def generate_id(length: int = ID_LENGTH) -> str:
    """Return a new random id: `length` characters of [0-9a-z]."""
    return random_id(length)

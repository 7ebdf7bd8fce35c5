"""Values that are a pure function of (writer, number), so that any row can be checked without a copy of it."""

from __future__ import annotations

import math

#: Every this-many-th value is one that careless code loses.
SPECIAL_EVERY = 97
SPECIALS = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308)


def value(writer: int, number: int) -> float:
    """A finite float64 with all of its bits in use."""
    mixed = (writer * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed ^= mixed >> 31
    mixed = mixed * 0x94D049BB133111EB & (2**64 - 1)
    return (mixed >> 11) / 2**40 - 4096.0


def special(writer: int, number: int) -> float:
    """Like `value`, with NaN, infinities, -0.0 and extremes strewn in."""
    if number % SPECIAL_EVERY == 0:
        return SPECIALS[(writer + number // SPECIAL_EVERY) % len(SPECIALS)]
    return value(writer, number)


def same(a: object, b: float) -> bool:
    """Equal to the bit, NaN with NaN and -0.0 apart from 0.0."""
    if not isinstance(a, float):
        return False
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b and math.copysign(1, a) == math.copysign(1, b)

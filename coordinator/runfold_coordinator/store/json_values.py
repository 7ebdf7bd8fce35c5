"""Values as JSON that both databases take, for filters only: exact values are packed beside it."""

from __future__ import annotations

import math
from typing import Any

from runfold_coordinator.store.names import clean_text

#: Integers outside doubles' exact range compare as floats in the databases' JSON; larger ones become text.
_MAX_JSON_INT = 2**63


def to_json(value: Any) -> Any:
    """Return `value` as JSON: NaN and infinities as "NaN", "Infinity", "-Infinity", bytes dropped to None."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < _MAX_JSON_INT else str(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {clean_text(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return None

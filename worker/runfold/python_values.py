"""What log() makes of objects of Python's own library: enums, sets, dates, paths, iterators, ... Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runfold.value_budget import Budget

#: What stands for "none of these".
NOTHING = object()

_found: list[tuple[Any, Callable[[Any, Budget], Any]]] = []


def simpler(value: Any, budget: Budget) -> Any:
    """Return an object as a text, a number, a list or a dict, whose elements are as they were; or NOTHING.

    Raises:
        LimitError: More than the budget allows; an iterator has then given as much as that.
        ValueError: bytes that are not UTF-8.
    """
    for kind, how in _conversions():
        if isinstance(value, kind):
            return how(value, budget)
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if callable(value):  # an object that can be called has no name of its own: its text stands for it
        is_named = hasattr(value, "__qualname__") and hasattr(value, "__module__")
        return f"{value.__module__}.{value.__qualname__}" if is_named else str(value)
    return NOTHING


def _conversions() -> list[tuple[Any, Callable[[Any, Budget], Any]]]:
    """Return (types, conversion) in order of precedence. Made when first needed: imports cost."""
    if not _found:
        import collections
        import collections.abc
        import datetime
        import decimal
        import enum
        import fractions
        import ipaddress
        import pathlib
        import re
        import uuid

        def text_of(value: Any, _: Budget) -> str:
            return str(value)

        _found.extend(
            [
                (enum.Enum, lambda value, _: value.value),
                (bool, lambda value, _: bool(value)),
                (int, lambda value, _: int(value)),
                (float, lambda value, _: float(value)),
                (str, lambda value, _: str.__str__(value)),
                (collections.abc.Mapping, _dict_of),
                ((bytes, bytearray), _decoded),
                ((set, frozenset, collections.deque), _list_of),
                (collections.abc.Iterator, lambda value, budget: budget.allowed(value)),
                ((datetime.datetime, datetime.time), lambda value, _: _iso_time(value)),
                (datetime.date, lambda value, _: value.isoformat()),
                (datetime.timedelta, lambda value, _: _iso_duration(value)),
                ((decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PurePath), text_of),
                ((ipaddress.IPv4Address, ipaddress.IPv4Network), text_of),
                ((ipaddress.IPv6Address, ipaddress.IPv6Network), text_of),
                (re.Pattern, lambda value, _: value.pattern),
                (complex, lambda value, _: str(value).strip("()").replace("nan", "NaN")),
            ]
        )
    return _found


def _dict_of(value: Any, budget: Budget) -> dict[Any, Any]:
    return {key: value[key] for key in budget.allowed(value)}


def _list_of(value: Any, budget: Budget) -> list[Any]:
    budget.check_elements(len(value))
    return list(value)


def _decoded(value: bytes | bytearray, budget: Budget) -> str:
    budget.check_text(len(value))
    return value.decode("utf-8")


def _iso_time(value: Any) -> str:
    text: str = value.isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def _iso_duration(value: Any) -> str:
    """Return a timedelta as ISO 8601, as pydantic writes it: P1DT2H3M4.5S."""
    sign = "-" if value.days < 0 else ""
    value = abs(value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    years, days = divmod(value.days, 365)
    date = (f"{years}Y" if years else "") + (f"{days}D" if days else "")
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if seconds or fraction or not (date or time):
        time += f"{seconds}{fraction}S"
    return f"{sign}P{date}{'T' + time if time else ''}"

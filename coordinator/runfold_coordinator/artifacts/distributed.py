"""Which parts belong to which version, of those that processes said under one distributed id. Pure.

A finish ends a version: what was said before it belongs to that one, what was said later to the next. Within
a process the order is that of its records; between processes it is that of their clocks. A process that had
said no part before the finish, by the clock of another machine, is given CLOCK_TOLERANCE_NS: with a barrier
between its part and the finish, that the clocks differ must not put the part into the next version.

A process that nobody knew of when its version was closed (its node was away, or was offline) belongs to it
all the same: the version is made anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

#: How far clocks of two machines may be apart without harm.
CLOCK_TOLERANCE_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Said:
    """A part, or a finish, as its process said it.

    Attributes:
        writer: Id of the process; "" where nobody told: then it is nobody else's.
        place: What tells machines apart; None: unknown, and so another one than any.
        seq: Of its record; None while that has not come.
        said_ns: Unix time in the coordinator's clock, as far as the difference is known.
    """

    client_id: str
    writer: str
    place: tuple[str, str] | None
    seq: int | None
    said_ns: int
    is_finish: bool


def next_version(said: Iterable[Said]) -> tuple[Said, list[Said]] | None:
    """Return the earliest finish with the parts that it ends (itself among them), as said; None without one.

    Of the same set the answer is the same, whatever its order. Taken out of the set, again and again, the
    versions have every part once.
    """
    ordered = _in_order(said)
    finish = next((each for each in ordered if each.is_finish), None)
    if finish is None:
        return None
    parts, has_spoken = [], set()
    for each in ordered:
        if _is_before(each, finish):
            parts.append(each)
            has_spoken.add(each.writer)
    for each in ordered:
        if each.writer and each.writer not in has_spoken and _is_tolerated(each, finish):
            parts.append(each)
            has_spoken.add(each.writer)
    return finish, parts


@dataclass(frozen=True, slots=True)
class Closed:
    """A version that was closed: its number, its finish, and the processes that it knew of then."""

    number: int
    finish: Said
    writers: frozenset[str]


def late_parts(said: Iterable[Said], closed: Iterable[Closed]) -> dict[str, int]:
    """Return the number of the closed version that each of these parts belongs to, by client id.

    Only processes that a version knew nothing of are late for it: of those that it knew, all that they said
    before the finish was there.
    """
    ordered = sorted(closed, key=lambda version: version.number)
    found = {}
    for each in _in_order(said):
        for place, version in enumerate(ordered):
            if _is_before(each, version.finish):
                if each.writer and all(each.writer not in later.writers for later in ordered[place:]):
                    found[each.client_id] = version.number
                break
    return found


def _in_order(said: Iterable[Said]) -> list[Said]:
    """Return them by time; a process whose clock was set back keeps the order of its records."""
    by_writer: dict[str, list[Said]] = {}
    for each in said:
        by_writer.setdefault(each.writer or each.client_id, []).append(each)
    ordered: list[Said] = []
    for own in by_writer.values():
        ordered += _never_back(own)
    return sorted(ordered, key=_order)


def _never_back(own: Sequence[Said]) -> list[Said]:
    known = sorted(
        (each for each in own if each.seq is not None), key=lambda each: (each.seq or 0, *_order(each))
    )
    latest, found = 0, [each for each in own if each.seq is None]
    for each in known:
        latest = max(latest, each.said_ns)
        found.append(replace(each, said_ns=latest))
    return found


def _order(each: Said) -> tuple[int, str, int, str]:
    return each.said_ns, each.writer, each.seq or 0, each.client_id


def _is_before(each: Said, finish: Said) -> bool:
    return _order(each) <= _order(finish)


def _is_tolerated(each: Said, finish: Said) -> bool:
    is_elsewhere = each.place is None or each.place != finish.place
    return is_elsewhere and each.said_ns <= finish.said_ns + CLOCK_TOLERANCE_NS

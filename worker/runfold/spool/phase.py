"""The phase of a process in its spool's header: which timer it is inside of, and since when.

A table of names, filled once each, and one word that changes with every phase: the number of a name (high
byte, 0: none) and CLOCK_MONOTONIC in units of 1024 ns. It is one aligned store: nobody reads half of it.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from runfold.spool.format import HEADER_BYTES

#: In what version 1 left empty: older readers don't look here.
AT_PHASE: Final = 384
AT_NAMES: Final = 1024
#: A name: one word (length, 256 if collective), then text.
NAME_SLOT_BYTES: Final = 48
MAX_NAMES: Final = (HEADER_BYTES - AT_NAMES) // NAME_SLOT_BYTES
_NAME_BYTES: Final = NAME_SLOT_BYTES - 8
_COLLECTIVE: Final = 256
PHASE_WORD_AT: Final = AT_PHASE >> 3
INDEX_SHIFT: Final = 56
TIME_SHIFT: Final = 10
_WORD: Final = struct.Struct("<Q")


class Phase(NamedTuple):
    """What a process is doing, by its own word."""

    name: str
    for_s: float
    #: It waits for other ranks there.
    is_collective: bool


def store_name(words: memoryview, number: int, name: str, *, is_collective: bool) -> None:
    """Store the name of timer `number`, 1 to MAX_NAMES, cut to 40 bytes."""
    text = name.encode("utf-8", "replace")[:_NAME_BYTES]
    at = (AT_NAMES + (number - 1) * NAME_SLOT_BYTES) >> 3
    for word, (value,) in enumerate(_WORD.iter_unpack(text.ljust(_NAME_BYTES, b"\0")), at + 1):
        words[word] = value
    words[at] = len(text) | (_COLLECTIVE if is_collective else 0)


def unpack_phase(page: bytes, now_ns: int) -> Phase | None:
    """Return what a header page says at `now_ns` of the same machine's CLOCK_MONOTONIC; None: no phase."""
    if len(page) < HEADER_BYTES:
        return None
    (word,) = _WORD.unpack_from(page, AT_PHASE)
    number, since = word >> INDEX_SHIFT, (word & (1 << INDEX_SHIFT) - 1) << TIME_SHIFT
    if not 0 < number <= MAX_NAMES:
        return None
    at = AT_NAMES + (number - 1) * NAME_SLOT_BYTES
    (about,) = _WORD.unpack_from(page, at)
    length = about & _COLLECTIVE - 1
    if not 0 < length <= _NAME_BYTES:
        return None
    text = page[at + 8 : at + 8 + length].decode("utf-8", "ignore")
    return Phase(text, max(0.0, (now_ns - since) / 1e9), bool(about & _COLLECTIVE))

"""Conditional and partial reads of content that never changes (RFC 9110, 13 and 14). Pure.

In: the headers of a request, the size of the content, its strong ETag. Out: what of it to send.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `begin` (included) to `end` (not included), as status 200 or 206."""

    status: int
    begin: int
    end: int


#: 304: the client has it; 416: the range lies behind the end.
Choice = Part | int


def choose(headers: Mapping[str, str], size: int, etag: str) -> Choice:
    """Return the part to send, 304 or 416. Several ranges at once, or one that can't be read: the whole."""
    known = headers.get("if-none-match")
    if known is not None and _has(known, etag):
        return 304
    whole = Part(200, 0, size)
    asked = _ONE_RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if asked is None or asked[0] == "bytes=-" or headers.get("if-range", etag) != etag:
        return whole
    first, last = asked[1], asked[2]
    if not first:  # the last so many
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), size if not last else min(size, int(last) + 1)
        if last and int(last) < begin:
            return whole
    return Part(206, begin, end) if begin < end else 416


def _has(known: str, etag: str) -> bool:
    """Return whether a list of If-None-Match names the content; it compares weakly."""
    return known.strip() == "*" or etag in (tag.removeprefix("W/") for tag in _TAG.findall(known))

"""Texts of alerts: cut to their limits, clean of what displays would obey, filled from templates. Pure."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

MAX_TITLE_CHARS = 64
MAX_TEXT_CHARS = 4000
#: Longest value put into a template.
MAX_FIELD_CHARS = 500

#: What a rule's `text` may name in braces.
FIELDS = frozenset(
    {
        *("rule", "level", "entity", "project", "run", "name", "group", "state", "reason", "cause"),
        *("rank", "host", "metric", "value", "step", "detail"),
    }
)

#: Right-to-left marks and the like: they change how the text around them reads.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_title(title: str) -> str:
    """Return one line of at most MAX_TITLE_CHARS."""
    return _cut(_visible(title, keep=""), MAX_TITLE_CHARS)


def clean_text(text: str) -> str:
    """Return at most MAX_TEXT_CHARS, with line ends kept."""
    return _cut(_visible(text.replace("\r\n", "\n"), keep="\n\t"), MAX_TEXT_CHARS)


def escape_slack(text: str) -> str:
    """Return the text for Slack's mrkdwn, with nothing in it that links, mentions or calls a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def check_template(template: str) -> None:
    """Raise ValueError where a template names anything but FIELDS, or more than its plain name."""
    if len(template) > MAX_TEXT_CHARS:
        raise ValueError(f"at most {MAX_TEXT_CHARS} characters")
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if name not in FIELDS or spec or conversion:
            raise ValueError(f"{{{name}}}: plain names only, of {', '.join(sorted(FIELDS))}; {{{{ is a brace")


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Return a checked template with its fields filled; what is not known is empty."""
    parts = []
    for literal, name, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name is not None:
            value = values.get(name)
            parts.append("" if value is None else _cut(str(value), MAX_FIELD_CHARS))
    return clean_text("".join(parts))


def _visible(text: str, *, keep: str) -> str:
    return "".join(
        char if char in keep or (char.isprintable() and char not in _BIDI) else _escaped(char)
        for char in text
    )


def _escaped(char: str) -> str:
    return " " if char in "\n\t" else char.encode("unicode_escape").decode() if char != "\\" else char


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"

"""Values as short texts for narrow columns, and texts of users as a terminal may be given them. Pure."""

from __future__ import annotations

import math
import unicodedata

from rich.cells import cell_len, set_cell_size

#: What stands for a value that is not known.
UNKNOWN = "-"


def clean(text: object) -> str:
    """Return one line that can do nothing to a terminal: control characters are shown, never sent.

    Marks without width of their own are dropped where many are piled up: they would run over other lines.
    """
    shown: list[str] = []
    marks = 0
    for char in str(text):
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks > 2:
            continue
        shown.append(char if char.isprintable() else f"\\x{ord(char):02x}")
    return "".join(shown)


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """Return `text` in exactly `width` cells of a terminal: cut with an ellipsis, or filled with blanks."""
    if width <= 0:
        return ""
    if (size := cell_len(text)) > width:
        # A wide character may leave one cell empty before the ellipsis.
        return set_cell_size(text, width - 1) + "…"
    blanks = " " * (width - size)
    return blanks + text if right else text + blanks


def number(value: object) -> float | None:
    """Return a finite number; None for anything else, also for the texts that JSON has for NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def count_text(value: object) -> str:
    """Return a whole number, in up to seven characters."""
    found = number(value)
    if found is None:
        return UNKNOWN
    if abs(found) < 10_000_000:
        return f"{found:.0f}"
    for unit, size in (("M", 1e6), ("G", 1e9), ("T", 1e12)):
        if abs(found) < size * 10_000:
            return f"{found / size:.1f}{unit}" if abs(found) < size * 1000 else f"{found / size:.0f}{unit}"
    return f"{found:.0e}"


def age_text(value: object) -> str:
    """Return a duration in seconds, in up to five characters: 0.4s, 12s, 3m20, 2h05, 4d03."""
    found = number(value)
    if found is None:
        return UNKNOWN
    seconds = max(0.0, found)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole}s"
    if whole < 6000:
        return f"{whole // 60}m{whole % 60:02d}"
    if whole < 48 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}"
    days = whole // 86400
    return f"{days}d{whole % 86400 // 3600:02d}" if days < 100 else f"{min(days, 9999)}d"


def span_text(value: object) -> str:
    """Return a short duration in seconds, in up to six characters: 312us, 4.21ms, 1.25s, 62.1s."""
    found = number(value)
    if found is None or found < 0:
        return UNKNOWN
    if found >= 999.5:
        return age_text(found)
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if found >= size * 0.9995:
            return f"{found / size:.3g}{unit}" if found / size < 99.95 else f"{found / size:.0f}{unit}"
    return f"{found * 1e6:.0f}us"


def percent_text(value: object) -> str:
    """Return a percentage without its sign."""
    found = number(value)
    return UNKNOWN if found is None else f"{min(found, 99999):.0f}"


def gigabytes_text(value: object) -> str:
    """Return bytes in GB (10^9), in up to four characters."""
    found = number(value)
    if found is None:
        return UNKNOWN
    size = found / 1e9
    return f"{size:.1f}" if size < 9.95 else f"{min(size, 99999):.0f}"


def size_text(value: object) -> str:
    """Return bytes in up to five characters: 812k, 47M, 1.2G."""
    found = number(value)
    if found is None or found < 0:
        return UNKNOWN
    for unit, size in (("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if found < size * 999.5:
            return f"{found / size:.1f}{unit}" if found < size * 9.95 else f"{found / size:.0f}{unit}"
    return f"{min(found / 1e12, 99999):.0f}T"


def share_text(used: object, total: object) -> str:
    """Return used and total bytes in GB: 71/80."""
    if number(used) is None:
        return UNKNOWN
    whole = number(total)
    return gigabytes_text(used) if whole is None else f"{gigabytes_text(used)}/{gigabytes_text(whole)}"

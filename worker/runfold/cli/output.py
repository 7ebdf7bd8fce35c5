"""What commands print: JSON or tables on stdout, errors on stderr, the way out when an extra is missing."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from runfold.errors import Error

#: Colours of states in a terminal.
STATE_STYLES = {
    "running": "blue",
    "finished": "green",
    "failed": "red",
    "crashed": "red",
    "killed": "yellow",
    "preempting": "yellow",
    "preempted": "yellow",
}


class MissingExtraError(Error):
    """A command needs a part that is not installed."""

    def __init__(self, what: str, extra: str, missing: str | None) -> None:
        because = f" ({missing} is missing)" if missing else ""
        super().__init__(f"{what} needs more than the worker{because}: pip install 'runfold[{extra}]'")


def print_json(content: Any) -> None:
    """Print one JSON document; NaN and infinities become the texts "NaN", "Infinity", "-Infinity"."""
    sys.stdout.write(json.dumps(_strict(content), default=str, indent=2) + "\n")
    sys.stdout.flush()


def print_json_line(content: Any) -> None:
    """Print one line of JSON: for commands that stay, and say something more than once."""
    sys.stdout.write(json.dumps(_strict(content), default=str) + "\n")
    sys.stdout.flush()


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str] = ()
) -> None:
    """Print a table; user's texts are shown as they are, with control characters made visible."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(
            *(
                state_text(value) if name == "state" else plain(value)
                for name, value in zip(columns, row, strict=True)
            )
        )
    console().print(table)


def console() -> Any:
    """Return a console on stdout that takes no markup from data; as wide as the terminal, wide in a pipe."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 200)


def plain(value: Any) -> Any:
    """Return a value as text that can do nothing to a terminal."""
    from rich.text import Text

    text = "" if value is None else value if isinstance(value, str) else str(value)
    return Text("".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text))


def state_text(state: str) -> Any:
    """Return a state in its colour."""
    from rich.text import Text

    return Text(state, style=STATE_STYLES.get(state.partition(" ")[0], ""))


def fail(error: BaseException, *, as_json: bool = False) -> NoReturn:
    """Say what went wrong on stderr, and exit with status 1."""
    message = str(error) or type(error).__name__
    if as_json:
        document = {"error": {"type": type(error).__name__, "message": message}}
        sys.stderr.write(json.dumps(document) + "\n")
    else:
        sys.stderr.write(f"runfold: error: {message}\n")
    sys.exit(1)


def bytes_text(count: float) -> str:
    """Return a size for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration_text(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value

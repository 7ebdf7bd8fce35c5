"""`runfold top`: a live view of a job in the terminal, or once as text for scripts."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runfold.cli.options import AsJson, TimeoutS, Url, api_for
from runfold.cli.output import print_json, print_json_line

if TYPE_CHECKING:
    from runfold.top.source import Source
    from runfold.top.table import Order

#: Columns of a text that goes into a file or a pipe.
_PIPE_WIDTH = 200
_ENDED = frozenset({"finished", "failed", "killed", "crashed", "preempted"})


def top(  # noqa: PLR0917 - options, given by name
    path: Annotated[
        str | None,
        typer.Argument(help='"entity/project/id", "project/id" or "id"; without it, the runs that go on.'),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one table and end.")] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.2, help="Between two looks, seconds.", metavar="S")
    ] = 1.0,
    sort: Annotated[
        str | None, typer.Option(help='Column to sort by, by its name; with "-" before it, descending.')
    ] = None,
    words: Annotated[
        str, typer.Option("--filter", help='Only rows with these words; "host:node-3" asks one column.')
    ] = "",
    url: Url = None,
    timeout_s: TimeoutS = 10.0,
    as_json: AsJson = False,
) -> None:
    """Watch a job: state, step, lag, step time, GPUs and last record of each rank."""
    from runfold.top.source import Source

    source, order = Source(api_for(url, timeout_s)), _order(sort, path)
    if as_json:
        _print_json(source, path, interval_s, once=once)
    elif once or not _has_screen():
        _print_once(source, path, order, words)
    else:
        from runfold.top.app import TopApp

        app = TopApp(source, path, interval_s=interval_s, order=order, words=words)
        app.sub_title = source.url  # raises where no server is known: better before the screen is taken
        app.run()


def _print_once(source: Source, path: str | None, order: Order | None, words: str) -> None:
    from runfold.top.plain import run_text, runs_text

    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else _PIPE_WIDTH
    if path is None:
        text = runs_text(source.runs(), width=width, order=order, words=words)
    else:
        text = run_text(source.live(path), width=width, order=order, words=words)
    # What a script's locale can't say is shown as a question mark rather than ending it.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


def _print_json(source: Source, path: str | None, interval_s: float, *, once: bool) -> None:
    """Print the document once, or a line of it each interval until the run has ended."""
    if once:
        print_json(_document(source, path))
        return
    while True:
        document = _document(source, path)
        print_json_line(document)
        if path is not None and document["run"]["state"] in _ENDED:
            return
        time.sleep(interval_s)


def _document(source: Source, path: str | None) -> dict[str, Any]:
    return {"runs": source.runs()} if path is None else source.live(path)


def _order(text: str | None, path: str | None) -> Order | None:
    """Return the order that --sort names.

    Raises:
        typer.BadParameter: There is no such column.
    """
    if text is None:
        return None
    from runfold.top.columns import RANK_COLUMNS, RUN_COLUMNS
    from runfold.top.table import Order

    name, columns = text.removeprefix("-"), RUN_COLUMNS if path is None else RANK_COLUMNS
    if name not in (names := [column.name for column in columns]):
        raise typer.BadParameter(f"{name!r} is none of {', '.join(names)}", param_hint="--sort")
    return Order(name, descending=text.startswith("-"))


def _has_screen() -> bool:
    """Tell whether there is a terminal that can be drawn on, and keys to press."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

"""`runfold up`: the server on this machine: embedded Redis, coordinator, API and page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from runfold.cli.output import MissingExtraError


def up(  # noqa: PLR0917 - options, given by name
    data: Annotated[
        Path | None, typer.Option(help="Directory of the database and files; default: RUNFOLD_DIR/server.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; a public one needs RUNFOLD_API_KEY.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8765,
    redis: Annotated[
        str | None,
        typer.Option(help="redis://, rediss:// or unix:// address; default: an embedded one.", metavar="URL"),
    ] = None,
    db: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL; default: SQLite in the data directory.", metavar="URL")
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written when it serves: url, redis_url, data_dir, pid as JSON.")
    ] = None,
) -> None:
    """Start a server here and stay until SIGTERM or Ctrl-C."""
    try:
        from runfold_coordinator.__main__ import main as serve
    except ImportError as error:
        raise MissingExtraError("`runfold up`", "coordinator", error.name) from error
    folder = Path(os.environ.get("RUNFOLD_DIR") or Path.home() / ".runfold").expanduser()
    arguments = ["--data", str(data or folder / "server"), "--host", host, "--port", str(port)]
    for option, value in (("--redis", redis), ("--db", db), ("--ready-file", ready_file)):
        if value is not None:
            arguments += [option, str(value)]
    raise typer.Exit(serve(arguments))

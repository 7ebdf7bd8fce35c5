"""`runfold up`: the server on this machine: embedded Redis, coordinator, API and page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runfold.cli.options import AsJson
from runfold.cli.output import MissingExtraError


def up(  # noqa: PLR0917 - options, given by name
    data: Annotated[
        Path | None, typer.Option(help="Database and files; default: RUNFOLD_DATA, else RUNFOLD_DIR/server.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on, 127.0.0.1; a public one needs RUNFOLD_API_KEY.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on, 8765; 0 takes a free one.")
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(help="redis://, rediss:// or unix://; default: an embedded one.", metavar="URL"),
    ] = None,
    db: Annotated[
        str | None, typer.Option(help="Database; default: SQLite in the data directory.", metavar="URL")
    ] = None,
    blobs: Annotated[
        str | None,
        typer.Option(
            help="Content of files: a folder, or s3://bucket/prefix; default: in the data directory.",
            metavar="URL",
        ),
    ] = None,
    alerts: Annotated[
        Path | None, typer.Option(help="Receivers and rules of alerts, a TOML file; default: RUNFOLD_ALERTS.")
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written when it serves: url, redis_url, data_dir, pid as JSON.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a server here and stay until SIGTERM or Ctrl-C."""
    try:
        from runfold_coordinator.__main__ import main as serve
    except ImportError as error:
        raise MissingExtraError("`runfold up`", "coordinator", error.name) from error
    said = {"data": data, "host": host, "port": port, "redis": redis, "db": db}
    said |= {"blobs": blobs, "alerts": alerts, "ready-file": ready_file}
    arguments: list[str] = ["--json"] if as_json else []
    for name, value in said.items():
        if value is not None:  # what is not given is left to RUNFOLD_* and the defaults
            arguments += [f"--{name}", str(value)]
    raise typer.Exit(serve(arguments))

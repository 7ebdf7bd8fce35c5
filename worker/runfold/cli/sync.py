"""`runfold sync`: delivers what lies in spools, any number of times, with the same result."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runfold.cli.options import AsJson
from runfold.cli.output import print_json
from runfold.errors import CommError

if TYPE_CHECKING:
    from runfold.node.deliver import DeliveryProgress, DeliveryReport
    from runfold.node.settings import NodeSettings


def sync(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(help="Spool directories; default: every spool below RUNFOLD_DIR, offline ones too."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Address of the server.", metavar="URL")] = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", min=0, help="Give up after this many seconds.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deliver spooled records to the server, and wait until it has them durably."""
    settings = _settings(url)
    folders = _folders(directories, settings)
    report = _deliver(folders, settings, timeout_s, quiet=as_json or not sys.stderr.isatty())
    if as_json:
        print_json({**asdict(report), "unreadable": [str(path) for path in report.unreadable]})
    else:
        _say(report)
    if report.pending or report.unreadable:
        raise typer.Exit(1)


def _settings(url: str | None) -> NodeSettings:
    from runfold.node.settings import LOCAL_TARGET, NodeSettings

    settings = NodeSettings.from_env(os.environ, target=LOCAL_TARGET)
    return settings if url is None else replace(settings, url=url, redis_url=None)


def _folders(directories: list[Path] | None, settings: NodeSettings) -> list[Path]:
    if directories:
        for directory in directories:
            if not directory.is_dir():
                raise typer.BadParameter(f"{directory} is no directory", param_hint="DIRECTORIES")
        return directories
    if not settings.spool_root.is_dir():
        return []
    return sorted(path for path in settings.spool_root.iterdir() if path.is_dir())


def _deliver(
    folders: list[Path], settings: NodeSettings, timeout_s: float | None, *, quiet: bool
) -> DeliveryReport:
    from runfold.node.deliver import deliver_all
    from runfold.node.failures import LinkError

    try:
        if quiet:
            return deliver_all(folders, settings, timeout_s=timeout_s)
        with _Bar() as bar:
            return deliver_all(folders, settings, bar.show, timeout_s=timeout_s)
    except LinkError as error:
        raise CommError(
            f"no server took the records: {error}; nothing is lost, run it again later", error
        ) from error


class _Bar:
    """A progress bar on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("records"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task: Any = None

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, progress: DeliveryProgress) -> None:
        text = f"{progress.spools} spools"
        if self._task is None:
            self._task = self._progress.add_task(text, total=progress.records)
        self._progress.update(self._task, description=text, total=progress.records, completed=progress.acked)


def _say(report: DeliveryReport) -> None:
    if report.spools == 0 and not report.unreadable:
        sys.stdout.write("nothing to deliver\n")
        return
    sys.stdout.write(
        f"{report.spools} spools: {report.acked} of {report.records} records are stored, "
        f"{report.delivered} of them by this call\n"
    )
    if report.pending:
        sys.stdout.write(f"{report.pending} are still on their way: run `runfold sync` again\n")
    for path in report.unreadable:
        sys.stdout.write(f"not readable as a spool: {path}\n")

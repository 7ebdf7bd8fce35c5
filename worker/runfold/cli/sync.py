"""`runfold sync`: delivers what lies in spools, any number of times, with the same result."""

from __future__ import annotations

import os
import sys
import time
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
    from runfold.uploads.drain import UploadReport

#: How long it is asked after a delivery which of the runs were deleted, all of them together, seconds.
ASK_S = 10.0


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
    """Deliver spooled records and files to the server, and wait until it has them durably."""
    settings = _settings(url)
    folders = _folders(directories, settings)
    began_s = time.monotonic()
    report = _deliver(folders, settings, timeout_s, quiet=as_json or not sys.stderr.isatty())

    def left_s() -> float | None:
        return None if timeout_s is None else max(0.0, timeout_s - (time.monotonic() - began_s))

    uploads = _upload(folders, settings, left_s())
    hidden = _deleted_runs(folders, settings, left_s()) if report.acked else []
    if as_json:
        said = {**asdict(report), "unreadable": [str(path) for path in report.unreadable]}
        print_json({**said, "uploads": asdict(uploads), "deleted_runs": hidden})
    else:
        _say(report, uploads)
        for path in hidden:
            sys.stdout.write(
                f"run {path} was deleted, so this is hidden: `runfold undelete {path}` shows it\n"
            )
    if report.pending or report.unreadable or uploads.pending or uploads.failed:
        raise typer.Exit(1)


def _deleted_runs(folders: list[Path], settings: NodeSettings, patience_s: float | None) -> list[str]:
    """Return the paths of the runs in these folders that were deleted: who delivers late was not told yet."""
    from runfold.deleted_run import is_deleted
    from runfold.local_runs import identities_in

    found = {identity.run_path: identity for identity in identities_in(folders)}
    deadline_s = time.monotonic() + (ASK_S if patience_s is None else min(ASK_S, patience_s))
    hidden = []
    for path, identity in sorted(found.items()):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            break
        if is_deleted(settings, identity, patience_s=left_s):
            hidden.append(path)
    return hidden


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


def _upload(folders: list[Path], settings: NodeSettings, timeout_s: float | None) -> UploadReport:
    from runfold.uploads.drain import upload_all

    return upload_all(folders, settings, timeout_s=timeout_s)


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


def _say(report: DeliveryReport, uploads: UploadReport) -> None:
    _say_uploads(uploads)
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


def _say_uploads(uploads: UploadReport) -> None:
    if uploads.uploaded or uploads.pending or uploads.failed:
        sys.stdout.write(f"{uploads.uploaded} files and artifacts were uploaded\n")
    if uploads.pending:
        why = f": {uploads.trouble}" if uploads.trouble else ""
        sys.stdout.write(f"{uploads.pending} are not uploaded yet{why}; run `runfold sync` again\n")
    if uploads.failed:
        sys.stdout.write(f"{uploads.failed} were given up: their results in uploads/ tell why\n")

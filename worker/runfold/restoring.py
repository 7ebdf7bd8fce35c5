"""restore(): a file of a run, downloaded and open. In: its name. Out: an open file, or None."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from runfold.current_run import current_run
from runfold.errors import CommError, UsageError
from runfold.protocol.file_names import FileNameError
from runfold.safe_path import safe_path

if TYPE_CHECKING:
    import os

    from runfold.api import Api
    from runfold.run import Run


def restore(
    name: str,
    run_path: str | None = None,
    replace: bool = False,
    root: str | os.PathLike[str] | None = None,
    *,
    run: Run | None = None,
) -> TextIO | None:
    """Download a file of a run and return it open; a file that is there already is returned as it is.

    Args:
        run_path: "entity/project/run_id"; the current run by default.
        replace: Download it even if it is there.
        root: Where to; by default the run's folder, without a run the working directory.
        run: None: the current run.

    Returns:
        The file, open to read; None where the run has no such file.

    Raises:
        CommError: The server can't be reached, or knows no such run (then a ValueError too).
        UsageError: The run is offline, and no server is set or registered.
        ValueError: No run is named and none goes on; the file was saved and has not arrived; or no file may
            have this name.
    """
    run = run or current_run()
    if run_path is None and run is None:
        raise ValueError("run_path required when calling wandb.restore before wandb.init")
    folder = Path(root) if root is not None else Path(run.dir) if run is not None else Path.cwd()
    try:
        path = safe_path(folder.absolute(), name)
    except FileNameError as error:
        raise ValueError(str(error)) from error
    if path.exists() and not replace:
        return path.open()
    if run is not None and run.disabled:
        return None
    stored = _api_of(run).run(run_path or str(getattr(run, "path", "")))
    for found in stored.files(names=[name]):
        return found.download(root=folder, replace=True)
    for lost in stored.files(names=[name], state="failed"):
        raise ValueError(f"File {name} not found in {run_path or folder}: it will never come: {lost.error}")
    if stored.files(names=[name], state="pending"):
        raise ValueError(f"File {name} not found in {run_path or folder}: it was saved, and has not arrived")
    return None


def _api_of(run: Run | None) -> Api:
    """Return the reader of the server that the run is sent to; else of the one that is set."""
    from runfold.api import Api
    from runfold.node.connect import http_address

    if run is None:
        return Api()
    if run.offline:
        return _api_of_offline()
    node = run._membership.node  # noqa: SLF001  # ours
    return Api(http_address(node), node.api_key)


def _api_of_offline() -> Api:
    from runfold.api import Api

    api = Api()
    try:
        assert api.url
    except CommError as error:
        raise UsageError(f"an offline run has no server to restore files from: {error}") from error
    return api

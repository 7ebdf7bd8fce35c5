"""read_runs(cwd): the runs that a scenario stored, in the oracle's form, for runners in any process.

The runs go to one server, which is started at the first call and ends with the process. Two things are told as the
client would have said them (`as_recorded`), since a recording is of what it said, not of what a server shows; and
children that log into the run of a process belong to it (`with_children`), as the client has one log for all of them.
"""

from __future__ import annotations

import atexit
import functools
import tempfile
import threading
from pathlib import Path

from server_view import StoredRuns
from spool_view import runs_of, writers
from stored_form import StoredRun

from runfold.naming import readable_name

_one_at_a_time = threading.Lock()


def read_runs(cwd: str) -> list[StoredRun]:
    """Return the stored runs in the order in which they were made."""
    spools = writers(Path(cwd))
    with _one_at_a_time:
        stored = _stored_runs()
        stored.deliver(spools)
        return [as_recorded(run) for run in runs_of(spools, stored.read)]


def as_recorded(stored: StoredRun) -> StoredRun:
    """Return the run with its name and its output as a recording of the client has them.

    The client says no name where it was given none: a name that is made up (rule 10), which is a function of the
    id, is left out. A line of the process is two pieces, as print() writes it: its text, then the newline.
    """
    run = stored["run"]
    made_up = run["name"] == readable_name(run["id"])
    output: list[list[str]] = []
    for kind, text in stored["output"]:
        pieces = [text] if kind == "output_logger" else [text.removesuffix("\n"), "\n"]
        output += [[kind, piece] for piece in pieces if piece]
    return {**stored, "run": run | ({"name": ""} if made_up else {}), "output": output}


@functools.cache
def _stored_runs() -> StoredRuns:
    from runfold_coordinator.testing import LocalServer

    server = LocalServer().start()
    atexit.register(server.close)
    folder = tempfile.TemporaryDirectory(prefix="runfold-reader-")
    atexit.register(folder.cleanup)
    return StoredRuns(server.url, Path(folder.name))

"""read_runs(cwd): the runs that a scenario stored, in the oracle's form, for runners in any process.

The runs go to one server, which is started at the first call and ends with the process.
"""

from __future__ import annotations

import atexit
import functools
import tempfile
import threading
from pathlib import Path

from server_view import StoredRuns
from spool_view import writers
from stored_form import StoredRun

_one_at_a_time = threading.Lock()


def read_runs(cwd: str) -> list[StoredRun]:
    """Return the stored runs in the order in which they were made."""
    spools = writers(Path(cwd))
    with _one_at_a_time:
        stored = _stored_runs()
        stored.deliver(spools)
        return [stored.read(spool) for spool in spools]


@functools.cache
def _stored_runs() -> StoredRuns:
    from runfold_coordinator.testing import LocalServer

    server = LocalServer().start()
    atexit.register(server.close)
    folder = tempfile.TemporaryDirectory(prefix="runfold-reader-")
    atexit.register(folder.cleanup)
    return StoredRuns(server.url, Path(folder.name))

"""The public `Run`: a stored run read back over HTTP, with the names of W&B's public API and ours.

Its parts are the classes that it is made of, a file each: `run_document.py` is what all of them ask through.
"""

from __future__ import annotations

import time

from runfold.api.artifacts import RunArtifacts
from runfold.api.run_changes import RunChanges
from runfold.api.run_display import RunDisplay
from runfold.api.run_facts import TERMINAL_STATES, RunFacts
from runfold.api.run_history import RunHistory
from runfold.api.run_reports import RunReports
from runfold.api.run_stop import RunStop
from runfold.api.run_stored_files import RunStoredFiles
from runfold.api.verdicts import Verdicts


class Run(
    RunChanges,
    RunDisplay,
    RunFacts,
    RunHistory,
    RunReports,
    RunArtifacts,
    RunStop,
    RunStoredFiles,
    Verdicts,
):
    """One run. What was loaded stays as it was until `load(force=True)`. Not thread-safe.

    Attributes come with the run; `config`, `summary` and `history_keys` are fetched when first read if the
    run came from a list. Whatever asks the server raises CommError when no answer comes; of its subclasses
    AuthenticationError for a wrong key, RunNotFoundError for a run that is gone, RequestError (a ValueError
    too) for a wrong argument.
    """

    def __repr__(self) -> str:
        return f"<Run {'/'.join(self.path)} ({self._document['state']})>"

    def wait_until_finished(self, *, timeout_s: float | None = None, poll_interval_s: float = 1.0) -> None:
        """Return when the run has ended, in whatever way; then everything is loaded anew.

        Raises:
            CommError: The server did not answer, after some patience.
            TimeoutError: It goes on after `timeout_s` seconds.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._connection.get(self._route())["state"] not in TERMINAL_STATES:
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise TimeoutError(f"{'/'.join(self.path)} has not ended within {timeout_s:g} s")
            time.sleep(poll_interval_s)
        self.load(force=True)

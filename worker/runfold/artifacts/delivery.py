"""Delivery: a logged artifact on its way to be a version. In: the outbox, the server. Out: its document."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from runfold.api.connection import Connection
from runfold.api.errors import NotFoundError
from runfold.api.paths import route
from runfold.artifacts.errors import WaitTimeoutError
from runfold.errors import CommError
from runfold.uploads.outbox import Outbox

Document = dict[str, Any]

_POLL_OUTBOX_S = 0.05
_POLL_SERVER_S = 0.5
#: The agent is asked for so often meanwhile: it may have died.
_CALL_AGENT_EVERY_S = 1.0
#: The server is asked about a part at most this often by properties.
_ASK_AGAIN_S = 1.0


class Delivery:
    """Knows where to look for what became of one job. Thread-safe."""

    def __init__(
        self,
        outbox: Outbox,
        job_id: str,
        client_id: str,
        *,
        is_part: bool,
        connect: Callable[[], Connection],
        call_agent: Callable[[], object],
    ) -> None:
        """Look at nothing yet.

        Args:
            is_part: Others finish the version: waiting ends when this part is there.
            connect: Returns the server's connection; CommError where none is known.
        """
        self._outbox, self._job_id, self._client_id = outbox, job_id, client_id
        self._is_part = is_part
        self._connect = connect
        self._call_agent = call_agent
        self._asked_mono_s = -_ASK_AGAIN_S

    def look(self) -> Document | None:
        """Return the version's document if it is one by now.

        Raises:
            ValueError: It will never be one; the message says why.
        """
        found = self._of_the_job()
        if found is None or found["state"] == "committed":
            return found
        now = time.monotonic()
        if now - self._asked_mono_s < _ASK_AGAIN_S:
            return None
        self._asked_mono_s = now
        try:
            found = self._of_the_server()
        except CommError:
            return None
        return found if found is not None and found["state"] == "committed" else None

    def wait(self, timeout_s: float | None) -> Document | None:
        """Wait until it is a version, and return its document; None for a part that others will finish.

        Raises:
            WaitTimeoutError: It took longer. ValueError: It will never be one. CommError: No server is known.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        look_after_s = 0.0
        while True:
            now = time.monotonic()
            found = self._of_the_job()
            if found is None and now >= look_after_s:
                look_after_s = now + _CALL_AGENT_EVERY_S
                self._call_agent()
                if self._is_forgotten():
                    found = self._of_the_server()
                    if found is None or found["state"] == "said":
                        raise ValueError("the artifact was not kept: nobody knows of its upload any more")
            if found is not None and found["state"] != "committed" and not self._is_part:
                found = self._of_the_server()
            if found is not None and found["state"] == "committed":
                return found
            if found is not None and self._is_part:
                return None
            if deadline is not None and now >= deadline:
                raise WaitTimeoutError(
                    "Artifact upload wait timed out, failed to fetch Artifact response; the upload goes on"
                )
            pause_s = _POLL_OUTBOX_S if found is None else _POLL_SERVER_S
            time.sleep(pause_s if deadline is None else max(0.0, min(pause_s, deadline - now)))

    def connection(self) -> Connection:
        """Return the server's connection. CommError where none is known."""
        return self._connect()

    def _of_the_job(self) -> Document | None:
        """Return what the server answered to the upload; None while there is no answer."""
        result = self._outbox.result(self._job_id)
        if result is None:
            return None
        if result.error is not None:
            raise ValueError(f"the artifact was not kept: {result.error}")
        found: Document = result.document["artifact"]
        return found

    def _is_forgotten(self) -> bool:
        """Say whether the job is gone with its result: results are kept for a day."""
        return self._job_id not in self._outbox.ids() and self._outbox.result(self._job_id) is None

    def _of_the_server(self) -> Document | None:
        try:
            found: Document = self._connect().get(route("artifacts", "by-client", self._client_id))[
                "artifact"
            ]
        except NotFoundError:
            return None
        if found["state"] in ("failed", "deleted"):
            raise ValueError(f"the artifact is {found['state']}: {found.get('error') or 'it was deleted'}")
        return found

"""RunStop: ends the processes of a run that goes on. Part of Run."""

from __future__ import annotations

import getpass
import math
import operator
import os
import socket
from typing import Any

from runfold.api.errors import RequestError
from runfold.api.run_document import RunDocument


class RunStop(RunDocument):
    """Stop requests, and what became of them."""

    def stop(self, grace_s: float = 30.0, *, ranks: list[int] | None = None) -> dict[str, Any]:
        """Ask the run's processes to end: SIGTERM now, SIGKILL after `grace_s`. Returns without waiting.

        The node's agent sends the signals. A launcher that would start the processes again (torchrun) gets
        SIGTERM first and passes it on. Asking again with a shorter grace shortens it; a longer one changes
        nothing. Then the run reads killed, and by whom.

        Args:
            grace_s: 0 (SIGKILL at once) to 86,400 seconds.
            ranks: Only processes of these ranks; a launcher may start them again.

        Returns:
            request (its id), by, grace_s, is_new (False: it was asked for before), writers (a dict each of
            writer, rank, label, host) that were asked.

        Raises:
            RunEndedError: All of them have ended.
            RequestError: (a ValueError) `grace_s` or `ranks` is not what it should be.
        """
        body: dict[str, Any] = {"grace_s": _seconds(grace_s), "by": _me()}
        if ranks is not None:
            body["ranks"] = [operator.index(rank) for rank in ranks]
        found: dict[str, Any] = self._connection.post(self._route("stop"), body)
        return found

    def stop_requests(self) -> list[dict[str, Any]]:
        """Return what was asked of the run's processes, as of now, oldest first, a dict each.

        request, by, grace_s, whole (all of the run), asked_unix_s; writers: a dict each of writer, rank,
        label, host, state, signals (signum, to, unix_s: what their agent sent) and refused (why it did not,
        or None).
        """
        found: list[dict[str, Any]] = self._connection.get(self._route("stop"))["requests"]
        return found


def _me() -> str:
    """Return user@host of this process; where it has no name, its number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _seconds(value: float) -> float:
    """Return a JSON number. Raises RequestError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RequestError(f"grace_s is {value!r}; it should be a number of seconds", field="grace_s")
    return value

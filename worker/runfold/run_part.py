"""RunPart: what the classes that Run is made of have in common."""

from __future__ import annotations

import threading

from runfold.joining import Membership
from runfold.protocol.identity import Identity
from runfold.recorder import Recorder
from runfold.run_spool import RunSpool
from runfold.settings import Settings


class RunPart:
    """One part. What it overrides of these it calls by super() too: the other parts have their own."""

    _membership: Membership
    _settings: Settings
    _recorder: Recorder
    _spool: RunSpool
    #: Set when this process's part is over.
    _is_over: threading.Event

    def _on_open(self, identity: Identity) -> None:
        """A spool was opened: at the beginning, and in each child that goes on with the run."""

    def reset_after_fork(self) -> None:
        """This is the child of a fork: it becomes a writer of its own when it says something.

        The parent's other threads may have held any lock, and did not come along.
        """

    def _before_end(self) -> None:
        """This process's part is about to be over: what is still to be said is said now."""

    def _wait(self, *, quiet: bool = False, since_mono_s: float | None = None) -> None:
        """Wait for what was said to be delivered, as long as settings allow since then."""

    def _leave(self, code: int | None = 0) -> None:
        """This process's part is over; what it said may still have to be delivered."""

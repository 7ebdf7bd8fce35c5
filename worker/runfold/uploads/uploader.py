"""Uploader: works off an outbox with threads of its own. In: jobs as files, word of processes that ended.
Out: blobs, files and artifacts on the server, results in the outbox.

One thread plans (`planner.py`), the others carry (`carrier.py`); `shared_board.py` is what they share.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from runfold.uploads.artifact_upload import upload_artifact
from runfold.uploads.carrier import Carrier
from runfold.uploads.failures import TryLaterError
from runfold.uploads.jobs import AnyJob
from runfold.uploads.outbox import Outbox
from runfold.uploads.planner import Planner
from runfold.uploads.shared_board import SharedBoard
from runfold.uploads.transfer import BlobClient
from runfold.uploads.upload_settings import UploadSettings

logger = logging.getLogger(__name__)

#: The outbox is looked at this often.
LOOK_EVERY_S = 0.25
#: Seconds of rest for a second of looking: a hundred thousand jobs take their time.
REST_RATIO = 4.0
#: How long `stop` waits for the threads, which are in the middle of something.
STOP_S = 2.0


class Uploader:
    """Works off one outbox. `start` and `stop` are for one thread, the rest is for any."""

    def __init__(
        self,
        outbox: Outbox,
        address: Callable[[], str | None],
        settings: UploadSettings,
        *,
        is_mine: Callable[[AnyJob], bool] = lambda _: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is read or started before `start`.

        Args:
            address: Returns the server's HTTP address as it is known now; None while none is known.
            is_mine: Whether a job is to be worked off here. Asked again later when it is not.
        """
        self._address = address
        self._settings = settings
        #: address -> client; more than one only where the server moved
        self._clients: dict[str, BlobClient] = {}
        self._threads: list[threading.Thread] = []
        self.shared = SharedBoard(most_artifacts=max(1, settings.threads - 1), clock=clock)
        self._planner = Planner(self.shared, outbox, is_mine)
        self._carrier = Carrier(
            self.shared, outbox, self._connect, upload_artifact, live_interval_s=settings.live_interval_s
        )

    def start(self) -> None:
        """Start the threads; harmless when they run."""
        if not self._threads and not self.shared.stopping.is_set():
            self._threads = [threading.Thread(target=self._plan, name="runfold-uploads", daemon=True)]
            self._threads += [
                threading.Thread(target=self._carry, name=f"runfold-upload-{number}", daemon=True)
                for number in range(self._settings.threads)
            ]
            for thread in self._threads:
                thread.start()

    def stop(self) -> None:
        """End the threads, soon: what is under way is gone on from by whoever comes next. Idempotent."""
        self.shared.stop()
        with self.shared.turn:
            clients = list(self._clients.values())
        for client in clients:
            client.close()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def has_looked(self) -> bool:
        """The outbox was looked into: before, it is not known what there is to do."""
        return self._planner.has_looked

    @property
    def unfinished_count(self) -> int:
        """Jobs that wait or are under way, but for those that watch a live process's files."""
        with self.shared.turn:
            return self.shared.board.unfinished_count

    def look(self) -> None:
        """Look for jobs now, in the caller's thread: only before `start`."""
        self._planner.look()

    def watched_writers(self) -> set[str]:
        """Return the writers whose end is waited for."""
        return self._planner.watched_writers()

    def tell_ended(self, writers: Iterable[str]) -> None:
        """These will write no more: their files are uploaded a last time."""
        self._planner.tell_ended(writers)

    def _plan(self) -> None:
        while not self.shared.stopping.is_set():
            began_s = time.monotonic()
            try:
                self._planner.look()
            except Exception:
                logger.exception("a fault in planning uploads", extra={"event": "upload_fault"})
            took_s = time.monotonic() - began_s
            self.shared.stopping.wait(max(LOOK_EVERY_S, REST_RATIO * took_s))

    def _carry(self) -> None:
        while not self.shared.stopping.is_set():
            work = self.shared.take()
            if work:
                self._carrier.carry(work)

    def _connect(self) -> BlobClient:
        url = self._address()
        if url is None:
            raise TryLaterError("no HTTP address of a server is known: set RUNFOLD_URL, or start one here")
        with self.shared.turn:
            if url not in self._clients:
                self._clients[url] = BlobClient(
                    url,
                    self._settings.api_key,
                    patience_s=self._settings.patience_s,
                    stop=self.shared.stopping,
                    connections=4 * self._settings.threads,
                    on_bytes=lambda _: self.shared.heard(),
                )
            return self._clients[url]

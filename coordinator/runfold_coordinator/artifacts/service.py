"""Artifacts as a part of the service: takes commits and changes, and a thread that does what is due."""

from __future__ import annotations

import logging
import threading

from runfold_coordinator.artifacts.committing import Committer
from runfold_coordinator.artifacts.deleting import Deleter
from runfold_coordinator.artifacts.editing import Editor
from runfold_coordinator.artifacts.participants import Heads, Participants
from runfold_coordinator.artifacts.roots import ArtifactRoots
from runfold_coordinator.artifacts.settling import Settler
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.clock import Clock
from runfold_coordinator.readers.artifact_collections_reader import CollectionsReader
from runfold_coordinator.readers.artifacts_reader import ArtifactsReader
from runfold_coordinator.store.errors import StoreError
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

#: Distributed versions are looked at this often; at once when a part has come.
SETTLE_EVERY_S = 1.0
#: Old versions are looked for this often.
SWEEP_EVERY_S = 60.0
RETRY_S = 10.0


class Artifacts:
    """What routes and other parts need: `committer`, `editor`, `deleter`, the readers, `roots`."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, heads: Heads) -> None:
        self.committer = Committer(store, blobs, clock, on_part=self.look)
        self.editor = Editor(store, clock)
        self.deleter = Deleter(store, clock)
        self.reader = ArtifactsReader(store, blobs)
        self.collections = CollectionsReader(store)
        self.roots = ArtifactRoots(store, blobs)
        self.settler = Settler(store, blobs, clock, Participants(store, clock, heads))
        self.clock = clock
        self._next_sweep_s = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runfold-artifacts", daemon=True)

    def start(self) -> None:
        """Begin to close distributed versions and to remove old ones."""
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """End after the step in work; idempotent."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def look(self) -> None:
        """Look at distributed versions at once."""
        self._wake.set()

    def turn(self) -> None:
        """Do what is due."""
        self.settler.turn()
        if self.clock.mono_s() >= self._next_sweep_s:
            more = self.deleter.expire()
            self.deleter.purge()
            self.deleter.give_up_unfinished()
            if not more:
                self._next_sweep_s = self.clock.mono_s() + SWEEP_EVERY_S

    def _run(self) -> None:
        wait_s = SETTLE_EVERY_S
        while True:
            self._wake.wait(wait_s)
            self._wake.clear()
            if self._stopping.is_set():
                return
            wait_s = SETTLE_EVERY_S
            try:
                self.turn()
            except StoreError as error:
                logger.warning("artifacts wait", extra={"event": "artifacts", "why": str(error)})
                wait_s = RETRY_S
            except Exception:
                logger.exception("a turn of artifacts failed", extra={"event": "artifacts_failed"})
                wait_s = RETRY_S

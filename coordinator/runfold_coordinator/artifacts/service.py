"""Artifacts as a part of the service: takes commits and changes, and a thread that does what is due."""

from __future__ import annotations

from pathlib import Path

from runfold_coordinator.artifacts.committing import Committer
from runfold_coordinator.artifacts.deleting import Deleter
from runfold_coordinator.artifacts.digest_log import DigestLog
from runfold_coordinator.artifacts.editing import Editor
from runfold_coordinator.artifacts.participants import Heads, Participants
from runfold_coordinator.artifacts.roots import ArtifactRoots
from runfold_coordinator.artifacts.settling import Settler
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.clock import Clock
from runfold_coordinator.readers.artifact_collections_reader import CollectionsReader
from runfold_coordinator.readers.artifacts_reader import ArtifactsReader
from runfold_coordinator.store.store import Store
from runfold_coordinator.turn_loop import Due, TurnLoop

#: Distributed versions are looked at this often; at once when a part has come.
SETTLE_EVERY_S = 1.0
#: Old versions are looked for this often.
SWEEP_EVERY_S = 60.0


class Artifacts:
    """What routes and other parts need: `committer`, `editor`, `deleter`, the readers, `roots`."""

    def __init__(
        self, store: Store, blobs: Blobs, clock: Clock, heads: Heads, *, digest_log: Path | None = None
    ) -> None:
        """Take what it works with.

        Args:
            digest_log: File that keeps what manifests name; None: the collector reads all of them each time.
        """
        self.committer = Committer(store, blobs, clock, on_part=self.look)
        self.editor = Editor(store, clock)
        self.deleter = Deleter(store, clock)
        self.reader = ArtifactsReader(store, blobs)
        self.collections = CollectionsReader(store)
        self.roots = ArtifactRoots(store, blobs, DigestLog(digest_log) if digest_log else None)
        self.settler = Settler(store, blobs, clock, Participants(store, clock, heads))
        self.clock = clock
        self._sweep = Due(SWEEP_EVERY_S)
        self._loop = TurnLoop("artifacts", self._take, fault_retry_s=10.0)

    def start(self) -> None:
        """Begin to close distributed versions and to remove old ones."""
        self._loop.start()

    def stop(self) -> None:
        """End after the step in work; idempotent."""
        self._loop.stop()

    def look(self) -> None:
        """Look at distributed versions at once."""
        self._loop.wake()

    def turn(self) -> None:
        """Do what is due."""
        self.settler.turn()
        if self._sweep.is_due(self.clock.mono_s()):
            more = self.deleter.expire()
            self.deleter.purge()
            self.deleter.give_up_unfinished()
            self._sweep.done(self.clock.mono_s(), more=more > 0)

    def _take(self) -> float:
        self.turn()
        return SETTLE_EVERY_S

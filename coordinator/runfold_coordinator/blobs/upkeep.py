"""The thread that looks after blobs: old uploads, what nobody refers to, orphans, damage."""

from __future__ import annotations

from collections.abc import Callable

from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.collector import Collector
from runfold_coordinator.blobs.errors import BlobError
from runfold_coordinator.blobs.orphans import Orphans
from runfold_coordinator.blobs.places import SHARDS
from runfold_coordinator.blobs.scrubber import REMOTE_BYTES_A_DAY, Scrubber
from runfold_coordinator.blobs.uploads import Uploads
from runfold_coordinator.clock import Clock
from runfold_coordinator.store.errors import StoreError, StoreFullError
from runfold_coordinator.store.store import Store
from runfold_coordinator.turn_loop import Due, TurnLoop

TURN_EVERY_S = 5.0
#: After a failure it is tried again as late as this.
RETRY_S = 60.0
UPLOADS_EVERY_S = 600.0
#: A pass of the collector; more often where the minimum age is less.
COLLECT_EVERY_S = 3600.0
#: After a pass so many times as long passes at least, beside that.
COLLECT_REST = 20.0
#: All shards are looked through for orphans.
ORPHANS_EVERY_S = 86400.0


class Upkeep:
    """Runs until stop(). A thread of its own: an object store that is slow holds up nobody else."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        uploads: Uploads,
        collector: Collector,
        clock: Clock,
        *,
        free_ballast: Callable[[], None] = lambda: None,
        scrub_bytes_a_day: int = REMOTE_BYTES_A_DAY,
    ) -> None:
        self._uploads = uploads
        self._collector = collector
        self._clock = clock
        self._free_ballast = free_ballast
        self._orphans = Orphans(store, blobs, clock)
        self._scrubber = Scrubber(store, blobs, clock, remote_bytes_a_day=scrub_bytes_a_day)
        self._collect_every_s = min(COLLECT_EVERY_S, max(1.0, blobs.min_age_s / 2))
        first_s = clock.mono_s() + self._collect_every_s
        self._old_uploads = Due(UPLOADS_EVERY_S)
        self._collect = Due(self._collect_every_s, first_s=first_s)
        self._next_shard = Due(ORPHANS_EVERY_S / len(SHARDS), first_s=first_s)
        self._shard = 0
        self._loop = TurnLoop(
            "blobs", self._take, waits_for=(StoreError, BlobError, OSError), retry_s=RETRY_S
        )

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """End after the step in work; idempotent."""
        self._loop.stop()

    def turn(self) -> None:
        """Do what is due."""
        now_s = self._clock.mono_s()
        if self._old_uploads.is_due(now_s):
            self._uploads.remove_old(self._clock.unix_s())
            self._old_uploads.done(now_s)
        if self._next_shard.is_due(now_s):
            self._orphans.remove(SHARDS[self._shard])
            self._shard = (self._shard + 1) % len(SHARDS)
            self._next_shard.done(now_s)
        self._scrubber.turn(self._loop.is_stopping)
        # At the end: a manifest that can't be read fails each pass, and damage is to be found all the same.
        if self._collect.is_due(now_s):
            began_s = self._clock.mono_s()
            self._collector.collect(self._loop.is_stopping)
            # With very many files a pass takes minutes: the next one then is later.
            now_s = self._clock.mono_s()
            self._collect.done(now_s + COLLECT_REST * (now_s - began_s))

    def _take(self) -> float:
        try:
            self.turn()
        except StoreFullError:
            # Even removing takes space in a database: give the reserve up, for this makes room.
            self._free_ballast()
        return min(TURN_EVERY_S, self._collect_every_s)

"""The thread that looks after blobs: old uploads, what nobody refers to, orphans, damage."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.collector import Collector
from runfold_coordinator.blobs.errors import BlobError
from runfold_coordinator.blobs.orphans import Orphans
from runfold_coordinator.blobs.places import SHARDS
from runfold_coordinator.blobs.scrubber import Scrubber
from runfold_coordinator.blobs.uploads import Uploads
from runfold_coordinator.clock import Clock
from runfold_coordinator.store.errors import StoreError, StoreFullError
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

TURN_EVERY_S = 5.0
#: After a failure it is tried again as late as this.
RETRY_S = 60.0
UPLOADS_EVERY_S = 600.0
#: A pass of the collector; more often where the minimum age is less.
COLLECT_EVERY_S = 3600.0
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
    ) -> None:
        self._uploads = uploads
        self._collector = collector
        self._clock = clock
        self._free_ballast = free_ballast
        self._orphans = Orphans(store, blobs, clock)
        self._scrubber = Scrubber(store, blobs, clock)
        self._collect_every_s = min(COLLECT_EVERY_S, max(1.0, blobs.min_age_s / 2))
        self._next_uploads_s = 0.0
        self._next_collect_s = clock.mono_s() + self._collect_every_s
        self._next_shard_s = clock.mono_s() + self._collect_every_s
        self._shard = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runfold-blobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """End after the step in work; idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def turn(self) -> None:
        """Do what is due."""
        now_s = self._clock.mono_s()
        if now_s >= self._next_uploads_s:
            self._uploads.remove_old(self._clock.unix_s())
            self._next_uploads_s = now_s + UPLOADS_EVERY_S
        if now_s >= self._next_collect_s:
            self._collector.collect(self._stopping.is_set)
            self._next_collect_s = now_s + self._collect_every_s
        if now_s >= self._next_shard_s:
            self._orphans.remove(SHARDS[self._shard])
            self._shard = (self._shard + 1) % len(SHARDS)
            self._next_shard_s = now_s + ORPHANS_EVERY_S / len(SHARDS)
        self._scrubber.turn(self._stopping.is_set)

    def _run(self) -> None:
        wait_s = TURN_EVERY_S
        while not self._stopping.wait(min(wait_s, self._collect_every_s)):
            wait_s = TURN_EVERY_S
            try:
                self.turn()
            except StoreFullError:
                # Even removing takes space in a database: give the reserve up, for this makes room.
                self._free_ballast()
            except (StoreError, BlobError, OSError) as error:
                logger.warning("blobs wait", extra={"event": "blob_upkeep", "why": str(error)})
                wait_s = RETRY_S
            except Exception:
                logger.exception("upkeep of blobs failed", extra={"event": "blob_upkeep_failed"})
                wait_s = RETRY_S

"""What runs have beside their records, put together: blobs, the files of runs, artifacts."""

from __future__ import annotations

from runfold_coordinator.artifacts.participants import Heads
from runfold_coordinator.artifacts.service import Artifacts
from runfold_coordinator.ballast import Ballast
from runfold_coordinator.blobs.service import BlobService
from runfold_coordinator.clock import Clock
from runfold_coordinator.run_files import RunFiles
from runfold_coordinator.settings import CoordinatorSettings
from runfold_coordinator.store.store import Store

#: Uploads leave so many times the ballast free: the database goes on, and the ballast can come back.
KEPT_FREE_BALLASTS = 2


class Content:
    """What routes and other parts need: `blobs`, `files`, `artifacts`."""

    def __init__(
        self, store: Store, clock: Clock, settings: CoordinatorSettings, ballast: Ballast, heads: Heads
    ) -> None:
        """Open. Nothing is removed yet.

        Raises:
            ValueError, StoreRefusedError, OSError: The blobs can't be used as they are.
        """
        self.blobs = BlobService(
            store,
            clock,
            settings.blobs_url,
            settings.data_dir,
            min_age_s=settings.blob_min_age_s,
            scrub_bytes_a_day=settings.blob_scrub_bytes,
            keep_free_bytes=KEPT_FREE_BALLASTS * settings.ballast_bytes,
            free_ballast=ballast.free,
        )
        blobs = self.blobs.blobs
        self.files = RunFiles(store, blobs, clock)
        self.artifacts = Artifacts(
            store, blobs, clock, heads, digest_log=settings.data_dir / "manifest-digests"
        )
        self.blobs.collector.add_roots(self.files.roots)
        self.blobs.collector.add_root_numbers(self.artifacts.roots.numbers)

    def start(self) -> None:
        """Begin to look after them."""
        self.blobs.start()
        self.artifacts.start()

    def stop(self) -> None:
        """End. Idempotent."""
        self.artifacts.stop()
        self.blobs.stop()

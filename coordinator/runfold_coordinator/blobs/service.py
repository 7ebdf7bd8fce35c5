"""The blob store as a part of the service: opens the place, holds uploads, collector and upkeep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.collector import Collector
from runfold_coordinator.blobs.places import LocalPlace, Place
from runfold_coordinator.blobs.remote_place import RemotePlace
from runfold_coordinator.blobs.scrubber import REMOTE_BYTES_A_DAY
from runfold_coordinator.blobs.upkeep import Upkeep
from runfold_coordinator.blobs.uploads import Uploads
from runfold_coordinator.clock import Clock
from runfold_coordinator.store.errors import StoreRefusedError
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.store import Store


class BlobService:
    """What routes and other parts need: `blobs`, `uploads`, `collector`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        url: str | None,
        data_dir: Path,
        *,
        min_age_s: float,
        keep_free_bytes: int = 0,
        scrub_bytes_a_day: int = REMOTE_BYTES_A_DAY,
        free_ballast: Callable[[], None] = lambda: None,
    ) -> None:
        """Open.

        Raises:
            ValueError, StoreRefusedError, OSError: It can't be used as it is; the message tells the way out.
        """
        self.blobs = Blobs(store, open_place(url, data_dir, store), clock, min_age_s=min_age_s)
        self.uploads = Uploads(self.blobs, keep_free_bytes=keep_free_bytes)
        self.collector = Collector(store, self.blobs)
        self._upkeep = Upkeep(
            store,
            self.blobs,
            self.uploads,
            self.collector,
            clock,
            free_ballast=free_ballast,
            scrub_bytes_a_day=scrub_bytes_a_day,
        )

    def start(self) -> None:
        """Begin to look after the blobs; call when every part has added its roots."""
        self._upkeep.start()

    def stop(self) -> None:
        """End. Idempotent; uploads go on where they are after the next start."""
        self._upkeep.stop()
        self.blobs.place.close()
        self.uploads.close()


def open_place(url: str | None, data_dir: Path, store: Store) -> Place:
    """Open where the blobs of this database lie: below `url`, in a folder that has the database's name.

    Two databases may so share a folder or a bucket. None: `blobs` in the data directory.

    Raises:
        ValueError, StoreRefusedError, OSError: It can't be used as it is.
    """
    where = url or str(data_dir / "blobs")
    scheme, found, path = where.partition("://")
    if found and scheme not in ("file", "local"):
        return RemotePlace(f"{where.rstrip('/')}/{store.server_id}", data_dir / "blob-spool")
    root = Path(path if found else where).expanduser().resolve() / store.server_id
    if not root.is_dir() and store.fetch(sa.select(b.c.digest).limit(1)):
        raise StoreRefusedError(
            f"the blobs of this database are not in {root.parent}: start with the --blobs that they are in, "
            f"or move the folder {store.server_id} there"
        )
    return LocalPlace(root)

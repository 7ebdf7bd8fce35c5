"""Pages of manifests: what was read once is not read again to come to a later page.

In: the digest of a manifest's blob and a name. Out: its entries from there on. While entries pass, some of
their places are remembered (a sparse index, in memory only): manifests never change, so it never grows old.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Collection, Generator
from dataclasses import dataclass, field

from runfold.protocol.manifest import Entry
from runfold_coordinator.artifacts.manifest_stream import Mark, read_entries
from runfold_coordinator.blobs.blobs import Blobs

#: Memory for places, of all manifests together; the manifests that were read longest ago are forgotten first.
MOST_BYTES = 16 * 1024 * 1024
#: A place less its name.
_MARK_BYTES = 120


@dataclass(slots=True)
class _Places:
    """Places in one manifest, in order, without a hole between the first and the last."""

    names: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    byte_count: int = 0

    def before(self, name: str) -> Mark | None:
        """Return the last place that `name` comes after."""
        at = bisect_left(self.names, name)
        return self.marks[at - 1] if at else None


class ManifestPages:
    """Thread-safe."""

    def __init__(self, blobs: Blobs, *, most_bytes: int = MOST_BYTES) -> None:
        self._blobs = blobs
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._byte_count = 0
        self._known: OrderedDict[str, _Places] = OrderedDict()

    def entries(self, manifest: str, first: str = "") -> Generator[tuple[str, Entry], None, None]:
        """Yield the entries whose names are `first` or come after it, by name.

        Raises:
            BlobError, OSError: The manifest can't be read now.
            ProtocolError: It is none.
        """
        since = self._before(manifest, first)
        with self._blobs.open(manifest) as file:
            if since is not None:
                file.seek(since.position)
            for name, entry in read_entries(
                file, since=since, on_mark=lambda mark: self._remember(manifest, mark)
            ):
                if name >= first:
                    yield name, entry

    def chosen(self, manifest: str, names: Collection[str]) -> Generator[tuple[str, Entry], None, None]:
        """Yield the entries of these names that there are, by name. Raises as `entries` does."""
        waiting = deque(sorted(set(names)))
        while waiting:
            for name, entry in self.entries(manifest, waiting[0]):
                if name < waiting[0]:
                    continue
                while waiting and waiting[0] < name:
                    waiting.popleft()  # there is none of this name
                if waiting and waiting[0] == name:
                    waiting.popleft()
                    yield name, entry
                if not waiting:
                    return
                following = self._before(manifest, waiting[0])
                if following is not None and following.name > name:
                    break  # from there it is less to read
            else:
                return

    def _before(self, manifest: str, name: str) -> Mark | None:
        with self._lock:
            places = self._known.get(manifest)
            if places is None:
                return None
            self._known.move_to_end(manifest)
            return places.before(name)

    def _remember(self, manifest: str, mark: Mark) -> None:
        size = len(mark.name.encode()) + _MARK_BYTES
        with self._lock:
            places = self._known.setdefault(manifest, _Places())
            if places.names and mark.name <= places.names[-1]:
                return  # somebody else came by here
            places.names.append(mark.name)
            places.marks.append(mark)
            places.byte_count += size
            self._byte_count += size
            while self._byte_count > self._most_bytes:
                _, gone = self._known.popitem(last=False)
                self._byte_count -= gone.byte_count

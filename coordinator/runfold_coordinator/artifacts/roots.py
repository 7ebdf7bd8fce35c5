"""Which blobs artifacts refer to, for the collector: a manifest at a time, each read once (digest_log.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from runfold_coordinator.artifacts.digest_log import DigestLog
from runfold_coordinator.artifacts.manifest_stream import Readable, read_entries
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.collector import Numbers, numbers_of
from runfold_coordinator.blobs.errors import BlobMissingError
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store.store import Store

_PAGE = 1000
_v = at.artifact_versions.c
_d = at.artifact_drafts.c


class ArtifactRoots:
    """Yields digests; a manifest that can't be read ends it with an error, for what it names is not known."""

    def __init__(self, store: Store, blobs: Blobs, cache: DigestLog | None = None) -> None:
        """Take the parts; `cache` keeps what manifests name, so that each is read once."""
        self._store = store
        self._blobs = blobs
        self._cache = cache

    def __call__(self) -> Iterator[str]:
        """Yield the digests of all manifests that are kept, and of what they name.

        Raises:
            BlobError, OSError, ProtocolError, StoreUnavailableError: Not all of them are known.
        """
        for manifest in self._manifests():
            yield manifest
            yield from self._named(manifest)

    def numbers(self) -> Iterator[Numbers]:
        """Yield the same as numbers, a manifest at a time. Raises as the call does."""
        manifests = set(self._manifests())
        yield numbers_of(manifests)
        if self._cache is None:
            yield from (numbers_of(self._named(manifest)) for manifest in manifests)
        else:
            yield from self._cache.read(manifests, self._named)

    def _named(self, manifest: str) -> Iterator[str]:
        total = hashlib.sha256()
        with self._blobs.open(manifest) as file:
            for _, entry in read_entries(_Passing(file, total.update)):
                if entry.ref is None:
                    yield entry.blob
        if total.hexdigest() != manifest:  # on a disk that fails, the name of a blob may be another's by now
            raise BlobMissingError(manifest, is_damaged=True)

    def _manifests(self) -> Iterator[str]:
        """Parts first: one that becomes a version meanwhile is met as that.

        Parts of an incomplete version are kept beside it: it may be made anew, on another version's files.
        """
        parts = sa.select(_d.client_id, _d.manifest).where(_d.manifest.is_not(None))
        waiting = parts.where(_d.version_pk.is_(None), _d.error.is_(None))
        incomplete = parts.join(at.artifact_versions, _v.version_pk == _d.version_pk).where(
            _v.incomplete.is_not(None), _v.manifest.is_not(None)
        )
        for chosen in (waiting, incomplete):
            last = ""
            while True:
                rows = self._store.fetch(
                    chosen.where(_d.client_id > last).order_by(_d.client_id).limit(_PAGE)
                )
                for row in rows:
                    yield row.manifest
                if len(rows) < _PAGE:
                    break
                last = rows[-1].client_id
        last_pk, known = 0, ""
        while True:
            rows = self._store.fetch(
                sa.select(_v.version_pk, _v.manifest)
                .where(_v.version_pk > last_pk, _v.manifest.is_not(None))
                .order_by(_v.version_pk)
                .limit(_PAGE)
            )
            for row in rows:
                if row.manifest != known:
                    yield row.manifest
                known = row.manifest
            if len(rows) < _PAGE:
                return
            last_pk = rows[-1].version_pk


class _Passing:
    """A file that shows somebody the bytes that are read."""

    def __init__(self, file: Readable, show: Callable[[bytes], None]) -> None:
        self._file = file
        self._show = show

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._show(data)
        return data

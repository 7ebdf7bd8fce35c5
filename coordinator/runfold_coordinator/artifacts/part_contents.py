"""What the parts of a version are together: a manifest, or why there is none.

In: drafts whose files are here. Out: the merged manifest, added to the latest version where a part says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold.protocol.errors import ProtocolError
from runfold_coordinator.artifacts.draft_rows import as_draft
from runfold_coordinator.artifacts.merge import PathConflictError
from runfold_coordinator.artifacts.part_merge import Merged, merge_manifests, overlay_manifests, parts_with
from runfold_coordinator.artifacts.participants import Participants, Teller
from runfold_coordinator.artifacts.versions import latest_manifest
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store.store import Store


@dataclass(frozen=True, slots=True)
class Content:
    """What a version is made of: the manifest of its parts, or why there is none."""

    merged: Merged | None
    why: str | None = None
    #: Whether the parts were added to `base`, the latest version's manifest; None: there was no version.
    is_added: bool = False
    base: str | None = None


class PartContents:
    """Reads and merges. Nothing is written but the blob of the merged manifest."""

    def __init__(self, store: Store, blobs: Blobs, participants: Participants) -> None:
        self._store = store
        self._blobs = blobs
        self._participants = participants

    def of(self, key: tuple[str, ...], arrived: Sequence[Any]) -> Content:
        """Return what these parts of a set (entity, project, name, ...) are together.

        Raises:
            BlobError, OSError, StoreUnavailableError: Not now.
        """
        if not arrived:
            return Content(None, "no part of it was uploaded")
        is_added = any(as_draft(row).about.incremental for row in arrived)
        sources = self._sources(arrived, is_added=is_added)
        manifests = [manifest for _, manifest in sources]
        try:
            merged = merge_manifests(self._blobs, manifests)
            if not is_added:
                return Content(merged)
            with self._store.snapshot() as connection:
                base = latest_manifest(connection, *key[:3])
            if base is not None:
                merged = overlay_manifests(self._blobs, merged.manifest, base)
            return Content(merged, is_added=True, base=base)
        except PathConflictError as error:
            having = set(parts_with(self._blobs, manifests, error.name))
            tellers = self._participants.tellers(row.writer_id for row in arrived)
            names = sorted({who(row, tellers) for row, manifest in sources if manifest in having})
            return Content(None, f"{error}: those of {', '.join(names[:8])}")
        except ProtocolError as error:
            return Content(None, f"its parts can't be one version: {error}")

    def versions(self, rows: Sequence[Any]) -> dict[int, Any]:
        """Return manifest, gaps and time of deletion of the versions that parts are in, by version_pk."""
        v = at.artifact_versions.c
        pks = {row.version_pk for row in rows if row.version_pk is not None}
        if not pks:
            return {}
        statement = sa.select(v.version_pk, v.manifest, v.incomplete, v.deleted_unix_s).where(
            v.version_pk.in_(pks)
        )
        return {row.version_pk: row for row in self._store.fetch(statement)}

    def _sources(self, arrived: Sequence[Any], *, is_added: bool) -> list[tuple[Any, str]]:
        """Return the parts with the manifests that have their files.

        Those that are added, and are in a whole version, are left out: the latest has their files, but for
        what somebody has replaced since.
        """
        versions = self.versions(arrived)
        found = []
        for row in arrived:
            version = None if row.version_pk is None else versions[row.version_pk]
            if version is None or version.incomplete is not None:
                found.append((row, row.manifest))
            elif not is_added:
                # The manifest of a part goes when it is in a whole version, whose own has all of its files.
                found.append((row, version.manifest))
        return found


def who(row: Any, tellers: Mapping[str, Teller]) -> str:
    """Return the process of a part by the words that people know it by."""
    teller = tellers.get(row.writer_id or "")
    if teller is None:
        return f"writer {row.writer_id or 'unknown'}"
    rank = "" if teller.rank is None else f"rank {teller.rank} on "
    return f"{rank}{teller.host or 'an unknown host'}"

"""Commits: a draft whose files are here becomes a version, once, whatever is repeated or killed in between.

Blobs first, row second: each blob that the manifest names is looked for before the transaction. Looking keeps
it from being removed for the minimum age; a transaction that begins later looks for everything again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from runfold.protocol import failpoints
from runfold.protocol.errors import LimitError, ProtocolError
from runfold_coordinator.artifacts.commit_counts import CommitCounts
from runfold_coordinator.artifacts.draft_rows import (
    UNKNOWN,
    note_arrival,
    note_failure,
    note_version,
    opened_draft,
    refuse_other_content,
)
from runfold_coordinator.artifacts.drafts import Draft
from runfold_coordinator.artifacts.errors import (
    MAX_MISSING_NAMED,
    ArtifactRefusedError,
    BlobsMissingError,
)
from runfold_coordinator.artifacts.manifest_stream import ManifestSums, read_entries, summed
from runfold_coordinator.artifacts.part_merge import Merged, overlay_manifests
from runfold_coordinator.artifacts.versions import Made, is_latest, latest_manifest, make_version
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.errors import BlobMissingError
from runfold_coordinator.clock import Clock
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

#: Blobs that are looked for at a time.
LOOK_AT_ONCE = 5000
#: Looking for blobs is good for so long, seconds, whatever their minimum age: a commit is made in the end.
LOOK_HOLDS_AT_LEAST_S = 30.0


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer to a commit. `made` is None for a part, and for what had become a version before."""

    client_id: str
    made: Made | None = None


class Committer:
    """Takes commits. Thread-safe."""

    def __init__(
        self, store: Store, blobs: Blobs, clock: Clock, *, on_part: Callable[[], None] = lambda: None
    ) -> None:
        """Take what it works with.

        Args:
            on_part: Called when a part of a distributed version has come.
        """
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._on_part = on_part
        self.counts = CommitCounts()

    def commit(self, draft: Draft) -> Committed:
        """Make the draft a version, or keep it as a part of one.

        Raises:
            ArtifactRefusedError: It will never be accepted so; the draft says why from now on.
            BlobsMissingError: Upload these, then commit again.
            StoreUnavailableError, BlobUnavailableError, OSError: Not known; committing again is safe.
        """
        try:
            committed, result = self._committed(draft)
        except (ArtifactRefusedError, BlobsMissingError) as error:
            is_missing = isinstance(error, BlobsMissingError)
            self.counts.note("blobs_missing" if is_missing else "refused")
            raise
        except Exception:
            self.counts.note("unavailable")
            raise
        self.counts.note(result)
        return committed

    def _committed(self, draft: Draft) -> tuple[Committed, str]:
        """Return the answer, and which of COMMIT_RESULTS it is."""
        try:
            if self._is_done(draft):
                return Committed(draft.client_id), "known"
            committed = None
            while committed is None:
                looked_s = self._clock.mono_s()
                sums = self._look(draft)
                failpoints.hit("artifacts.after_look")
                whole = Merged(draft.manifest, sums)
                base = self._base(draft)
                if base is not None:
                    whole = self._added(draft.manifest, base)
                committed = self._commit(draft, sums, looked_s, whole=whole, base=base)
        except ArtifactRefusedError as error:
            self._note_refusal(draft, error)
            raise
        failpoints.hit("artifacts.after_commit")
        if draft.is_part:
            self._on_part()
            return committed, "part"
        if committed.made is None:
            return committed, "known"
        return committed, "version" if committed.made.is_new else "unchanged"

    def give_up(self, client_id: str, run: RunRow, why: str) -> None:
        """Take that the files of a draft will never come; what has come, or is a version, stays so."""
        unknown = Draft(
            client_id=client_id,
            run_pk=run.run_pk,
            entity=run.entity,
            project=run.project,
            name="",
            type="",
            manifest="",
            digest=UNKNOWN,
            said_unix_ns=int(self._clock.unix_s() * 1e9),
        )
        self._note_failure(unknown, why)
        self._on_part()

    def _note_failure(self, draft: Draft, why: str) -> None:
        with self._store.writing.transaction() as tx:
            opened_draft(tx, draft, self._clock.unix_s())
            note_failure(tx, draft.client_id, why)

    def _is_done(self, draft: Draft) -> bool:
        """Return whether the same was committed before: it is a version, or a part that is here."""
        rows = self._store.fetch(
            sa.select(at.artifact_drafts).where(at.artifact_drafts.c.client_id == draft.client_id)
        )
        if not rows:
            return False
        refuse_other_content(rows[0], draft)
        return rows[0].version_pk is not None or rows[0].arrived_unix_s is not None

    def _look(self, draft: Draft) -> ManifestSums:
        """Read the manifest, and look for each blob that it names."""
        sums = ManifestSums()
        missing: list[str] = []
        missing_count, asked = 0, dict[str, tuple[str, str]]()

        def look() -> None:
            nonlocal missing_count
            found = self._blobs.missing(list(asked))
            missing_count += len(found)
            missing.extend(found[: MAX_MISSING_NAMED - len(missing)])
            self._refuse_wrong_md5(asked)
            asked.clear()

        try:
            self._blobs.missing([draft.manifest])  # asked for, it stays for a while
            with self._blobs.open(draft.manifest) as file:
                for name, entry in summed(read_entries(file), sums):
                    is_file = entry.ref is None
                    if is_file and asked.setdefault(entry.blob, (name, entry.digest))[1] != entry.digest:
                        raise _wrong_md5(name)
                    if len(asked) >= LOOK_AT_ONCE:
                        look()
            look()
        except BlobMissingError as error:
            raise BlobsMissingError([draft.manifest], 1) from error
        except ProtocolError as error:
            raise ArtifactRefusedError(
                "manifest_invalid",
                f"the manifest can't be used: {error}",
                field="manifest",
                limit=error.limit,
            ) from error
        if sums.digest != draft.digest:
            raise ArtifactRefusedError(
                "digest_mismatch",
                f"the manifest's digest is {sums.digest}, not what was said",
                field="digest",
            )
        if missing_count:
            raise BlobsMissingError(missing, missing_count)
        return sums

    def _refuse_wrong_md5(self, asked: Mapping[str, tuple[str, str]]) -> None:
        """Raise unless the digest of each file (name, digest), by SHA-256, is what its content has."""
        for sha256, md5 in self._blobs.md5s(asked).items():
            name, digest = asked[sha256]
            if digest != md5:
                raise _wrong_md5(name)

    def _base(self, draft: Draft) -> str | None:
        """Return the manifest that the draft's files are added to; None: they are all."""
        if draft.is_part or not draft.about.incremental:
            return None
        with self._store.snapshot() as connection:
            return latest_manifest(connection, draft.entity, draft.project, draft.name)

    def _added(self, manifest: str, base: str) -> Merged:
        """Return what a manifest and the version that it is added to have together."""
        try:
            return overlay_manifests(self._blobs, manifest, base)
        except LimitError as error:
            raise ArtifactRefusedError(
                "manifest_invalid",
                f"with the files of the latest version it can't be one: {error}",
                field="manifest",
                limit=error.limit,
            ) from error

    def _commit(
        self, draft: Draft, sums: ManifestSums, looked_s: float, *, whole: Merged, base: str | None
    ) -> Committed | None:
        """Write it; None where that took so long that the blobs have to be looked for again.

        Args:
            whole: What becomes the version: the draft's own manifest, or that added to `base`.
        """
        now_unix_s = self._clock.unix_s()
        with self._store.writing.transaction() as tx:
            row = opened_draft(tx, draft, now_unix_s)
            refuse_other_content(row, draft)
            if row.version_pk is not None or row.arrived_unix_s is not None:
                return Committed(draft.client_id)  # by another request with the same draft
            if self._blobs.hold(tx, [draft.manifest]):
                raise BlobsMissingError([draft.manifest], 1)
            if base is not None and self._blobs.hold(tx, [whole.manifest]):
                return None  # it was damaged meanwhile: it is made again
            if self._clock.mono_s() - looked_s > max(LOOK_HOLDS_AT_LEAST_S, self._blobs.min_age_s / 2):
                return None
            failpoints.hit("artifacts.after_begin")
            if draft.about.incremental and not draft.is_part and not is_latest(tx, draft, base, now_unix_s):
                return None  # another version came meanwhile: it is added to that one
            note_arrival(tx, draft, sums, now_unix_s)
            if draft.is_part:
                made = None
            else:
                made = make_version(
                    tx, draft, draft.about, whole.sums, manifest=whole.manifest, now_unix_s=now_unix_s
                )
                note_version(tx, row, made, now_unix_s)
            failpoints.hit("artifacts.before_commit")
        return Committed(draft.client_id, made)

    def _note_refusal(self, draft: Draft, error: ArtifactRefusedError) -> None:
        """Let people see what will never become a version, and why."""
        if error.code == "client_id_reused":
            return  # the one that had the client id first is as it was
        logger.info(
            "a commit was refused",
            extra={"event": "artifact_refused", "client_id": draft.client_id, "why": str(error)},
        )
        self._note_failure(draft, str(error))
        self._on_part()


def _wrong_md5(name: str) -> ArtifactRefusedError:
    return ArtifactRefusedError(
        "manifest_invalid", f"the digest of {name!r} is not the MD5 of its content", field="manifest"
    )

"""What `/metrics` says of files and artifacts: true of what lies there, and of what happened."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.metrics.test_page import OPENMETRICS, metrics_over, of, samples, store  # noqa: F401 - a fixture
from runfold_coordinator.artifacts.errors import ArtifactRefusedError, BlobsMissingError
from runfold_coordinator.blobs.collector import Collector
from runfold_coordinator.blobs.counts import refusal
from runfold_coordinator.blobs.errors import BlobError, BlobMismatchError, BlobSpaceError
from runfold_coordinator.blobs.uploads import Uploads
from runfold_coordinator.metrics.content import COUNT_EVERY_S, ContentMetrics
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.store import Store
from support.artifact_desk import DAY_S, Desk


class Shelf(Desk):
    """A desk, with uploads and what is measured of both."""

    def __init__(self, opened: Store, folder: Path) -> None:
        super().__init__(opened, folder)
        self.uploads = Uploads(self.blobs)
        self.content = ContentMetrics(
            opened, self.clock, self.blobs, self.uploads, self.artifacts.committer.counts
        )

    def samples(self) -> dict[str, dict[tuple, float]]:
        return samples(metrics_over(self.store, clock=self.clock, content=self.content))

    def send(self, data: bytes, *, at: int = 0, upto: int | None = None, digest: str = "") -> str:
        """Upload a piece; the blob is in place where it is the last one."""
        digest = digest or hashlib.sha256(data).hexdigest()
        piece = self.uploads.begin(digest, at, len(data))
        assert piece is not None
        piece.write([data[at:upto]])
        piece.close()
        if upto is None:
            self.uploads.finish(digest, len(data)).result(30)
        return digest


@pytest.fixture
def shelf(store: Store, tmp_path: Path) -> Shelf:  # noqa: F811
    return Shelf(store, tmp_path)


def test_what_comes_in_is_counted_and_what_is_kept(shelf: Shelf) -> None:
    digest = shelf.send(b"0123456789", upto=4)
    found = shelf.samples()
    assert of(found, "runfold_uploads", state="waiting") == [1.0]
    assert of(found, "runfold_blobs", state="whole") == [0.0]
    assert shelf.send(b"0123456789", at=4) == digest
    shelf.blobs.put(b"abc")
    shelf.pass_s(COUNT_EVERY_S)
    found = shelf.samples()
    assert of(found, "runfold_upload_received_bytes_total") == [10.0]
    assert of(found, "runfold_uploads") == [0.0, 0.0, 0.0]
    assert of(found, "runfold_blobs_stored_total") == [2.0]
    assert of(found, "runfold_blobs_stored_bytes_total") == [13.0]
    assert of(found, "runfold_blobs", state="whole") == [2.0]
    assert of(found, "runfold_blob_bytes") == [13.0]


def test_what_goes_and_what_is_damaged_is_counted(shelf: Shelf) -> None:
    kept, _gone = shelf.blobs.put(b"kept"), shelf.blobs.put(b"gone!")
    shelf.pass_s(2 * DAY_S)
    collector = Collector(shelf.store, shelf.blobs)
    collector.add_roots(lambda: iter([kept]))
    collector.collect()
    (row,) = shelf.store.fetch(sa.select(b.c.object))
    shelf.blobs.place.remove([row.object])
    with pytest.raises(BlobError):
        shelf.blobs.open(kept)
    found = shelf.samples()
    assert of(found, "runfold_blobs_removed_total") == [1.0]
    assert of(found, "runfold_blobs_removed_bytes_total") == [5.0]
    assert of(found, "runfold_blobs_damaged_total") == [1.0]
    assert of(found, "runfold_blobs", state="damaged") == [1.0]


def test_refusals_have_a_reason_out_of_few(shelf: Shelf) -> None:
    with pytest.raises(BlobError) as mismatch:
        shelf.send(b"other", digest=hashlib.sha256(b"this").hexdigest())
    with pytest.raises(BlobError) as offset:
        shelf.send(b"0123456789", at=5)
    full = OSError(28, "No space left on device")
    for error in (mismatch.value, offset.value, BlobSpaceError("full"), full, OSError(5, "EIO")):
        shelf.blobs.counts.refuse(error)
    found = shelf.samples()
    counts = {
        reason: of(found, "runfold_uploads_refused_total", reason=reason) for reason in ("no_space", "busy")
    }
    assert counts == {"no_space": [2.0], "busy": [0.0]}
    assert of(found, "runfold_uploads_refused_total", reason="unavailable") == [1.0]
    assert refusal(BlobMismatchError("")) == "mismatch"
    assert len(of(found, "runfold_uploads_refused_total")) == 5


def test_commits_are_counted_by_what_became_of_them(shelf: Shelf) -> None:
    draft = shelf.draft({"a": b"1"})
    for _ in range(2):
        shelf.commit(draft)
    shelf.log({"a": b"1"})
    with pytest.raises(BlobsMissingError):
        shelf.commit(shelf.draft({"a": b"1"}, manifest="0" * 64))
    with pytest.raises(ArtifactRefusedError):
        shelf.commit(shelf.draft({"a": b"2"}, type="another"))
    found = shelf.samples()
    for result in ("version", "known", "unchanged", "blobs_missing", "refused"):
        assert of(found, "runfold_artifact_commits_total", result=result) == [1.0], result
    assert of(found, "runfold_artifacts_missing", state="failed") == [1.0]
    process = shelf.process()
    process.logs(process.draft({"a": b"3"}))
    shelf.pass_s(COUNT_EVERY_S)
    assert of(shelf.samples(), "runfold_artifacts_missing", state="pending") == [1.0]

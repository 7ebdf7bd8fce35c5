"""Uploads in pieces: where they go on, who may write, what is taken back, what is removed."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.errors import BlobMismatchError, BlobSpaceError, UploadOffsetError
from runfold_coordinator.blobs.places import LocalPlace
from runfold_coordinator.blobs.uploads import CLAIM_S, KEEP_PARTIAL_S, Uploads
from runfold_coordinator.clock import SystemClock
from runfold_coordinator.store.store import Store
from support.stores import new_database

DATA = bytes(range(256)) * 400
DIGEST = hashlib.sha256(DATA).hexdigest()
SIZE = len(DATA)


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[Blobs]:
    store = Store.open(new_database(tmp_path / "runfold.db"))
    yield Blobs(store, LocalPlace(tmp_path / "blobs"), SystemClock(), min_age_s=86400.0)
    store.close()


@pytest.fixture
def uploads(blobs: Blobs) -> Iterator[Uploads]:
    found = Uploads(blobs)
    yield found
    found.close()


def write(uploads: Uploads, data: bytes, offset: int = 0, *, size: int = SIZE, digest: str = DIGEST) -> None:
    piece = uploads.begin(digest, offset, size)
    assert piece is not None
    try:
        piece.write([data[:100], data[100:]])
    finally:
        piece.close()


def stored(blobs: Blobs, digest: str = DIGEST) -> bytes:
    with blobs.open(digest) as file:
        return file.read()


def test_an_upload_goes_on_after_a_restart(blobs: Blobs, uploads: Uploads) -> None:
    assert uploads.progress(DIGEST).offset == 0
    write(uploads, DATA[:1000])
    assert uploads.progress(DIGEST).offset == 1000
    again = Uploads(blobs)
    assert again.progress(DIGEST).offset == 1000
    write(again, DATA[1000:5000], 1000)
    write(again, DATA[5000:], 5000)
    again.finish(DIGEST, SIZE).result(30)
    assert again.progress(DIGEST).is_complete
    assert stored(blobs) == DATA
    again.close()


def test_another_offset_is_refused_with_the_true_one(uploads: Uploads) -> None:
    write(uploads, DATA[:1000])
    for offset in (0, 999, 1001, SIZE):
        with pytest.raises(UploadOffsetError) as refused:
            uploads.begin(DIGEST, offset, SIZE)
        assert (refused.value.offset, refused.value.is_busy) == (1000, False)


def test_one_at_a_time_writes_and_the_next_goes_on(blobs: Blobs, uploads: Uploads) -> None:
    piece = uploads.begin(DIGEST, 0, SIZE)
    assert piece is not None
    piece.write([DATA[:100]])
    with pytest.raises(UploadOffsetError) as refused:
        uploads.begin(DIGEST, 0, SIZE)
    assert refused.value.is_busy
    piece.close()
    write(uploads, DATA[100:], 100)
    assert uploads.begin(DIGEST, SIZE, SIZE) is None
    uploads.finish(DIGEST, SIZE).result(30)
    assert stored(blobs) == DATA


def test_bytes_that_are_something_else_are_forgotten(blobs: Blobs, uploads: Uploads) -> None:
    write(uploads, DATA[:-1] + b"?")
    with pytest.raises(BlobMismatchError, match="is"):
        uploads.finish(DIGEST, SIZE).result(30)
    assert uploads.progress(DIGEST).offset == 0
    # Who had been told to wait hears of it when it asks again, then begins anew.
    with pytest.raises(BlobMismatchError):
        uploads.begin(DIGEST, SIZE, SIZE)
    write(uploads, DATA)
    uploads.finish(DIGEST, SIZE).result(30)
    assert stored(blobs) == DATA


def test_damage_on_the_disk_between_two_servers_is_found(blobs: Blobs, uploads: Uploads) -> None:
    write(uploads, DATA[:-10])
    path = blobs.place.incoming / f"{DIGEST}.part"
    with open(path, "r+b") as file:
        file.seek(50)
        file.write(b"damage")
    again = Uploads(blobs)
    write(again, DATA[-10:], SIZE - 10)
    with pytest.raises(BlobMismatchError):
        again.finish(DIGEST, SIZE).result(30)
    assert blobs.missing([DIGEST]) == [DIGEST]
    assert not path.exists()
    again.close()


def test_more_bytes_than_were_said_are_refused(uploads: Uploads) -> None:
    with pytest.raises(BlobMismatchError, match="more than"):
        write(uploads, DATA, size=SIZE - 1)
    # A part that is longer than the blob can be is of a sender that was wrong: it is forgotten.
    write(uploads, DATA[:500])
    write(uploads, DATA[:10], size=100)
    assert uploads.progress(DIGEST).offset == 10


def test_to_end_too_early_tells_where_to_go_on(uploads: Uploads) -> None:
    write(uploads, DATA[:1000])
    with pytest.raises(UploadOffsetError) as refused:
        uploads.finish(DIGEST, SIZE).result(30)
    assert refused.value.offset == 1000


def test_asking_for_the_end_again_and_empty_content_are_fine(blobs: Blobs, uploads: Uploads) -> None:
    empty = hashlib.sha256().hexdigest()
    write(uploads, b"", size=0, digest=empty)
    for _ in range(3):
        uploads.finish(empty, 0).result(30)
    assert stored(blobs, empty) == b""
    assert uploads.begin(empty, 0, 0) is None


def test_a_disk_that_is_full_takes_the_piece_back_and_goes_on_later(blobs: Blobs, uploads: Uploads) -> None:
    write(uploads, DATA[:20_000])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    piece = uploads.begin(DIGEST, 20_000, SIZE)
    assert piece is not None
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # the kernel's own refusal to write on
    try:
        with pytest.raises(BlobSpaceError, match="full"):
            piece.write([DATA[20_000:25_000], DATA[25_000:]])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        piece.close()
    assert uploads.progress(DIGEST).offset == 20_000
    write(uploads, DATA[20_000:], 20_000)
    uploads.finish(DIGEST, SIZE).result(30)
    assert stored(blobs) == DATA


def test_what_the_database_needs_is_left_to_it(blobs: Blobs) -> None:
    uploads = Uploads(blobs, keep_free_bytes=2**60)
    with pytest.raises(BlobSpaceError, match=f"{SIZE} bytes are wanted, 0 are free"):
        uploads.begin(DIGEST, 0, SIZE)
    uploads.close()


def test_uploads_that_do_not_all_fit_do_not_stop_each_other(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 2 * SIZE - 3000
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    uploads, now_s = Uploads(blobs), [0.0]
    monkeypatch.setattr("runfold_coordinator.blobs.uploads.time.monotonic", lambda: now_s[0])
    other = hashlib.sha256(b"other").hexdigest()
    write(uploads, DATA[:2000])
    with pytest.raises(BlobSpaceError):
        uploads.begin(other, 0, SIZE)  # the first one needs the room to end
    write(uploads, DATA[2000:2500], 2000)
    now_s[0] += CLAIM_S + 1  # which it does not claim for ever
    write(uploads, DATA[:100], digest=other)
    uploads.close()


def test_what_nobody_goes_on_with_is_removed_after_a_day(blobs: Blobs, uploads: Uploads) -> None:
    write(uploads, DATA[:1000])
    folder = blobs.place.incoming
    (folder / f"{DIGEST}-00.tmp").write_bytes(b"half")
    written_s = (folder / f"{DIGEST}.part").stat().st_mtime
    assert uploads.remove_old(written_s + 1800) == 0
    assert uploads.remove_old(written_s + KEEP_PARTIAL_S - 60) == 1
    busy = uploads.begin(DIGEST, 1000, SIZE)
    assert busy is not None
    assert uploads.remove_old(written_s + KEEP_PARTIAL_S + 60) == 0
    busy.close()
    assert uploads.remove_old(written_s + KEEP_PARTIAL_S + 60) == 1
    assert list(folder.iterdir()) == []


def test_files_are_ours_alone_and_links_are_not_followed(
    blobs: Blobs, uploads: Uploads, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    path = blobs.place.incoming / f"{DIGEST}.part"
    path.symlink_to(outside)
    with pytest.raises(OSError):
        uploads.begin(DIGEST, 0, SIZE)
    assert outside.read_bytes() == b"untouched"
    path.unlink()
    write(uploads, DATA)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.stat(blobs.place.incoming).st_mode & 0o777 == 0o700

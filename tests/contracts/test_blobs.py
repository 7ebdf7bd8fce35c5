"""What every place of blobs promises: a local folder and a real S3 API."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from runfold.protocol.content_sum import md5_of
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.collector import Collector, numbers_of
from runfold_coordinator.blobs.errors import BlobMissingError, BlobUnavailableError
from runfold_coordinator.blobs.orphans import Orphans
from runfold_coordinator.blobs.places import SHARDS, LocalPlace, Place, new_object_name
from runfold_coordinator.blobs.remote_place import RemotePlace
from runfold_coordinator.blobs.scrubber import EVERY_S, Scrubber
from runfold_coordinator.blobs.uploads import Uploads
from runfold_coordinator.clock import SystemClock
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.store import Store
from support.s3 import bucket, s3_server
from support.stores import new_database

__all__ = ["bucket", "s3_server"]

DAY_S = 86400.0


class LaterClock(SystemClock):
    """The machine's clock, some time from now: objects have the times of the store that keeps them."""

    later_s = 0.0

    def unix_s(self) -> float:
        return super().unix_s() + self.later_s


@pytest.fixture
def clock() -> LaterClock:
    return LaterClock()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.xdist_group("s3"))])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return LocalPlace(tmp_path / "blobs")
    return RemotePlace(request.getfixturevalue("bucket").url, tmp_path / "spool")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(new_database(tmp_path / "runfold.db"))
    yield opened
    opened.close()


@pytest.fixture
def blobs(store: Store, place: Place, clock: LaterClock) -> Blobs:
    return Blobs(store, place, clock, min_age_s=DAY_S)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def objects(place: Place) -> list[str]:
    if isinstance(place, RemotePlace):  # in one request instead of 256
        return sorted(path[len(place._root) + 1 :] for path in place._fs.find(place._root))
    return sorted(found.name for shard in SHARDS for found in place.list_shard(shard))


def object_of(store: Store, digest: str) -> str:
    (row,) = store.fetch(sa.select(b.c.object).where(b.c.digest == digest))
    return str(row.object)


def _where(place: Place) -> tuple[str, Path]:
    assert isinstance(place, RemotePlace)
    return f"s3://{place._root}", place.incoming


def corrupt(place: Place, name: str, data: bytes) -> None:
    """Do to an object what a disk does."""
    if isinstance(place, LocalPlace):
        path = place._root / name
        path.unlink()
        path.write_bytes(data)
    else:
        assert isinstance(place, RemotePlace)
        place._fs.pipe_file(f"{place._root}/{name}", data)


def test_what_was_put_is_read_back_from_any_place_in_it(blobs: Blobs, place: Place) -> None:
    data = bytes(range(256)) * 5000
    digest = blobs.put(data)
    assert digest == digest_of(data)
    assert blobs.size(digest) == len(data)
    with blobs.open(digest) as file:
        assert file.read() == data
        file.seek(1000)
        assert file.read(3) == data[1000:1003]
    assert blobs.put(b"") == digest_of(b"")
    with blobs.open(digest_of(b"")) as file:
        assert file.read() == b""
    unknown = digest_of(b"unknown")
    assert blobs.size(unknown) is None
    for name in (unknown, "../../etc/passwd", ""):
        with pytest.raises(BlobMissingError):
            blobs.open(name)


def test_the_missing_are_told_in_their_order_and_content_is_kept_once(blobs: Blobs, place: Place) -> None:
    pieces = [(digest_of(data), data) for data in (b"one", b"two", b"three")]
    assert blobs.put_many([*pieces, pieces[0]]) == 3
    assert blobs.put_many(pieces) == 0
    assert len(objects(place)) == 3
    asked = [digest_of(b"z"), pieces[1][0], digest_of(b"a"), "no digest", digest_of(b"z")]
    assert blobs.missing(asked) == [digest_of(b"z"), digest_of(b"a"), "no digest"]


def test_an_upload_in_pieces_is_in_place_with_its_last_byte(blobs: Blobs, place: Place) -> None:
    uploads = Uploads(blobs)
    data = b"0123456789" * 100_000
    digest = digest_of(data)
    for at in range(0, len(data), 300_000):
        piece = uploads.begin(digest, at, len(data))
        assert piece is not None
        piece.write([data[at : at + 300_000]])
        piece.close()
    assert blobs.missing([digest]) == [digest]
    uploads.finish(digest, len(data)).result(60)
    assert blobs.missing([digest]) == []
    assert uploads.begin(digest, 0, len(data)) is None
    assert list(place.incoming.iterdir()) == []
    with blobs.open(digest) as file:
        assert file.read() == data


def test_a_server_that_ends_does_not_wait_for_an_upload_to_its_object_store(
    blobs: Blobs, place: Place, store: Store, tmp_path: Path
) -> None:
    if place.is_local:
        pytest.skip("nothing is copied into a local folder")
    place.close()
    source = place.incoming / "large"
    source.write_bytes(b"content")
    with pytest.raises(BlobUnavailableError, match="ending"):
        blobs.adopt(digest_of(b"content"), 7, source, md5_of(b"content"))
    again = Blobs(store, RemotePlace(*_where(place)), SystemClock(), min_age_s=DAY_S)
    again.adopt(digest_of(b"content"), 7, source, md5_of(b"content"))
    assert again.size(digest_of(b"content")) == 7


def test_two_uploads_of_one_content_at_once_leave_one_object(
    blobs: Blobs, store: Store, place: Place
) -> None:
    data = b"same" * 10_000
    digest = digest_of(data)
    barrier = threading.Barrier(4)

    def put() -> None:
        barrier.wait()
        blobs.put(data)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert objects(place) == [object_of(store, digest)]
    with blobs.open(digest) as file:
        assert file.read() == data


def test_what_nobody_refers_to_goes_when_it_is_old_and_nothing_else(
    blobs: Blobs, store: Store, place: Place, clock: LaterClock
) -> None:
    collector = Collector(store, blobs)
    kept, gone, asked, held = (blobs.put(text) for text in (b"kept", b"gone!", b"asked", b"held"))
    collector.add_roots(lambda: iter([kept, kept]))
    assert collector.collect().count == 0
    clock.later_s = 2 * DAY_S
    assert blobs.missing([asked]) == []
    with store.transaction() as tx:
        assert blobs.hold(tx, [held, digest_of(b"never")]) == [digest_of(b"never")]
    assert (swept := collector.collect()).count == 1
    assert swept.byte_count == len(b"gone!")
    assert blobs.missing([kept, gone, asked, held]) == [gone]
    assert len(objects(place)) == 3
    # Stored anew it is there again.
    assert blobs.put(b"gone!") == gone
    assert blobs.missing([gone]) == []


def test_without_roots_nothing_is_removed(blobs: Blobs, store: Store, clock: LaterClock) -> None:
    digest = blobs.put(b"content")
    clock.later_s = 9 * DAY_S
    collector = Collector(store, blobs)
    assert collector.collect().count == 0

    def fail() -> Iterator[str]:
        raise BlobUnavailableError("a manifest can't be read now")
        yield ""

    collector.add_roots(fail)
    with pytest.raises(BlobUnavailableError):
        collector.collect()
    assert blobs.size(digest) == 7


def test_what_is_asked_for_while_it_marks_stays(blobs: Blobs, store: Store, clock: LaterClock) -> None:
    digest = blobs.put(b"content")
    clock.later_s = 2 * DAY_S
    collector = Collector(store, blobs)

    def commit_meanwhile() -> Iterator[str]:
        assert blobs.missing([digest]) == []
        yield from ()

    collector.add_roots(commit_meanwhile)
    assert collector.collect().count == 0
    assert blobs.missing([digest]) == []


def test_who_is_stopped_while_it_marks_removes_nothing(blobs: Blobs, store: Store, clock: LaterClock) -> None:
    kept = [blobs.put(b"first"), blobs.put(b"second")]
    clock.later_s = 2 * DAY_S
    collector = Collector(store, blobs)
    collector.add_root_numbers(lambda: (numbers_of([digest]) for digest in kept))
    asked = iter([False, True])
    assert collector.collect(lambda: next(asked, True)).count == 0
    assert collector.collect().count == 0
    assert blobs.missing(kept) == []


def test_objects_without_a_row_go_when_they_are_old(
    blobs: Blobs, store: Store, place: Place, clock: LaterClock
) -> None:
    orphans = Orphans(store, blobs, clock)
    digest = blobs.put(b"content")
    orphan, second = new_object_name(digest_of(b"lost")), new_object_name(digest)
    place.take_many([(orphan, b"lost"), (second, b"content")])
    shards = {name[:2] for name in (orphan, second)}
    assert sum(orphans.remove(shard) for shard in shards) == 0
    clock.later_s = 2 * DAY_S
    assert sum(orphans.remove(shard) for shard in shards) == 2
    assert objects(place) == [object_of(store, digest)]
    assert orphans.remove("00") == 0


def test_a_damaged_blob_is_told_as_missing_until_it_is_sent_again(
    blobs: Blobs, store: Store, place: Place, clock: LaterClock
) -> None:
    whole, damaged, lost = (blobs.put(text) for text in (b"whole", b"damaged", b"lost"))
    scrubber = Scrubber(store, blobs, clock)
    corrupt(place, object_of(store, damaged), b"damaged?" if not place.is_local else b"dAmaged")
    place.remove([object_of(store, lost)])
    assert scrubber.turn() == 0
    clock.later_s = EVERY_S + 60
    assert scrubber.turn() == 2
    assert scrubber.turn() == 0
    assert blobs.missing([whole, damaged, lost]) == [damaged, lost]
    with pytest.raises(BlobMissingError, match="damaged"):
        blobs.open(damaged)
    assert blobs.put(b"damaged") == damaged
    with blobs.open(damaged) as file:
        assert file.read() == b"damaged"
    assert objects(place) == sorted([object_of(store, whole), object_of(store, damaged)])


def test_of_an_object_store_so_many_bytes_a_day_are_hashed(
    store: Store, tmp_path: Path, clock: LaterClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = RemotePlace(f"memory://{tmp_path.name}", tmp_path / "spool")
    blobs = Blobs(store, place, clock, min_age_s=DAY_S)
    digests = [blobs.put(bytes([number]) * 1000) for number in range(8)]
    for digest in digests:  # of the same size: only its content tells
        place._fs.pipe_file(f"{place._root}/{object_of(store, digest)}", b"x" * 1000)
    scrubber = Scrubber(store, blobs, clock, remote_bytes_a_day=2500)
    clock.later_s = EVERY_S + 60
    found = []
    for day in (0, 1, 2, 40):  # what 38 days would bring is lost but for one
        monkeypatch.setattr(clock, "mono_s", lambda day=day: 1000.0 + day * DAY_S)
        found += [scrubber.turn(), scrubber.turn()]
    # A day brings 2500: three are begun, and the next day pays for the end of the third.
    assert found == [0, 0, 3, 0, 2, 0, 3, 0]
    assert blobs.counts.read().damaged == 8
    none = Scrubber(store, blobs, clock, remote_bytes_a_day=0)
    blobs.put(b"y")
    clock.later_s *= 2
    assert [none.turn(), none.turn()] == [0, 0]
    assert blobs.counts.read().checked_content == 0


def test_a_blob_whose_object_went_is_found_out_by_who_reads_it(
    blobs: Blobs, store: Store, place: Place
) -> None:
    digest = blobs.put(b"content")
    place.remove([object_of(store, digest)])
    with pytest.raises(BlobMissingError) as refused:
        blobs.open(digest)
    assert refused.value.is_damaged
    assert blobs.missing([digest]) == [digest]


def test_an_object_store_that_is_away_is_unavailable_and_nothing_is_stored(
    store: Store, tmp_path: Path, clock: LaterClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    blobs = Blobs(store, RemotePlace("s3://nowhere/x", tmp_path / "spool"), clock, min_age_s=DAY_S)
    with pytest.raises(BlobUnavailableError):
        blobs.put(b"content")
    assert blobs.missing([digest_of(b"content")]) == [digest_of(b"content")]


def test_a_place_that_no_driver_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nosuch"):
        RemotePlace("nosuch://bucket/secret-prefix", tmp_path / "spool")


def test_many_are_read_at_once_in_order_up_to_a_limit(blobs: Blobs) -> None:
    contents = [bytes([number]) * 100 for number in range(20)]
    digests = [blobs.put(content) for content in contents]
    unknown, large = hashlib.sha256(b"none").hexdigest(), blobs.put(b"x" * 1000)
    asked = [unknown, *reversed(digests), digests[0]]
    assert blobs.read_many(asked, limit_bytes=10_000) == list(
        zip(reversed(digests), reversed(contents), strict=True)
    )
    first = blobs.read_many([large, *digests], limit_bytes=350)
    assert first == list(zip(digests[:3], contents[:3], strict=True))
    assert blobs.read_many([], limit_bytes=350) == []

"""Files of runs in each database: rows that never point to nothing, whatever is removed meanwhile."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from runfold.protocol.file_records import FileRecord
from runfold.protocol.records import RecordKind
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.collector import Collector
from runfold_coordinator.blobs.places import LocalPlace
from runfold_coordinator.clock import SystemClock
from runfold_coordinator.readers.files_reader import FileCounts, FilesReader
from runfold_coordinator.run_files import LostFile, MissingBlobsError, RunFiles, SentFile
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker

ROUNDS = 150


@pytest.fixture
def blobs(store: Store, tmp_path: Path) -> Blobs:
    # No minimum age: whatever nobody refers to may go at once, which makes every race as likely as can be.
    return Blobs(store, LocalPlace(tmp_path / "blobs"), SystemClock(), min_age_s=0.0)


@pytest.fixture
def files(store: Store, blobs: Blobs) -> RunFiles:
    return RunFiles(store, blobs, SystemClock())


def test_files_are_stored_listed_and_forgotten(store: Store, blobs: Blobs, files: RunFiles) -> None:
    reader = FilesReader(store)
    bench, speaker = Bench(store), Speaker(b"w" * 16)
    said = [FileRecord(name).pack() for name in ("a.txt", "late.txt", "a.txt")]
    bench.feed(speaker.hello(), speaker.others(*((RecordKind.FILE, each) for each in said)))
    run_pk = store.list_runs()[0].run_pk
    assert (reader.counts(run_pk).stored, reader.counts(run_pk).pending) == (0, 2)
    digest = blobs.put(b"content")
    names = ["a.txt", "A.txt", "a_txt", "b*.txt"]
    assert {each.outcome for each in files.put(run_pk, [SentFile(n, digest) for n in names])} == {"stored"}
    assert {each.outcome for each in files.put(run_pk, [SentFile(n, digest) for n in names])} == {"unchanged"}
    (older,) = files.put(run_pk, [SentFile("a.txt", blobs.put(b"older"), taken_unix_s=1.0)])
    assert older.outcome == "older"
    twice = [SentFile("2", digest, taken_unix_s=5.0), SentFile("2", blobs.put(b"older"), taken_unix_s=4.0)]
    assert [each.outcome for each in files.put(run_pk, twice)] == ["stored"]
    assert (row := reader.find(run_pk, "2")) is not None
    assert row.sha256 == digest  # of two of one name in one request too the later taken stays
    assert files.delete(run_pk, "2")
    assert {row.size for row in reader.page(run_pk, limit=9)[0]} == {7}
    bench.feed(speaker.others((RecordKind.FILE, said[0])))
    assert (reader.counts(run_pk).stored, reader.counts(run_pk).pending) == (4, 1)
    found = {
        pattern: sorted(row.name for row in reader.page(run_pk, pattern=pattern, limit=9)[0])
        for pattern in ("a%", "a_txt", r"a\_txt", "%*%", "a.TXT")
    }
    assert found == {
        "a%": ["a.txt", "a_txt"],
        "a_txt": ["a.txt", "a_txt"],
        r"a\_txt": ["a_txt"],
        "%*%": ["b*.txt"],
        "a.TXT": [],
    }
    assert list(files.roots()) == [digest]
    with pytest.raises(MissingBlobsError):
        files.put(run_pk, [SentFile("new", "0f" * 32)])
    assert files.delete(run_pk, "a.txt")
    assert not files.delete(run_pk, "a.txt")
    assert reader.find(run_pk, "a.txt") is None


def test_what_will_never_come_is_noted_and_forgotten_when_it_comes(
    store: Store, blobs: Blobs, files: RunFiles
) -> None:
    reader = FilesReader(store)
    bench, speaker = Bench(store), Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.others((RecordKind.FILE, FileRecord("said").pack())))
    run_pk = store.list_runs()[0].run_pk
    lost = [LostFile(name, "it is not there", 5.0, 6.0) for name in ("said", "unsaid", "../up")]
    assert [files.give_up(run_pk, lost), files.give_up(run_pk, lost)] == [2, 2]
    assert reader.counts(run_pk) == FileCounts(stored=0, pending=0, failed=2)
    files.put(run_pk, [SentFile("unsaid", blobs.put(b"content"), taken_unix_s=5.5)])
    assert reader.counts(run_pk) == FileCounts(stored=1, pending=0, failed=1)
    files.give_up(run_pk, lost)
    assert [(row.name, row.error) for row in reader.page(run_pk, state="failed", limit=9)[0]] == [
        ("said", "it is not there")
    ]
    again = FileRecord("said").pack(), FileRecord("unsaid", error="no").pack()
    bench.feed(speaker.others(*((RecordKind.FILE, each) for each in again)))
    assert reader.counts(run_pk) == FileCounts(stored=1, pending=1, failed=1)


def test_a_collector_and_commits_at_once_leave_no_file_without_content(
    store: Store, blobs: Blobs, files: RunFiles
) -> None:
    bench, speaker = Bench(store), Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    run_pk = store.list_runs()[0].run_pk
    collector = Collector(store, blobs)
    collector.add_roots(files.roots)
    ended = threading.Event()
    swept: list[int] = []
    faults: list[str] = []
    asked_again = 0

    def collect() -> None:
        while not ended.is_set():
            swept.append(collector.collect().count)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for i in range(ROUNDS):
            data = b"content %d" % (i % 5)
            digest, name = hashlib.sha256(data).hexdigest(), f"file {i % 7}"
            while True:
                if blobs.missing([digest]):
                    blobs.put(data)
                try:
                    files.put(run_pk, [SentFile(name, digest)])
                    break
                except MissingBlobsError:
                    asked_again += 1
            with blobs.open(digest) as file:
                if file.read() != data:
                    faults.append(name)
            if i % 3:
                files.delete(run_pk, name)
    finally:
        ended.set()
        thread.join()
    assert faults == []
    assert sum(swept) > 0, "the collector never came between"
    for row in FilesReader(store).page(run_pk, limit=100)[0]:
        assert row.sha256 is not None
        with blobs.open(row.sha256) as file:
            assert hashlib.sha256(file.read()).hexdigest() == row.sha256

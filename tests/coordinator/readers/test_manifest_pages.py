"""Pages of a manifest: each tells what a whole reading would, and none reads what others have passed."""

from __future__ import annotations

import io
import threading
from typing import Any, cast

import pytest

from runfold.protocol.manifest import Entry, Manifest
from runfold_coordinator.artifacts.manifest_stream import packed_entries
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.readers.manifest_pages import ManifestPages

COUNT = 20_000
NAMES = [f"folder/файл-{number:06d}" for number in range(COUNT)]


class Counted(io.BytesIO):
    """Adds what is read to its shelf's sum."""

    shelf: Shelf

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.shelf.read_bytes += len(data)
        return data


class Shelf:
    """Stands for Blobs: opens manifests from memory and counts the bytes that are read of them."""

    def __init__(self, **manifests: bytes) -> None:
        self._manifests = manifests
        self.read_bytes = 0

    def open(self, digest: str) -> Any:
        file = Counted(self._manifests[digest])
        file.shelf = self
        return file


@pytest.fixture(scope="module")
def packed() -> bytes:
    return b"".join(
        packed_entries((name, Entry(f"etag-{at}", at, "s3://b/k")) for at, name in enumerate(NAMES))
    )


def pages_of(shelf: Shelf, **more: int) -> ManifestPages:
    return ManifestPages(cast("Blobs", shelf), **more)


def names_from(pages: ManifestPages, first: str, count: int) -> list[str]:
    return [name for (name, _), _ in zip(pages.entries("m", first), range(count), strict=False)]


def test_going_through_all_pages_reads_the_manifest_about_once(packed: bytes) -> None:
    shelf = Shelf(m=packed)
    pages = pages_of(shelf)
    seen: list[str] = []
    while page := names_from(pages, f"{seen[-1]}\0" if seen else "", 1000):
        seen += page
    assert seen == NAMES
    # What is read ahead at each page comes on top: a quarter of a MB.
    assert shelf.read_bytes < len(packed) + 21 * 300_000
    before = shelf.read_bytes
    assert names_from(pages, NAMES[-2], 9) == NAMES[-2:]
    assert shelf.read_bytes - before < 300_000


def test_names_are_found_wherever_they_are(packed: bytes) -> None:
    shelf = Shelf(m=packed)
    pages = pages_of(shelf)
    wanted = [NAMES[7], NAMES[8], NAMES[-1], NAMES[12_345], "folder", "zzz", NAMES[7]]
    expected = [NAMES[7], NAMES[8], NAMES[12_345], NAMES[-1]]
    for _ in range(2):
        assert [name for name, _ in pages.chosen("m", wanted)] == expected
    assert dict(pages.chosen("m", [NAMES[4999]])) == {NAMES[4999]: Entry("etag-4999", 4999, "s3://b/k")}
    assert list(pages.chosen("m", [])) == []
    before = shelf.read_bytes
    assert len(list(pages.chosen("m", [NAMES[3], NAMES[-1]]))) == 2
    assert shelf.read_bytes - before < 600_000 < len(packed)


def test_many_at_once_and_little_memory_change_nothing(packed: bytes) -> None:
    other = Manifest({"x": Entry("etag", 1, "s3://b/k")}).pack()
    for most_bytes in (500, 5000):
        pages = pages_of(Shelf(m=packed, o=other), most_bytes=most_bytes)
        wrong: list[int] = []

        def look(start: int, pages: ManifestPages = pages, wrong: list[int] = wrong) -> None:
            for at in range(start, COUNT, 9000):
                if names_from(pages, NAMES[at], 400) != NAMES[at : at + 400]:
                    wrong.append(at)
                if [name for name, _ in pages.entries("o")] != ["x"]:
                    wrong.append(-1)

        threads = [threading.Thread(target=look, args=(start,)) for start in (0, 4000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

"""Downloads come whole and right, or not at all; what was cut off is gone on with."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from runfold import downloads
from runfold.api.connection import Connection
from runfold.api.errors import UnavailableError
from runfold.blob_cache import BlobCache
from runfold.downloads import DigestError, Wanted, download, fetch, read_content
from runfold.errors import CommError
from runfold.parallel import in_parallel
from runfold.protocol.file_names import FileNameError
from worker.downloads.blob_server import BlobServer

CONTENT = random.Random(1).randbytes(3_000_000)
OTHER = b"something else"
SHA, OTHER_SHA = (hashlib.sha256(content).hexdigest() for content in (CONTENT, OTHER))
WANTED = Wanted("a/b.bin", SHA, len(CONTENT))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BlobServer]:
    monkeypatch.setattr(downloads, "_PAUSES_S", (0.0, 0.0))
    with BlobServer(CONTENT, OTHER, b"") as started:
        yield started


@pytest.fixture
def connection(server: BlobServer) -> Iterator[Connection]:
    opened = Connection(server.url, None, 10.0)
    yield opened
    opened.close()


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_come_into_their_places(connection: Connection, server: BlobServer, tmp_path: Path) -> None:
    wanted = [WANTED, Wanted("c", OTHER_SHA, len(OTHER)), Wanted("empty", hashlib.sha256().hexdigest(), 0)]
    places = download(connection, wanted, tmp_path / "t")
    assert [place.read_bytes() for place in places] == [CONTENT, OTHER, b""]
    assert files_below(tmp_path / "t") == ["a/b.bin", "c", "empty"]
    asked = len(server.asked)
    download(connection, wanted, tmp_path / "t")
    assert len(server.asked) == asked, "what is there is left as it is"
    places[0].write_bytes(CONTENT[:-1] + b"!")
    download(connection, wanted, tmp_path / "t")
    assert places[0].read_bytes() == CONTENT


def test_small_files_come_together_and_what_is_left_out_comes_alone(
    connection: Connection, server: BlobServer, tmp_path: Path
) -> None:
    contents = [b"%d" % number for number in range(100)]
    server.contents |= {hashlib.sha256(content).hexdigest(): content for content in contents}
    wanted = [
        Wanted(f"f/{number}", hashlib.sha256(content).hexdigest(), len(content))
        for number, content in enumerate(contents)
    ]
    server.gives = 90
    places = download(connection, [*wanted, Wanted("again", wanted[0].sha256, 1)], tmp_path / "t")
    assert [place.read_bytes() for place in places] == [*contents, contents[0]]
    assert len(server.asked) == 11
    server.lies, server.gives = 1, 1000
    places = download(connection, wanted, tmp_path / "u", cache=BlobCache(tmp_path / "cache"))
    assert [place.read_bytes() for place in places] == contents
    asked = len(server.asked)
    download(connection, wanted, tmp_path / "v", cache=BlobCache(tmp_path / "cache"))
    assert len(server.asked) == asked


def test_what_was_cut_off_is_gone_on_with(connection: Connection, server: BlobServer, tmp_path: Path) -> None:
    server.cut_after, server.cuts = 1_000_000, 2
    download(connection, [WANTED], tmp_path)
    assert (tmp_path / "a/b.bin").read_bytes() == CONTENT
    starts = [int(asked[6:-1]) if asked else 0 for _, asked in server.asked]
    assert len(starts) == 3
    assert starts[0] < starts[1] < starts[2]


def test_a_server_that_is_busy_is_asked_again_and_given_up_in_the_end(
    connection: Connection, server: BlobServer, tmp_path: Path
) -> None:
    server.busy = 2
    download(connection, [WANTED], tmp_path)
    server.busy = 99
    with pytest.raises(UnavailableError):
        download(connection, [Wanted("c", OTHER_SHA, len(OTHER))], tmp_path)
    assert not (tmp_path / "c").exists()


def test_an_attempt_of_a_killed_process_is_gone_on_with(
    connection: Connection, server: BlobServer, tmp_path: Path
) -> None:
    with (tmp_path / "x").open("w+b") as file:
        file.write(CONTENT[:2_000_000])
        file.flush()
        fetch(connection, SHA, len(CONTENT), file.fileno())
        file.seek(0)
        assert file.read() == CONTENT
    assert server.asked == [(SHA, "bytes=2000000-")]


def test_a_wrong_beginning_is_thrown_away(connection: Connection, server: BlobServer, tmp_path: Path) -> None:
    for beginning in (b"x" * 1000, CONTENT + b"more", b"x" * len(CONTENT)):
        with (tmp_path / "x").open("w+b") as file:
            file.write(beginning)
            file.flush()
            fetch(connection, SHA, len(CONTENT), file.fileno())
            file.seek(0)
            assert file.read() == CONTENT


def test_a_server_that_sends_something_else_is_not_believed(
    connection: Connection, server: BlobServer, tmp_path: Path
) -> None:
    server.lies = 1
    download(connection, [WANTED], tmp_path)
    assert (tmp_path / "a/b.bin").read_bytes() == CONTENT
    server.lies = 2
    with pytest.raises(DigestError):
        download(connection, [Wanted("c", OTHER_SHA, len(OTHER))], tmp_path)
    assert not (tmp_path / "c").exists()


def test_a_server_without_ranges_does_not_spoil_the_file(
    connection: Connection, server: BlobServer, tmp_path: Path
) -> None:
    server.ignores_range = True
    server.cut_after, server.cuts = 1_000_000, 1
    download(connection, [WANTED], tmp_path)
    assert (tmp_path / "a/b.bin").read_bytes() == CONTENT


def test_names_that_mean_another_place_are_refused_before_anything_comes(
    connection: Connection, server: BlobServer, tmp_path: Path
) -> None:
    with pytest.raises(FileNameError):
        download(connection, [WANTED, Wanted("../x", OTHER_SHA, len(OTHER))], tmp_path / "t")
    assert server.asked == []
    assert files_below(tmp_path) == []


def test_what_lies_in_the_cache_is_not_asked_for(
    connection: Connection, server: BlobServer, tmp_path: Path
) -> None:
    cache = BlobCache(tmp_path / "cache")
    for folder in ("one", "two"):
        download(connection, [WANTED], tmp_path / folder, cache=cache)
        assert (tmp_path / folder / "a/b.bin").read_bytes() == CONTENT
    assert len(server.asked) == 1
    (tmp_path / "two/a/b.bin").write_bytes(b"mine now")
    download(connection, [WANTED], tmp_path / "three", cache=cache)
    assert (tmp_path / "three/a/b.bin").read_bytes() == CONTENT


def test_what_is_damaged_in_the_cache_is_fetched_again(
    connection: Connection, server: BlobServer, tmp_path: Path
) -> None:
    cache = BlobCache(tmp_path / "cache")
    download(connection, [WANTED], tmp_path / "one", cache=cache)
    kept = tmp_path / "cache/blobs" / SHA[:2] / SHA
    for damage in (CONTENT[:-1] + b"!", CONTENT[:-1], b""):
        kept.write_bytes(damage)
        download(connection, [WANTED], tmp_path / f"t{len(damage)}{damage[-1:].hex()}", cache=cache)
        assert kept.read_bytes() == CONTENT
    assert len(server.asked) == 4
    assert {path.read_bytes() for path in tmp_path.rglob("b.bin")} == {CONTENT}


def test_a_cache_that_can_not_be_written_is_no_reason_to_go_without(
    connection: Connection, server: BlobServer, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("no folder")
    download(connection, [WANTED], tmp_path / "t", cache=BlobCache(tmp_path / "cache"))
    assert (tmp_path / "t/a/b.bin").read_bytes() == CONTENT


def test_a_content_of_unknown_size_is_read_whole(connection: Connection, server: BlobServer) -> None:
    server.busy = 1
    server.cut_after, server.cuts = 1_000_000, 1
    assert read_content(connection, SHA, limit_bytes=len(CONTENT)) == CONTENT
    with pytest.raises(CommError, match="larger than"):
        read_content(connection, SHA, limit_bytes=len(CONTENT) - 1)
    server.lies = 1
    with pytest.raises(DigestError):
        read_content(connection, SHA, limit_bytes=len(CONTENT))


def test_the_first_problem_ends_all_threads() -> None:
    seen: list[int] = []

    def work(number: int) -> None:
        seen.append(number)
        if number == 5:
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        in_parallel(work, range(100_000), threads=4)
    assert len(seen) < 100_000
    seen.clear()
    in_parallel(seen.append, range(100), threads=4)
    assert sorted(seen) == list(range(100))


def test_a_file_of_many_pieces_is_not_held_in_memory(
    connection: Connection, server: BlobServer, tmp_path: Path
) -> None:
    content = os.urandom(64) * 1_000_000
    server.contents[hashlib.sha256(content).hexdigest()] = content
    download(connection, [Wanted("big", hashlib.sha256(content).hexdigest(), len(content))], tmp_path)
    assert (tmp_path / "big").stat().st_size == 64_000_000

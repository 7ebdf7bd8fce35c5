"""BlobClient: what it does about every way in which a transfer can break, and how much it asks."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from runfold.batches import BATCH_COUNT
from runfold.uploads import transfer
from runfold.uploads.failures import (
    NotYetError,
    RefusedError,
    SourceError,
    StoppedError,
    TryLaterError,
)
from runfold.uploads.source import Source
from runfold.uploads.transfer import BlobClient
from support.faulty_blobs import Fault, FaultyBlobs, answers, cut_off, passes


class Clock:
    """Time passes by waiting only."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now_s += seconds
        return False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connect(clock: Clock) -> Iterator[Callable[[FaultyBlobs], BlobClient]]:
    made: list[BlobClient] = []

    def make(server: FaultyBlobs) -> BlobClient:
        made.append(
            BlobClient("http://server", "key", transport=server, wait=clock.wait, clock=clock, patience_s=20)
        )
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 100)


@pytest.fixture
def large(tmp_path: Path) -> tuple[str, Path]:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(950))
    return hashlib.sha256(path.read_bytes()).hexdigest(), path


def count(server: FaultyBlobs, method: str) -> int:
    return sum(found == method for found, _ in server.requests)


def test_a_blob_travels_in_pieces(
    connect: Callable[[FaultyBlobs], BlobClient], large: tuple[str, Path]
) -> None:
    server, (digest, path), sent = FaultyBlobs(), large, []
    with Source(path) as source:
        assert connect(server).upload(digest, source, on_sent=sent.append)
    assert server.blobs[digest] == path.read_bytes()
    assert sent == [100] * 9 + [50]
    assert (count(server, "GET"), count(server, "PUT")) == (1, 10)


def test_what_the_server_has_is_not_sent(
    connect: Callable[[FaultyBlobs], BlobClient], large: tuple[str, Path]
) -> None:
    server, (digest, path) = FaultyBlobs(), large
    server.blobs[digest] = path.read_bytes()
    with Source(path) as source:
        assert connect(server).upload(digest, source)
    assert count(server, "PUT") == 0
    assert connect(server).missing([digest, digest, "0" * 64]) == {"0" * 64}


def test_an_empty_blob_is_one_empty_piece(
    connect: Callable[[FaultyBlobs], BlobClient], tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    server, digest = FaultyBlobs(), hashlib.sha256().hexdigest()
    with Source(tmp_path / "empty") as source:
        assert connect(server).upload(digest, source)
    assert server.blobs == {digest: b""}


@pytest.mark.parametrize(
    "faults",
    [
        [cut_off],
        [passes, passes, cut_off, cut_off, *answers(503, times=2), passes, *answers(429)],
        [*answers(500), passes, *answers(507)],
    ],
)
def test_what_breaks_off_is_gone_on_with(
    connect: Callable[[FaultyBlobs], BlobClient], large: tuple[str, Path], faults: list[Fault]
) -> None:
    server, (digest, path) = FaultyBlobs(*faults), large
    with Source(path) as source:
        assert connect(server).upload(digest, source)
    assert server.blobs[digest] == path.read_bytes()
    assert count(server, "PUT") <= 10 + len(faults)


def test_waits_grow_up_to_the_patience_and_obey_the_server(
    connect: Callable[[FaultyBlobs], BlobClient], clock: Clock
) -> None:
    with pytest.raises(TryLaterError, match="HTTP 503: no") as caught:
        connect(FaultyBlobs(*answers(503, times=100))).missing(["0" * 64])
    assert caught.value.status == 503
    assert 5 <= len(clock.waits) < 20
    assert sum(clock.waits) <= 20
    assert clock.waits[4] > clock.waits[0]
    clock.waits.clear()
    assert connect(FaultyBlobs(*answers(429, **{"retry-after": "7"}))).missing([]) == set()
    assert connect(FaultyBlobs(*answers(429, **{"retry-after": "7"}))).missing(["0" * 64]) == {"0" * 64}
    assert clock.waits == [7.0]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_somebody_may_mend_is_tried_later(
    connect: Callable[[FaultyBlobs], BlobClient], clock: Clock, status: int
) -> None:
    with pytest.raises(TryLaterError) as caught:
        connect(FaultyBlobs(*answers(status))).missing(["0" * 64])
    assert caught.value.status == status
    assert clock.waits == []


@pytest.mark.parametrize("status", [400, 405, 413])
def test_what_the_server_will_never_take_is_refused(
    connect: Callable[[FaultyBlobs], BlobClient], status: int
) -> None:
    with pytest.raises(RefusedError) as caught:
        connect(FaultyBlobs(*answers(status))).missing(["0" * 64])
    assert caught.value.status == status


def test_two_that_upload_the_same_blob_get_it_there(
    connect: Callable[[FaultyBlobs], BlobClient], large: tuple[str, Path], clock: Clock
) -> None:
    server, (digest, path) = FaultyBlobs(), large
    content = path.read_bytes()

    def other(_: httpx.Request) -> None:
        server.partial[digest] = content[: len(server.partial.get(digest, b"")) + 130]

    server.faults += [
        passes,
        *answers(409, **{"retry-after": "1"}),
        passes,
        passes,
        other,
        passes,
        passes,
        other,
    ]
    with Source(path) as source:
        assert connect(server).upload(digest, source)
    assert server.blobs[digest] == content
    assert 1.0 in clock.waits


def test_a_blob_that_stays_somebody_elses_waits(
    connect: Callable[[FaultyBlobs], BlobClient], large: tuple[str, Path]
) -> None:
    def busy(request: httpx.Request) -> httpx.Response | None:
        return answers(409)[0](request) if request.method == "PUT" else None  # type: ignore[return-value]

    digest, path = large
    with Source(path) as source, pytest.raises(NotYetError):
        connect(FaultyBlobs(*[busy] * 1000)).upload(digest, source)


def test_an_upload_makes_way_after_a_piece(
    connect: Callable[[FaultyBlobs], BlobClient], large: tuple[str, Path]
) -> None:
    server, (digest, path) = FaultyBlobs(), large
    client = connect(server)
    with Source(path) as source:
        turns = 0
        while not client.upload(digest, source, is_enough=lambda: True):
            turns += 1
    assert turns == 9
    assert server.blobs[digest] == path.read_bytes()


def test_a_file_that_became_shorter_is_told(
    connect: Callable[[FaultyBlobs], BlobClient], large: tuple[str, Path]
) -> None:
    digest, path = large
    with Source(path) as source:
        os.truncate(path, 420)
        with pytest.raises(SourceError, match="became shorter"):
            connect(FaultyBlobs()).upload(digest, source)


def test_a_file_that_was_written_over_is_told(
    connect: Callable[[FaultyBlobs], BlobClient], large: tuple[str, Path]
) -> None:
    digest, path = large
    with Source(path) as source:
        path.write_bytes(b"x" * 950)
        with pytest.raises(SourceError, match="changed while it was uploaded: other bytes"):
            connect(FaultyBlobs()).upload(digest, source)


def test_a_file_that_grew_or_was_replaced_is_what_it_was(
    connect: Callable[[FaultyBlobs], BlobClient], large: tuple[str, Path], tmp_path: Path
) -> None:
    server, (digest, path) = FaultyBlobs(), large
    content = path.read_bytes()
    with Source(path) as source:
        with path.open("ab") as file:
            file.write(b"more")
        (tmp_path / "new").write_bytes(b"new")
        (tmp_path / "new").rename(path)
        assert connect(server).upload(digest, source)
    assert server.blobs == {digest: content}


def test_many_small_blobs_share_requests(connect: Callable[[FaultyBlobs], BlobClient]) -> None:
    server = FaultyBlobs()
    blobs = [(hashlib.sha256(b"%d" % n).hexdigest(), b"%d" % n) for n in range(2500)]
    connect(server).upload_small(blobs)
    assert server.blobs == dict(blobs)
    assert count(server, "POST") == 2500 // BATCH_COUNT


def test_told_to_stop_it_stops() -> None:
    stop = threading.Event()
    server = FaultyBlobs(*answers(503, times=1000))
    with BlobClient("http://server", None, transport=server, stop=stop, patience_s=600) as client:
        threading.Timer(0.05, stop.set).start()
        with pytest.raises(StoppedError):
            client.missing(["0" * 64])


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(TryLaterError, match="no HTTP address"):
        BlobClient("http://server:port", None)


def test_an_answer_of_something_else_is_told(connect: Callable[[FaultyBlobs], BlobClient]) -> None:
    def page(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<html>")

    with pytest.raises(TryLaterError, match="is this a runfold server"):
        connect(FaultyBlobs(*[page] * 1000)).missing(["0" * 64])

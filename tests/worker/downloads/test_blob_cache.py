"""The cache holds what was verified, gives up what is old, and is shared by processes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runfold.blob_cache import BlobCache, cache_directory, max_bytes
from support.processes import until


def sha_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(cache: BlobCache, content: bytes) -> None:
    os.close(cache.fill(sha_of(content), len(content), lambda fd: os.write(fd, content)))


def has(cache: BlobCache, content: bytes) -> bool:
    fd = cache.open(sha_of(content), len(content))
    if fd is None:
        return False
    os.close(fd)
    return True


def test_the_environment_says_where_and_how_much() -> None:
    assert cache_directory({"RUNFOLD_CACHE_DIR": "/a", "WANDB_CACHE_DIR": "/b"}) == Path("/a")
    assert cache_directory({"WANDB_CACHE_DIR": "/b"}) == Path("/b")
    assert cache_directory({"XDG_CACHE_HOME": "/c"}) == Path("/c/runfold")
    assert cache_directory({}) == Path.home() / ".cache/runfold"
    assert max_bytes({"RUNFOLD_CACHE_BYTES": "1e9"}) == 1_000_000_000
    assert max_bytes({"RUNFOLD_CACHE_BYTES": "much"}) == max_bytes({})


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, 2500)
    contents = [bytes([number]) * 1000 for number in range(4)]
    for age, content in enumerate(contents):
        put(cache, content)
        path = tmp_path / "blobs" / sha_of(content)[:2] / sha_of(content)
        os.utime(path, (1000 + age, 1000 + age))
    assert has(cache, contents[0]), "and is used now"
    assert cache.trim(at_once=True) == 2000
    assert [has(cache, content) for content in contents] == [True, False, False, True]


def test_it_is_looked_through_only_so_often(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, 0)
    put(cache, b"a")
    assert cache.trim(10_000.0) == 1
    put(cache, b"b")
    assert cache.trim(10_100.0) == 0
    assert cache.trim(10_700.0) == 1
    assert BlobCache(tmp_path / "missing", 0).trim() == 0


def test_unfinished_contents_are_given_up_after_a_week(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, 10)
    put(cache, b"a")
    old, new = tmp_path / "partial/old", tmp_path / "partial/new"
    for path, age_s in ((old, 8 * 86_400), (new, 6 * 86_400)):
        path.write_text("x")
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
    cache.trim(1e9)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_content_of_another_size_is_not_there(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path)
    put(cache, b"abc")
    assert cache.open(sha_of(b"abc"), 4) is None
    assert not has(cache, b"abc")


def test_threads_that_want_one_content_bring_it_once(tmp_path: Path) -> None:
    cache, brought = BlobCache(tmp_path), []

    def fetch(fd: int) -> None:
        brought.append(fd)
        os.write(fd, b"abc")

    threads = [
        threading.Thread(target=lambda: os.close(cache.fill(sha_of(b"abc"), 3, fetch))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(brought) == 1


PROGRAM = """
import os, sys, time
from pathlib import Path
from runfold.blob_cache import BlobCache
def fetch(fd):
    os.write(fd, b"half ")
    print("half", flush=True)
    time.sleep(60)
BlobCache(Path(sys.argv[1])).fill(sys.argv[2], 10, fetch)
"""


def test_what_a_killed_process_had_begun_is_gone_on_with(tmp_path: Path) -> None:
    sha = sha_of(b"half whole")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), sha]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    found: list[bytes] = []

    def go_on(fd: int) -> None:
        found.append(os.read(fd, 99))
        os.write(fd, b"whole")

    waiting = threading.Thread(target=lambda: os.close(BlobCache(tmp_path).fill(sha, 10, go_on)))
    waiting.start()
    try:
        assert found == [], "who is in the middle of it is waited for"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        process.stdout.close()
    until(lambda: bool(found))
    waiting.join(20)
    fd = BlobCache(tmp_path).open(sha, 10)
    assert fd is not None
    assert os.read(fd, 99) == b"half whole"
    os.close(fd)


def test_a_reader_keeps_what_is_removed_meanwhile(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, 0)
    put(cache, b"abc")
    fd = cache.open(sha_of(b"abc"), 3)
    assert fd is not None
    assert cache.trim(at_once=True) == 3
    assert os.read(fd, 9) == b"abc"
    os.close(fd)


def test_what_can_not_be_fetched_is_not_there(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path)

    def fail(fd: int) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.fill(sha_of(b"abc"), 3, fail)
    assert not has(cache, b"abc")
    put(cache, b"abc")
    assert has(cache, b"abc")

"""Objects in an object store, by fsspec: s3://bucket/prefix and the like. What comes in is spooled first."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from runfold.protocol import failpoints
from runfold_coordinator.blobs.errors import BlobUnavailableError
from runfold_coordinator.blobs.places import ObjectFacts, digest_of_object

MIB = 1024 * 1024
#: Bytes of one part of a large object; one is in memory at a time.
PART_BYTES = 16 * MIB
#: Most parts of one object (S3 has 10,000): above it they are larger.
MOST_PARTS = 9000
#: Read ahead of who reads from an object.
READ_BYTES = 4 * MIB
#: Small objects on their way at a time.
THREADS = 16
#: How file systems call the time of the last change.
_MODIFIED = ("LastModified", "last_modified", "modified", "mtime", "updated", "created")


class RemotePlace:
    """Objects below a URL. Nothing is asked of the store before the first blob comes."""

    is_local = False

    def __init__(self, url: str, incoming: Path) -> None:
        """Prepare.

        Raises:
            ValueError: No such kind of address, or what it needs is not installed; the message tells.
        """
        try:
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            extra = ": pip install 'runfold[s3]'" if url.startswith("s3:") else ""
            raise ValueError(f"blobs at {_scheme(url)}: {error}{extra}") from error
        self._root = str(root).rstrip("/")
        self.incoming = incoming
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="runfold-blob-store")

    def take(self, source: Path, name: str) -> None:
        size = source.stat().st_size
        part = max(PART_BYTES, -(-size // MOST_PARTS))
        with (
            _writing(),
            open(source, "rb") as file,
            self._fs.open(self._path(name), "wb", block_size=part) as to,
        ):
            while data := file.read(MIB):
                if self._closing.is_set():  # gigabytes would hold up the end of the process
                    raise BlobUnavailableError("the server is ending")
                to.write(data)
        self._check(name, size)
        failpoints.hit("blobs.after_put")

    def take_many(self, pieces: Sequence[tuple[str, bytes]]) -> None:
        list(self._pool.map(self._put, pieces))
        failpoints.hit("blobs.after_batch_rename")

    def open(self, name: str) -> BinaryIO:
        with _mapped():
            found = self._fs.open(self._path(name), "rb", block_size=READ_BYTES, cache_type="readahead")
        return cast("BinaryIO", _MappedFile(found))

    def size(self, name: str) -> int:
        with _mapped():
            return int(self._fs.size(self._path(name)))

    def remove(self, names: Sequence[str]) -> None:
        list(self._pool.map(self._remove, names))

    def list_shard(self, shard: str) -> Iterator[ObjectFacts]:
        with _mapped():
            found = self._fs.find(f"{self._root}/{shard}", detail=True)
        for path, facts in found.items():
            yield ObjectFacts(path[len(self._root) + 1 :], int(facts.get("size") or 0), _modified(facts))

    def close(self) -> None:
        self._closing.set()
        self._pool.shutdown(wait=False)

    def _put(self, piece: tuple[str, bytes]) -> None:
        name, data = piece
        with _writing():
            self._fs.pipe_file(self._path(name), data)
        self._check(name, len(data))

    def _check(self, name: str, size: int) -> None:
        try:
            found = self.size(name)
        except FileNotFoundError as error:
            raise BlobUnavailableError("the object store does not show what it has just taken") from error
        if found != size:
            raise BlobUnavailableError(f"the object store has kept {found} of {size} bytes")

    def _remove(self, name: str) -> None:
        with _mapped(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        assert digest_of_object(name), "made by new_object_name, or read from our table"
        return f"{self._root}/{name}"


class _MappedFile:
    """A file of fsspec whose errors are ours."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        with _mapped():
            return bytes(self._file.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> _MappedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Turn whatever a driver raises, but for an object that is not there, into BlobUnavailableError."""
    try:
        with _writing():
            yield
    except BlobUnavailableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise error.__cause__ from None
        raise


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Turn whatever a driver raises into BlobUnavailableError: what is not there is the bucket itself."""
    try:
        yield
    except BlobUnavailableError:
        raise
    except Exception as error:
        raise BlobUnavailableError(f"the object store: {type(error).__name__}: {error}") from error


def _modified(facts: Mapping[str, Any]) -> float | None:
    found = next((facts[name] for name in _MODIFIED if facts.get(name) is not None), None)
    if isinstance(found, datetime.datetime):
        return found.replace(tzinfo=found.tzinfo or datetime.UTC).timestamp()
    return float(found) if isinstance(found, (int, float)) else None


def _scheme(url: str) -> str:
    """Return an address less what may be secret in it."""
    return url.partition("://")[0] + "://..."

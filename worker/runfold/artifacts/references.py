"""References: content that stays where it is, and is pointed to. This machine asks; the server never does.

In: a URI. Out: entries with what tells their versions apart (an ETag, a checksum). And back: the content, as
long as it is still that version.

file:// is read directly, http(s):// by httpx, the rest (s3://, gs://, az://, ...) by fsspec and its driver.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from runfold import terminal
from runfold.artifacts.draft import files_below
from runfold.errors import UnsupportedError
from runfold.file_copies import PIECE_BYTES, open_to_read, sum_path, write_all
from runfold.protocol.content_sum import ContentSum, md5_of_text
from runfold.protocol.manifest import Entry

#: References that one call makes, unless said otherwise.
MAX_OBJECTS = 10_000_000
_TIMEOUT_S = 60.0
#: What a store says of an object that changes when its content does, best first.
_FINGERPRINTS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "checksum",
    "mtime",
    "LastModified",
    "last_modified",
)


class ReferenceChangedError(ValueError):
    """What a reference points to is not any more what was referred to."""


def refer(
    uri: str, name: str | None, *, checksum: bool = True, max_objects: int | None = None
) -> Iterator[tuple[str, Entry]]:
    """Yield name and entry of each object at a URI: of a file one, of a folder or prefix all below.

    Args:
        name: Of the object; of a folder's objects, the folder. None: as they are called.
        checksum: Whether to look at the objects. False: they are believed to be there and to stay.
        max_objects: More of them are an error.

    Raises:
        ValueError: There is nothing, there are too many, or no name can be made of it.
        UnsupportedError: The driver for the scheme is not installed.
    """
    limit = max_objects or MAX_OBJECTS
    scheme = urlsplit(uri).scheme.lower()
    if not scheme:
        raise ValueError("References must be URIs. To reference a local file, use file://")
    if scheme == "file":
        found = _local(uri, name, checksum=checksum)
    elif scheme in ("http", "https"):
        found = _web(uri, name, checksum=checksum)
    elif _is_known(scheme):
        found = _stored(uri, name, checksum=checksum)
    else:
        found = _unknown(uri, name)
    for count, pair in enumerate(found):
        if count >= limit:
            raise ValueError(f"Exceeded {limit} objects tracked, pass max_objects to add_reference")
        yield pair


def fetch(entry: Entry, fd: int) -> None:
    """Write what a reference points to into an open, empty file.

    Raises:
        ReferenceChangedError: It is there, and has changed. OSError, ValueError: It can't be had.
        UnsupportedError: The driver for the scheme is not installed.
    """
    assert entry.ref is not None, "asked of references only"
    scheme = urlsplit(entry.ref).scheme.lower()
    if scheme == "file":
        _fetch_local(entry, fd)
    elif scheme in ("http", "https"):
        _fetch_web(entry, fd)
    elif _is_known(scheme):
        _fetch_stored(entry, fd)
    else:
        raise UnsupportedError(f"{entry.ref} can't be downloaded: nothing here knows {scheme}://")


# -- files of this machine --


def _local(uri: str, name: str | None, *, checksum: bool) -> Iterator[tuple[str, Entry]]:
    path = _path_of(uri)
    if path.is_dir():
        for file, below in files_below(str(path), follow_folders=False):
            ref = f"{uri.removesuffix('/')}/{below}"
            yield f"{name}/{below}" if name else below, _local_entry(Path(file), ref, checksum=checksum)
    elif path.is_file():
        yield name or path.name, _local_entry(path, uri, checksum=checksum)
    else:
        raise ValueError(f"Path {uri!r} must be a valid file or directory path")


def _local_entry(path: Path, ref: str, *, checksum: bool) -> Entry:
    if _path_of(ref) != path.absolute():  # a name with "%" or "#" is not what a URI says where it just stands
        ref = f"file://{quote(str(path.absolute()))}"
    if not checksum:
        return Entry(md5_of_text(path.resolve().as_uri()), path.stat().st_size, ref)
    summed = sum_path(path)
    return Entry(summed.md5, summed.size, ref, sha256=summed.sha256)


def _path_of(uri: str) -> Path:
    parts = urlsplit(uri)
    return Path(unquote(parts.netloc + parts.path))


def _fetch_local(entry: Entry, fd: int) -> None:
    path = _path_of(entry.ref or "")
    total = ContentSum()
    source = open_to_read(path)
    try:
        offset = 0
        while piece := os.pread(source, PIECE_BYTES, offset):
            write_all(fd, piece)
            total.update(piece)
            offset += len(piece)
    finally:
        os.close(source)
    if entry.sha256 not in (None, total.sha256):
        raise ReferenceChangedError(
            f"Local file reference: Digest mismatch for path {str(path)!r}: expected {entry.digest!r} but "
            f"found {total.md5!r}"
        )


# -- the web --


def _web(uri: str, name: str | None, *, checksum: bool) -> Iterator[tuple[str, Entry]]:
    import httpx

    name = name or uri.rpartition("/")[2]
    if not name:
        raise ValueError(f"{uri} has no file name: pass name= to add_reference")
    if not checksum:
        yield name, Entry(uri, None, uri)
        return
    try:
        with httpx.stream("GET", uri, timeout=_TIMEOUT_S, follow_redirects=True) as answer:
            answer.raise_for_status()
            size = answer.headers.get("content-length")
            found = _web_entry(str(answer.url), answer.headers.get("etag"), size)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"{uri} can't be referenced: {error}") from error
    yield name, found


def _web_entry(url: str, etag: str | None, size: str | None) -> Entry:
    """Return what is known of a page: by its ETag without the quotes, as W&B; else by its address."""
    extra = {"etag": etag} if etag else {}
    return Entry(etag.strip('"') if etag else url, int(size) if size and size.isdigit() else None, url, extra)


def _fetch_web(entry: Entry, fd: int) -> None:
    import httpx

    uri = entry.ref or ""
    try:
        with httpx.stream("GET", uri, timeout=_TIMEOUT_S, follow_redirects=True) as answer:
            answer.raise_for_status()
            found = _web_entry(uri, answer.headers.get("etag"), None).digest
            if entry.digest not in (uri, found):
                raise ReferenceChangedError(
                    f"Digest mismatch for url {uri!r}: expected {entry.digest!r} but found {found!r}"
                )
            for piece in answer.iter_bytes(PIECE_BYTES):
                write_all(fd, piece)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"{uri} can't be downloaded: {error}") from error


# -- what fsspec knows --


def _is_known(scheme: str) -> bool:
    try:
        from fsspec.registry import known_implementations
    except ImportError:
        return scheme in ("s3", "gs", "gcs", "az", "abfs", "memory")
    return scheme in known_implementations


def _stored(uri: str, name: str | None, *, checksum: bool) -> Iterator[tuple[str, Entry]]:
    if not checksum:
        parts = urlsplit(uri)
        name = name or parts.path[1:] or parts.netloc
        if not name:
            raise ValueError(f"{uri} has no file name: pass name= to add_reference")
        yield name, Entry(uri, None, uri)
        return
    files, root = _open(uri)
    try:
        found = files.find(root, detail=True)
    except OSError as error:
        raise ValueError(f"{uri} can't be referenced: {error}") from error
    if not found:
        raise ValueError(f"Unable to find object at {uri}")
    for path, about in sorted(found.items()):
        if about.get("type") == "directory":
            continue
        below = path[len(root) :].strip("/")
        own = PurePosixPath(path).name
        # Of a single object `name` is its own; of many, the folder that they are put into.
        chosen = (name or own) if not below else (str(PurePosixPath(name, below)) if name else below)
        yield chosen, _stored_entry(files.unstrip_protocol(path), about)


def _stored_entry(uri: str, about: dict[str, Any]) -> Entry:
    fingerprint = next((str(about[key]).strip('"') for key in _FINGERPRINTS if about.get(key)), uri)
    extra = {"etag": fingerprint} if fingerprint != uri else {}
    if about.get("VersionId") not in (None, "null"):
        extra["versionID"] = str(about["VersionId"])
    return Entry(fingerprint, about.get("size"), uri, extra)


def _fetch_stored(entry: Entry, fd: int) -> None:
    uri = entry.ref or ""
    files, path = _open(uri)
    try:
        if entry.digest != uri:
            files.invalidate_cache()  # what a listing said a while ago is not what is there now
            found = _stored_entry(uri, files.info(path)).digest
            if found != entry.digest:
                raise ReferenceChangedError(
                    f"Digest mismatch for object {uri}: expected {entry.digest} but found {found}"
                )
        with files.open(path, "rb") as source:
            while piece := source.read(PIECE_BYTES):
                write_all(fd, piece)
    except FileNotFoundError as error:
        raise ValueError(f"Unable to find object at {uri}") from error


def _open(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI and the path in it."""
    scheme = urlsplit(uri).scheme
    try:
        import fsspec

        files, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        extra = "s3" if scheme in ("s3", "s3a") else None
        how = f"pip install 'runfold[{extra}]'" if extra else f"install fsspec and its driver for {scheme}://"
        raise UnsupportedError(f"references to {scheme}:// need a driver ({error}): {how}") from error
    return files, path.rstrip("/")


def _unknown(uri: str, name: str | None) -> Iterator[tuple[str, Entry]]:
    if name is None:
        raise ValueError(
            f'You must pass name="<entry_name>" when tracking references with unknown schemes. ref: {uri}'
        )
    terminal.warn_once(f"Artifact references with unsupported schemes cannot be checksummed: {uri}")
    yield name, Entry(uri, None, uri)

"""References are looked at here, fetched here, and noticed when they changed; no server takes part."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from runfold import Artifact, UsageError
from runfold.artifacts.references import ReferenceChangedError, fetch, refer
from runfold.protocol.content_sum import md5_of_text
from runfold.protocol.manifest import Entry
from support.manifest_entries import file_entry
from support.s3 import Bucket, bucket, s3_server

__all__ = ["bucket", "s3_server"]


def fetched(entry: Entry, tmp_path: Path) -> bytes:
    path = tmp_path / "fetched"
    with path.open("w+b") as file:
        fetch(entry, file.fileno())
    return path.read_bytes()


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    Path("a b").write_text("x")
    (reference,) = Artifact("a", "t").add_reference(f"file://{os.path.abspath('a b')}")
    assert reference.path == "a b"
    assert (reference.digest, reference.size) == (file_entry(b"x").digest, 1)
    assert reference.ref_target() == f"file://{os.path.abspath('a b')}"
    assert fetched(reference._entry, tmp_path) == b"x"
    Path("a b").write_text("y")
    with pytest.raises(ReferenceChangedError, match="Digest mismatch"):
        fetched(reference._entry, tmp_path)


def test_a_folder_is_all_that_lies_in_it() -> None:
    Path("d/s").mkdir(parents=True)
    for name in ("d/a", "d/s/b"):
        Path(name).write_text(name)
    uri = f"file://{os.path.abspath('d')}"
    assert [name for name, _ in refer(uri, None)] == ["a", "s/b"]
    assert [name for name, _ in refer(uri, "in")] == ["in/a", "in/s/b"]
    believed = dict(refer(uri, "in", checksum=False))
    assert {name: (entry.digest, entry.size) for name, entry in believed.items()} == {
        "in/a": (md5_of_text(f"{uri}/a"), 3),
        "in/s/b": (md5_of_text(f"{uri}/s/b"), 5),
    }
    artifact = Artifact("a", "t")
    with pytest.raises(ValueError, match="Exceeded 1 objects tracked"):
        artifact.add_reference(uri, max_objects=1)
    assert not artifact.manifest.entries


def test_what_is_no_reference_is_refused() -> None:
    artifact = Artifact("a", "t")
    with pytest.raises(ValueError, match="References must be URIs"):
        artifact.add_reference("some/path")
    with pytest.raises(ValueError, match="must be a valid file or directory path"):
        artifact.add_reference("file:///does/not/exist")
    with pytest.raises(ValueError, match="at most 4096 bytes"):
        artifact.add_reference("odd://" + "x" * 5000, name="x")
    with pytest.raises(ValueError, match="You must pass name="):
        artifact.add_reference("odd://place/thing")
    (entry,) = artifact.add_reference("odd://place/thing", name="thing")
    assert (entry.digest, entry.ref, entry.local_path) == ("odd://place/thing", "odd://place/thing", None)
    with pytest.raises(UsageError, match="nothing here knows odd://"):
        fetch(entry._entry, 0)


def test_passwords_in_an_address_are_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    (entry,) = Artifact("a", "t").add_reference("odd://me:hunter22@host/thing", name="thing")
    assert "hunter22" not in repr(entry)
    assert "hunter22" not in entry.digest
    assert "credentials in a reference are not kept" in capsys.readouterr().err


def test_an_entry_of_another_artifact_is_its_content() -> None:
    Path("f").write_text("x")
    one, other = Artifact("one", "t"), Artifact("other", "t")
    (shared,) = other.add_reference(one.add_file("f"), name="g")
    assert (shared.path, shared.digest, shared.ref) == ("g", file_entry(b"x").digest, None)
    assert shared.local_path == one.manifest.entries["f"].local_path


@pytest.fixture
def web() -> Iterator[tuple[str, dict[str, tuple[bytes, str | None]]]]:
    """Serve pages (content, ETag) by path."""
    pages: dict[str, tuple[bytes, str | None]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, etag = pages.get(self.path, (b"", None))
            self.send_response(200 if self.path in pages else 404)
            self.send_header("Content-Length", str(len(content)))
            if etag:
                self.send_header("ETag", etag)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", pages
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_web_is_known_by_etags(
    web: tuple[str, dict[str, tuple[bytes, str | None]]], tmp_path: Path
) -> None:
    url, pages = web
    pages["/d/data.csv"] = (b"1,2", '"one"')
    ((name, entry),) = refer(f"{url}/d/data.csv", None)
    assert (name, entry.digest, entry.size, entry.extra) == ("data.csv", "one", 3, {"etag": '"one"'})
    assert fetched(entry, tmp_path) == b"1,2"
    pages["/d/data.csv"] = (b"3,4", '"two"')
    with pytest.raises(ReferenceChangedError):
        fetched(entry, tmp_path)
    del pages["/d/data.csv"]
    with pytest.raises(ValueError, match="can't be downloaded"):
        fetched(entry, tmp_path)
    with pytest.raises(ValueError, match="can't be referenced"):
        list(refer(f"{url}/d/data.csv", None))
    with pytest.raises(ValueError, match="has no file name"):
        list(refer(f"{url}/", None))
    ((_, unseen),) = refer(f"{url}/d/data.csv", None, checksum=False)
    assert unseen.digest == f"{url}/d/data.csv"


@pytest.mark.xdist_group("s3")
def test_an_object_store_is_known_by_etags(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, root = fsspec.core.url_to_fs(bucket.url)
    for name in ("set/a.bin", "set/sub/b.bin"):
        files.pipe(f"{root}/{name}", name.encode())
    found = dict(refer(f"{bucket.url}/set", "in"))
    assert sorted(found) == ["in/a.bin", "in/sub/b.bin"]
    entry = found["in/a.bin"]
    assert (entry.size, entry.digest) == (9, hashlib.md5(b"set/a.bin").hexdigest())
    assert entry.ref == f"{bucket.url}/set/a.bin"
    assert fetched(entry, tmp_path) == b"set/a.bin"
    ((name, alone),) = refer(f"{bucket.url}/set/a.bin", None)
    assert (name, alone) == ("a.bin", entry)
    files.pipe(f"{root}/set/a.bin", b"other")
    with pytest.raises(ReferenceChangedError, match="Digest mismatch for object"):
        fetched(entry, tmp_path)
    with pytest.raises(ValueError, match="Unable to find object"):
        list(refer(f"{bucket.url}/nothing", None))

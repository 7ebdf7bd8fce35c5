"""Judges what a schedule uploaded: `check_uploads` raises AssertionError while a promise is not kept (yet).

Each call that returned ends in content that is there, or in an error that everybody can see; no call makes two
versions; whatever the server refers to can be read, and hashes to its digest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from chaos.stage import Stage
from support.uploading import LOGGED, Upload, read_ledger


@dataclass(slots=True)
class Uploaded:
    """Figures of a schedule whose uploads held."""

    calls: int = 0
    files: int = 0
    versions: int = 0
    failed: int = 0
    contents: int = 0

    def __str__(self) -> str:
        return (
            f"{self.calls} uploads: {self.files} files, {self.versions} versions, {self.failed} failed visibly, "
            f"{self.contents} contents hashed"
        )


class Shelf:
    """The server as a client sees it. Not reachable counts as a promise that is not kept yet."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=20)

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def json(self, path: str, **query: Any) -> Any:
        return self._get(path, query).json()

    def content(self, digest: str) -> bytes:
        return self._get(f"/api/v1/blobs/{digest}", {}).content

    def pages(self, path: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
        cursor = None
        while True:
            page = self.json(path, **query, **({"cursor": cursor} if cursor else {}))
            yield from page[key]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _get(self, path: str, query: dict[str, Any]) -> httpx.Response:
        try:
            answer = self._client.get(path, params=query)
        except httpx.HTTPError as error:
            raise AssertionError(f"{path}: {error!r}") from error
        assert answer.status_code == 200, f"{path} {query}: {answer.status_code} {answer.text[:300]}"
        return answer


def check_uploads(stage: Stage) -> Uploaded:
    """Check all of them."""
    found = Uploaded()
    digests: set[str] = set()
    with Shelf(stage.server.url) as shelf:
        entity = shelf.json("/api/v1/runs", project="chaos", limit=1)["runs"][0]["entity"]
        for run_id in sorted({trainer.run_id for trainer in stage.trainers}):
            began: list[Upload] = []
            done: list[Upload] = []
            for trainer in stage.trainers:
                if trainer.run_id == run_id:
                    more_began, more_done = read_ledger(stage.ledger(trainer.writer))
                    began += more_began
                    done += more_done
            if not done:
                continue
            found.calls += len(done)
            base = f"/api/v1/runs/{entity}/chaos/{run_id}"
            digests |= _check_files(shelf, base, began, done, found)
            digests |= _check_versions(shelf, base, began, done, found)
        for digest in sorted(digests):
            assert hashlib.sha256(shelf.content(digest)).hexdigest() == digest
        found.contents = len(digests)
    return found


def _check_files(
    shelf: Shelf, base: str, began: list[Upload], done: list[Upload], found: Uploaded
) -> set[str]:
    pending = [each["name"] for each in shelf.pages(f"{base}/files", "files", state="pending", limit=1000)]
    assert pending == [], f"files are pending: {pending}"
    failed = {each["name"] for each in shelf.pages(f"{base}/files", "files", state="failed", limit=1000)}
    stored = {each["name"]: each["sha256"] for each in shelf.pages(f"{base}/files", "files", limit=1000)}
    found.failed += len(failed)
    for upload in done:
        if upload.kind not in LOGGED and upload.name not in failed:
            assert upload.name in stored, f"{upload} is neither here nor said to be lost"
    said: dict[str, set[str]] = {}
    newest: dict[str, str] = {}
    for upload in began:
        if upload.kind not in LOGGED:
            said.setdefault(upload.name, set()).add(upload.sha256)
    for upload in done:
        if upload.kind not in LOGGED:
            newest[upload.name] = upload.sha256
    for name, sha256 in stored.items():
        if name in said:  # beside what the run keeps by itself
            assert sha256 in said[name], f"{name} has a content that nobody saved"
            found.files += 1
    # The last call counts, unless a later one was on its way when its process was killed.
    last_began = {upload.name: upload.sha256 for upload in began}
    for name, sha256 in newest.items():
        if name not in failed:
            assert stored[name] in (sha256, last_began[name]), f"{name} is an old one"
    return set(stored.values())


def _check_versions(
    shelf: Shelf, base: str, began: list[Upload], done: list[Upload], found: Uploaded
) -> set[str]:
    documents = list(shelf.pages(f"{base}/artifacts", "artifacts", include_pending=True, limit=1000))
    versions = [each for each in documents if each["state"] == "committed"]
    open_ones = [each for each in documents if each["state"] not in ("committed", "failed")]
    assert open_ones == [], f"artifacts are not settled: {open_ones[:3]}"
    found.failed += sum(each["state"] == "failed" for each in documents)
    made = Counter((each["metadata"]["writer"], each["metadata"]["number"]) for each in versions)
    twice = [key for key, count in made.items() if count > 1]
    assert twice == [], f"made twice: {twice}"
    clients = Counter(each["client_id"] for each in versions)
    assert not clients or max(clients.values()) == 1, clients
    numbers = Counter((each["collection"], each["version"]) for each in versions)
    assert not numbers or max(numbers.values()) == 1, numbers
    begun = {(upload.writer, upload.number) for upload in began if upload.kind in LOGGED}
    assert set(made) <= begun, f"nobody logged {set(made) - begun}"
    missing = [
        upload for upload in done if upload.kind in LOGGED and (upload.writer, upload.number) not in made
    ]
    failures = [each for each in documents if each["state"] == "failed"]
    assert len(missing) <= len(failures), f"{missing} are no versions, and only {len(failures)} failed"
    found.versions += len(versions)
    digests: set[str] = set()
    for version in versions:
        digests.add(version["manifest"])
        files = {
            each["name"]: each
            for each in shelf.pages(f"/api/v1/artifacts/{version['id']}/files", "files", limit=1000)
        }
        assert sorted(files) == ["data.bin", "same.txt", "who.txt"]
        kind = "common" if version["collection"] == "common" else "own"
        upload = Upload(version["metadata"]["writer"], version["metadata"]["number"], kind)
        assert _blob_of(files["data.bin"]) == upload.sha256
        digests |= {_blob_of(each) for each in files.values()}
    return digests


def _blob_of(file: dict[str, Any]) -> str:
    return str(file["sha256"])

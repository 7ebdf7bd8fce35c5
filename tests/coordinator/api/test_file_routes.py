"""Files of runs over HTTP: committed once their blobs are here, listed, read, forgotten; those still to come."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import msgpack
import pytest

from coordinator.api.asgi import AsgiClient
from runfold.protocol.content_sum import md5_of
from runfold.protocol.file_records import FileRecord
from runfold.protocol.records import RecordKind
from runfold_coordinator.api.gate import FILE_POLICY
from runfold_coordinator.readers.name_patterns import as_glob
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


class Site:
    """A run whose process says and sends files."""

    def __init__(self, store: Store, client: AsgiClient) -> None:
        self.client = client
        self.bench, self.speaker = Bench(store), Speaker(b"w" * 16)
        self.bench.feed(self.speaker.hello())
        run = store.list_runs()[0]
        self.files = f"/api/v1/runs/{run.entity}/{run.project}/{run.run_id}/files"
        self.run = self.files.removesuffix("/files")

    def upload(self, *contents: bytes) -> list[str]:
        pairs = [[hashlib.sha256(data).hexdigest(), data] for data in contents]
        assert self.client.post("/api/v1/blobs/batch", content=msgpack.packb(pairs)).status_code == 200
        return [digest for digest, _ in pairs]

    def put(self, *files: dict[str, Any]) -> Any:
        return self.client.request("PUT", self.files, json={"files": list(files)})

    def save(self, name: str, content: bytes, **more: Any) -> dict[str, Any]:
        (digest,) = self.upload(content)
        answer = self.put({"name": name, "sha256": digest, **more})
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["files"][0])

    def give_up(self, *files: dict[str, Any]) -> Any:
        return self.client.post(f"{self.files}/failed", json={"files": list(files)})

    def say(self, *records: FileRecord) -> None:
        self.bench.feed(self.speaker.others(*((RecordKind.FILE, each.pack()) for each in records)))

    def list(self, **query: Any) -> dict[str, Any]:
        answer = self.client.get(self.files, params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def names(self, **query: Any) -> list[str]:
        return [each["name"] for each in self.list(**query)["files"]]

    def content(self, name: str, **more: Any) -> Any:
        return self.client.get(f"{self.files}/content", params={"name": name}, **more)


@pytest.fixture
def site(store: Store, client: AsgiClient) -> Site:
    return Site(store, client)


def test_a_file_is_stored_once_its_blob_is_here(site: Site) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    told = {
        "name": "ckpt/model.pt",
        "sha256": digest,
        "size": 7,
        "mimetype": "application/x-pt",
        "modified_unix_s": 1_700_000_000.5,
        "writer": "77" * 16,
        "policy": "live",
    }
    refused = site.put(told)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "blob_missing")
    assert refused.json()["missing"] == [digest]
    assert site.names() == []
    site.upload(b"weights")
    for outcome in ("stored", "unchanged"):
        assert site.put(told).json() == {
            "files": [{"name": "ckpt/model.pt", "outcome": outcome, "why": None}]
        }
    (found,) = site.list()["files"]
    assert found.pop("stored_unix_s") > 1_700_000_000
    assert found.pop("error") is None
    assert found.pop("md5") == md5_of(b"weights")
    assert found == {**told, "what": "file"}
    assert site.content("ckpt/model.pt").content == b"weights"


def test_nothing_is_stored_where_one_blob_is_missing(site: Site) -> None:
    (digest,) = site.upload(b"a")
    answer = site.put({"name": "a", "sha256": digest}, {"name": "b", "sha256": "0f" * 32})
    assert (answer.status_code, answer.json()["missing"]) == (409, ["0f" * 32])
    assert site.names() == []


def test_a_run_that_is_not_known_yet_is_404(site: Site) -> None:
    answer = site.client.request("PUT", "/api/v1/runs/e/p/unknown/files", json={"files": []})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "run_not_found")


def test_names_that_no_file_may_have_are_refused_one_by_one(site: Site) -> None:
    (digest,) = site.upload(b"a")
    results = site.put(
        *({"name": name, "sha256": digest} for name in ("../x", "good", "/etc/passwd", "a\\b", ""))
    ).json()["files"]
    assert {each["name"]: each["outcome"] for each in results} == {
        "../x": "refused",
        "good": "stored",
        "/etc/passwd": "refused",
        "a\\b": "refused",
        "": "refused",
    }
    assert all(each["why"] for each in results if each["outcome"] == "refused")
    assert site.names() == ["good"]


def test_of_one_name_the_later_taken_stays_whatever_arrives_last(site: Site) -> None:
    assert site.save("a", b"second", taken_unix_s=200.0)["outcome"] == "stored"
    assert site.save("a", b"first", taken_unix_s=100.0)["outcome"] == "older"
    assert site.content("a").content == b"second"
    assert site.save("a", b"third")["outcome"] == "stored"
    assert site.content("a").content == b"third"


def test_what_was_said_and_did_not_arrive_is_pending(site: Site) -> None:
    site.say(
        FileRecord("a", "now", 3, None, "file"),
        FileRecord("media/b.png", "live", None, None, "media"),
        FileRecord("../bad"),
        FileRecord("a"),
    )
    site.say(FileRecord("media/b.png"))
    counts = site.client.get(site.run).json()["files"]
    assert counts == {"stored": 0, "pending": 2, "failed": 0}
    assert site.names() == []
    assert site.names(state="pending") == ["a", "media/b.png"]
    (_, media) = site.list(state="pending")["files"]
    assert (media["policy"], media["what"], media["sha256"]) == ("live", "media", None)
    assert site.content("a").status_code == 404
    site.save("a", b"abc")
    assert site.list()["counts"] == {"stored": 1, "pending": 1, "failed": 0}
    # Said again it is not pending again: it is here.
    site.say(FileRecord("a"))
    assert site.list()["counts"] == {"stored": 1, "pending": 1, "failed": 0}


def test_a_file_that_came_before_its_record_is_not_pending(site: Site) -> None:
    site.save("early", b"abc")
    site.say(FileRecord("early"))
    assert site.list()["counts"] == {"stored": 1, "pending": 0, "failed": 0}


def test_a_file_that_will_never_come_is_listed_with_its_reason(site: Site) -> None:
    site.say(FileRecord("gone"), FileRecord("kept"))
    lost = {"error": "gone is not there", "taken_unix_s": time.time(), "failed_unix_s": time.time()}
    for _ in range(2):
        told = site.give_up({"name": "gone", **lost}, {"name": "unsaid", **lost}, {"name": "../up", **lost})
        assert told.json() == {"noted": 2}
    assert site.client.get(site.run).json()["files"] == {"stored": 0, "pending": 1, "failed": 2}
    assert site.names(state="pending") == ["kept"]
    assert {each["name"]: each["error"] for each in site.list(state="failed")["files"]} == {
        "gone": "gone is not there", "unsaid": "gone is not there",
    }  # fmt: skip
    site.save("gone", b"it came after all")
    assert site.list()["counts"] == {"stored": 1, "pending": 1, "failed": 1}
    site.give_up({"name": "gone", **lost})
    assert site.names(state="failed") == ["unsaid"], "what was taken later stays"
    site.give_up({"name": "gone", **lost, "taken_unix_s": time.time() + 10})
    (newer,) = (each for each in site.list(state="failed")["files"] if each["name"] == "gone")
    assert newer["sha256"], "it is here as it was before"
    assert site.client.post(f"{site.run}x/files/failed", json={"files": []}).status_code == 404


def test_a_file_that_could_not_be_left_is_lost_until_it_is_said_anew(site: Site) -> None:
    site.say(FileRecord("a", error="the disk refused"))
    (lost,) = site.list(state="failed")["files"]
    assert (lost["name"], lost["error"], lost["sha256"]) == ("a", "the disk refused", None)
    site.say(FileRecord("a"))
    assert site.list()["counts"] == {"stored": 0, "pending": 1, "failed": 0}
    site.save("a", b"a", taken_unix_s=1.0)
    site.save("b", b"b", taken_unix_s=time.time())
    site.say(FileRecord("a", error="the disk refused"), FileRecord("b", error="the disk refused"))
    assert site.list()["counts"] == {"stored": 2, "pending": 0, "failed": 1}
    assert site.names(state="failed") == ["a"], "b was taken later"


def test_files_are_listed_by_name_pattern_and_page(site: Site) -> None:
    (digest,) = site.upload(b"a")
    names = ["B.txt", "a%b.txt", "a.TXT", "a.txt", "a_b.txt", "axb.txt", "d/a.txt", "[x]*?.txt"]
    site.put(*({"name": name, "sha256": digest} for name in names))
    assert site.names() == sorted(names)
    assert site.names(pattern="%.txt") == sorted(name for name in names if name.endswith(".txt"))
    assert site.names(pattern="a_b.txt") == ["a%b.txt", "a_b.txt", "axb.txt"]
    assert site.names(pattern="a\\_b.txt") == ["a_b.txt"]
    assert site.names(pattern="a\\%b%") == ["a%b.txt"]
    assert site.names(pattern="[x]*?.txt") == ["[x]*?.txt"]
    assert site.names(names=["a.txt", "none", "../x"]) == ["a.txt"]
    paged, cursor = [], None
    while True:
        page = site.list(limit=3, **({"cursor": cursor} if cursor else {}))
        paged += [each["name"] for each in page["files"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == sorted(names)
    both = site.client.get(site.files, params={"names": "a", "pattern": "b"})
    escape = site.client.get(site.files, params={"pattern": "a\\"})
    assert (both.status_code, escape.status_code) == (400, 400)
    assert as_glob("a\\\\") == "a\\"


def test_a_file_is_forgotten_and_its_content_stays_where_others_have_it(site: Site) -> None:
    site.save("a", b"same")
    site.save("b", b"same")
    assert site.client.request("DELETE", site.files, params={"name": "a"}).json() == {"deleted": 1}
    assert site.client.request("DELETE", site.files, params={"name": "a"}).status_code == 404
    assert site.content("a").status_code == 404
    assert site.content("b").content == b"same"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.png", PNG, "image/png"),
        ("a.txt", PNG, "image/png"),
        ("a.png", b"<script>alert(1)</script>", "application/octet-stream"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "application/octet-stream"),
        ("a.html", b"<!doctype html><script>alert(1)</script>", "application/octet-stream"),
        ("a.gif", b"GIF89a/*<script>*/=1;alert(1)", "image/gif"),
        ("a.wav", b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        ("a.pdf", b"%PDF-1.7", "application/octet-stream"),
        ("empty", b"", "application/octet-stream"),
    ],
)
def test_content_is_what_it_begins_as_and_never_runs(
    site: Site, name: str, content: bytes, kind: str
) -> None:
    site.save(name, content, mimetype="text/html")
    answer = site.content(name)
    assert (answer.content, answer.headers["content-type"]) == (content, kind)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == FILE_POLICY
    assert answer.headers["content-disposition"] == (
        f"attachment; filename=\"{name}\"; filename*=UTF-8''{name}"
    )


def test_a_name_can_not_break_out_of_its_header(site: Site) -> None:
    name = 'd/a"; x=y;\u00e9%41\u20ac.txt'
    site.save(name, b"x")
    assert site.content(name).headers["content-disposition"] == (
        'attachment; filename="a_; x=y;__41_.txt"; '
        "filename*=UTF-8''a%22%3B%20x%3Dy%3B%C3%A9%2541%E2%82%AC.txt"
    )


def test_content_comes_in_parts(site: Site) -> None:
    site.save("a", b"0123456789")
    assert site.content("a", headers={"range": "bytes=3-5"}).content == b"345"
    etag = site.content("a").headers["etag"]
    assert site.content("a", headers={"if-none-match": etag}).status_code == 304
    site.save("a", b"other")
    assert site.content("a", headers={"if-none-match": etag}).content == b"other"
    head = site.client.request("HEAD", f"{site.files}/content", params={"name": "a"})
    assert (head.status_code, head.headers["content-length"]) == (200, "5")


@pytest.mark.parametrize(
    "file",
    [
        {},
        {"name": "a"},
        {"name": "a", "sha256": "x"},
        {"name": "a", "sha256": "0f" * 32, "writer": "x"},
        {"name": "a", "sha256": "0f" * 32, "policy": "never"},
        {"name": "a", "sha256": "0f" * 32, "taken_unix_s": -1},
        {"name": "a", "sha256": "0f" * 32, "modified_unix_s": 1e300},
        {"name": 5, "sha256": "0f" * 32},
    ],
)
def test_what_is_no_file_is_refused(site: Site, file: dict[str, Any]) -> None:
    assert site.put(file).status_code == 400


def test_a_run_has_so_many_files_and_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runfold_coordinator.run_files.MAX_FILES_PER_RUN", 2)
    monkeypatch.setattr("runfold_coordinator.ingest.said_files.MAX_FILES_PER_RUN", 2)
    (digest,) = site.upload(b"a")
    results = site.put(*({"name": name, "sha256": digest} for name in "abc")).json()["files"]
    assert [each["outcome"] for each in results] == ["stored", "stored", "refused"]
    site.say(FileRecord("d"))
    assert site.list()["counts"] == {"stored": 2, "pending": 0, "failed": 0}
    assert site.save("a", b"new")["outcome"] == "stored"


def test_a_record_that_is_no_file_is_a_dead_letter(site: Site, store: Store) -> None:
    site.bench.feed(site.speaker.others((RecordKind.FILE, b"\xc1")))
    (run,) = store.list_runs()
    assert store.accounting(run.run_pk).dead_letters == 1

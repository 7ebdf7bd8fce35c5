"""Names that mean other places, over a real socket as an attacker would send them: nothing outside is touched."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.api.conftest import HeardIntake, backend_over
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.server import HttpServer
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker

SECRET = b"canary: nobody reads this"
CLIMBS = (
    "../",
    "..%2f",
    "%2e%2e/",
    "%2e%2e%2f",
    "%252e%252e%252f",
    "..%5c",
    "..\\",
    "..;/",
    ".%00./",
    "%c0%ae%c0%ae/",
    "%ef%bc%8e%ef%bc%8e/",
    "..%ef%bc%8f",
    "....//",
    "./../",
    "%2e%2e%c0%af",
)
ENDS = ("canary", "etc/passwd", "canary%00.png", "canary%0d%0aX-Evil:%201", "canary#", "canary?x")
ABSOLUTE = ("/etc/passwd", "//etc/passwd", "file:///etc/passwd", "C:/canary", "%2fetc%2fpasswd", "~/canary")


def corpus(outside: Path) -> list[str]:
    climbing = [climb * depth + end for climb in CLIMBS for depth in (1, 2, 6) for end in ENDS]
    return [*climbing, *ABSOLUTE, str(outside), str(outside).replace("/", "%2f")]


class Site:
    """A server below a folder of its own, beside a file that is nobody's business."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request line as it is; return status and body."""
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            sock.sendall(head.encode("latin-1", "replace") + body)
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]

    def entries(self) -> dict[str, bytes]:
        """What lies beside the data, by path."""
        return {
            str(path): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and "data" not in path.relative_to(self.folder).parts
        }


@pytest.fixture
def site(tmp_path: Path, intake: HeardIntake) -> Iterator[Site]:
    (tmp_path / "canary").write_bytes(SECRET)
    (tmp_path / "data").mkdir()
    store = Store.open(f"sqlite:///{tmp_path / 'data' / 'runfold.db'}")
    bench = Bench(store)
    bench.feed(Speaker(b"w" * 16).hello())
    server = HttpServer(create_app(backend_over(store, intake)), "127.0.0.1", 0).start()
    yield Site(tmp_path, server.port)
    server.close()
    store.close()


def test_no_name_leads_out_of_the_root(site: Site) -> None:
    before = site.entries()
    names = corpus(site.folder / "canary")
    assert len(names) > 250
    run = "/api/v1/runs/local/demo/run1/files"
    blob = hashlib.sha256(b"evil").hexdigest()
    assert site.ask("PUT", f"/api/v1/blobs/{blob}/upload?offset=0&size=4", b"evil")[0] == 200
    for name in names:
        for method, target in (
            ("GET", f"{run}/content?name={name}"),
            ("GET", f"{run}?names={name}"),
            ("GET", f"{run}/{name}"),
            ("DELETE", f"{run}?name={name}"),
            ("GET", f"/api/v1/blobs/{name}"),
            ("PUT", f"/api/v1/blobs/{name}/upload?offset=0&size=0"),
        ):
            status, body = site.ask(method, target)
            assert SECRET not in body, target
            assert b"root:" not in body, target
            assert b"X-Evil" not in body or status >= 400, target
            assert status < 500, target
            # A list of names that are nobody's is empty; nothing else is answered.
            assert status >= 400 or (target.startswith(f"{run}?names=") and b'"files": []' in body), target
    assert site.entries() == before


def test_no_name_is_stored_that_leads_out_of_a_folder(site: Site) -> None:
    from urllib.parse import unquote

    blob = hashlib.sha256(b"evil").hexdigest()
    site.ask("PUT", f"/api/v1/blobs/{blob}/upload?offset=0&size=4", b"evil")
    names = {decoded for name in corpus(site.folder / "canary") for decoded in (name, unquote(name))}
    body: dict[str, Any] = {"files": [{"name": name, "sha256": blob} for name in sorted(names)]}
    status, answer = site.ask("PUT", "/api/v1/runs/local/demo/run1/files", json.dumps(body).encode())
    assert status == 200
    kept = {each["name"] for each in json.loads(answer)["files"] if each["outcome"] == "stored"}
    for name in kept:
        inside = (site.folder / "data" / name).resolve()
        assert inside.is_relative_to(site.folder / "data"), name
        assert not any(char in name for char in "\\\0\r\n"), name
    assert any(name.startswith("%2e%2e") for name in kept), "what is encoded twice is a plain name"

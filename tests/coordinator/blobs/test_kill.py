"""A server that is killed between any two steps of an upload: it goes on, and every file has its content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgpack
import pytest

from runfold_coordinator.blobs.places import LocalPlace, Place
from runfold_coordinator.blobs.remote_place import RemotePlace
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker
from support.processes import environment
from support.s3 import Bucket, bucket, s3_server

__all__ = ["bucket", "s3_server"]

pytestmark = pytest.mark.journey

LOCAL_STEPS = ("piece", "hash", "sync", "rename", "folder_sync", "row", "batch_rename", "sweep_rows")
REMOTE_STEPS = ("hash", "put", "row")
PIECE = 200_000


class Lives:
    """A server that dies at its failpoint, and a client that takes it as it comes."""

    def __init__(self, folder: Path, url: str, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "support.blob_server", str(folder), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(env),
            text=True,
        )
        self.client = httpx.Client(timeout=60)
        self.deaths = 0

    def begin(self, failpoint: str = "") -> None:
        """Start the next life."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{failpoint}\n")
        self._process.stdin.flush()
        url = self._process.stdout.readline().strip()
        assert url, "the server did not start"
        self.client.base_url = httpx.URL(url)

    @contextlib.contextmanager
    def dying(self) -> Iterator[None]:
        """Do what a server may die of."""
        try:
            yield
        except httpx.TransportError:
            self.deaths += 1

    def close(self) -> None:
        """End the life and the process."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)
        self._process.communicate()
        self.client.close()

    def upload(self, data: bytes) -> str:
        """Send a blob as an agent does: from where the server says, until it is complete."""
        digest = hashlib.sha256(data).hexdigest()
        path = f"/api/v1/blobs/{digest}/upload"
        found = self.client.get(path).raise_for_status().json()
        while not found["complete"]:
            at = found["offset"]
            answer = self.client.put(
                path, params={"offset": at, "size": len(data)}, content=data[at : at + PIECE]
            )
            assert answer.status_code == 200, answer.text
            found = answer.json()
        return digest

    def save(self, name: str, data: bytes) -> None:
        """Send a file of the run; its blob again where that went meanwhile, as its age is half a second here."""
        while True:
            document = {"name": name, "sha256": self.upload(data)}
            answer = self.client.put("/api/v1/runs/local/demo/run1/files", json={"files": [document]})
            if answer.status_code != 409:
                break
        assert answer.status_code == 200, answer.text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = Store.open(f"sqlite:///{tmp_path / 'runfold.db'}")
    Bench(store).feed(Speaker(b"w" * 16).hello())
    store.close()
    return tmp_path


def server_id(folder: Path) -> str:
    with contextlib.closing(sqlite3.connect(folder / "runfold.db")) as database:
        return str(database.execute("SELECT value FROM meta WHERE name = 'server_id'").fetchone()[0])


def check(folder: Path, place: Place, wanted: dict[str, bytes]) -> None:
    """Hash every object that a file refers to, from the database and the bytes alone."""
    with contextlib.closing(sqlite3.connect(folder / "runfold.db")) as database:
        rows = database.execute(
            "SELECT name, run_files.sha256, object, blobs.size FROM run_files "
            "LEFT JOIN blobs ON blobs.digest = run_files.sha256"
        ).fetchall()
    assert {row[0] for row in rows} == set(wanted)
    for name, digest, object_name, size in rows:
        with place.open(object_name) as file:
            found = file.read()
        assert hashlib.sha256(found).hexdigest() == digest
        assert (found, size) == (wanted[name], len(wanted[name]))


def play(lives: Lives, steps: tuple[str, ...]) -> dict[str, bytes]:
    """Let the server die at each step, of whatever comes first there; return what must be there in the end."""
    wanted = {f"file {step}": os.urandom(500_000) for step in steps}
    for step in steps:
        lives.begin(f"blobs.after_{step}")
        with lives.dying():
            if step == "batch_rename":
                small = [b"small 1", b"small 2"]
                pairs = [[hashlib.sha256(data).hexdigest(), data] for data in small]
                lives.client.post("/api/v1/blobs/batch", content=msgpack.packb(pairs)).raise_for_status()
            elif step == "sweep_rows":
                lives.upload(b"nobody refers to this")
                while True:  # until the collector comes by
                    lives.client.get("/api/v1/health")
            else:
                lives.save(f"file {step}", wanted[f"file {step}"])
    assert lives.deaths == len(steps), "each of them was died of"
    lives.begin()
    for name, data in wanted.items():
        lives.save(name, data)
    return wanted


def test_a_server_killed_at_each_step_of_an_upload(folder: Path) -> None:
    lives = Lives(folder, "", {})
    try:
        wanted = play(lives, LOCAL_STEPS)
        for name, data in wanted.items():
            answer = lives.client.get("/api/v1/runs/local/demo/run1/files/content", params={"name": name})
            assert answer.content == data
    finally:
        lives.close()
    root = folder / "blobs" / server_id(folder)
    check(folder, LocalPlace(root), wanted)
    assert [path.name for path in (root / "incoming").iterdir()] == []


@pytest.mark.xdist_group("s3")
def test_a_server_killed_at_each_step_of_an_upload_to_s3(folder: Path, bucket: Bucket) -> None:
    lives = Lives(folder, bucket.url, bucket.env)
    try:
        wanted = play(lives, REMOTE_STEPS)
    finally:
        lives.close()
    check(folder, RemotePlace(f"{bucket.url}/{server_id(folder)}", folder / "spool"), wanted)
    assert list((folder / "blob-spool").iterdir()) == []

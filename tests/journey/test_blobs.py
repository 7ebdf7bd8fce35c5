"""Content on its way to a whole server: killed in the middle, two senders at once, a disk that is full."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import runfold
from chaos.disks import SmallDisk, can_mount
from runfold_coordinator.testing import LocalServer
from support.processes import environment, until

pytestmark = pytest.mark.journey

MIB = 1024 * 1024


class Sender(threading.Thread):
    """Sends a blob as an agent does, whatever befalls the server, a slow piece at a time."""

    def __init__(self, url: str, data: bytes, piece_bytes: int) -> None:
        super().__init__(daemon=True)
        self.digest = hashlib.sha256(data).hexdigest()
        self.pieces = 0
        self.answers: set[int] = set()
        self.is_complete = False
        self._client = httpx.Client(base_url=f"{url}/api/v1", timeout=30)
        self._data = data
        self._piece_bytes = piece_bytes

    def run(self) -> None:
        deadline_s = time.monotonic() + 90
        while not self.is_complete and time.monotonic() < deadline_s:
            try:
                self._turn()
            except httpx.TransportError:
                time.sleep(0.1)
        self._client.close()

    def _turn(self) -> None:
        path, size = f"/blobs/{self.digest}/upload", len(self._data)
        at = self._client.get(path).json()["offset"]

        def body() -> Iterator[bytes]:
            for begin in range(at, min(size, at + self._piece_bytes), 65536):
                yield self._data[begin : min(begin + 65536, at + self._piece_bytes)]
                time.sleep(0.002)

        answer = self._client.put(path, params={"offset": at, "size": size}, content=body())
        self.answers.add(answer.status_code)
        self.pieces += 1
        self.is_complete = answer.status_code == 200 and answer.json()["complete"]
        if answer.status_code != 200:
            time.sleep(0.05)


def log_one_run(server: LocalServer, run_id: str) -> None:
    """Log a row from a process of its own; return when the server has it."""
    program = f"import runfold; r = runfold.init(project='p', id={run_id!r}); r.log({{'a': 1}}); r.finish()"
    subprocess.run([sys.executable, "-c", program], env=environment(server.env), check=True, timeout=60)


def test_two_senders_and_a_server_that_is_killed_between_them(tmp_path: Path) -> None:
    data = os.urandom(12 * MIB + 7)
    blobs = tmp_path / "elsewhere"
    with LocalServer(tmp_path / "data", arguments=("--blobs", str(blobs))) as server:
        senders = [Sender(server.url, data, 2 * MIB) for _ in range(2)]
        for sender in senders:
            sender.start()
        until(lambda: sum(sender.pieces for sender in senders) >= 3)
        server.kill("coordinator")
        (partial,) = blobs.rglob("*.part")
        assert 0 < partial.stat().st_size < len(data)
        server.restart("coordinator")
        for sender in senders:
            sender.join(100)
            assert sender.is_complete
            assert sender.answers <= {200, 409}
        found = httpx.get(f"{server.url}/api/v1/blobs/{senders[0].digest}", timeout=30).content
        assert hashlib.sha256(found).hexdigest() == senders[0].digest
        (kept,) = blobs.rglob("*-*[0-9a-f]")
        assert kept.name.startswith(senders[0].digest)


@pytest.mark.skipif(not can_mount(), reason="needs root to mount a small disk")
def test_a_full_disk_refuses_files_goes_on_logging_and_is_got_out_of(tmp_path: Path) -> None:
    env = {"RUNFOLD_BLOB_MIN_AGE_S": "1", "RUNFOLD_BALLAST": str(MIB)}
    with (
        SmallDisk(tmp_path / "small", 12 * MIB) as disk,
        LocalServer(tmp_path / "data", arguments=("--blobs", str(disk.path)), env=env) as server,
    ):
        log_one_run(server, "first")
        client = httpx.Client(base_url=f"{server.url}/api/v1", timeout=30)
        files = "/runs/local/p/first/files"

        def send(name: str, data: bytes) -> Any:
            digest = hashlib.sha256(data).hexdigest()
            params = {"offset": 0, "size": len(data)}
            while True:
                answer = client.put(f"/blobs/{digest}/upload", params=params, content=data)
                if answer.status_code == 200:
                    answer = client.put(files, json={"files": [{"name": name, "sha256": digest}]})
                if answer.status_code != 409:  # on a slow machine a blob may go within its second
                    return answer

        first, second = os.urandom(6 * MIB), os.urandom(6 * MIB)
        assert send("first", first).status_code == 200
        refused = send("second", second)
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "disk_full")
        log_one_run(server, "meanwhile")
        api = runfold.Api(url=server.url)
        assert api.run("local/p/meanwhile").state == "finished"
        # The way out: what is no more needed is deleted, and its space comes back.
        client.request("DELETE", files, params={"name": "first"}).raise_for_status()
        until(lambda: send("second", second).status_code == 200)
        found = client.get(f"{files}/content", params={"name": "second"}).content
        assert found == second
        client.close()
        api.close()

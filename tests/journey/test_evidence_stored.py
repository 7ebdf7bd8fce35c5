"""Evidence of the agent in the server's database: what came both ways is there once."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import runfold
from runfold.protocol.values import unpack_value
from runfold_coordinator.testing import LocalServer
from support.processes import environment, until

WAYS = {"python": [], "runfold run": [sys.executable, "-m", "runfold", "run", "--"]}


@contextlib.contextmanager
def doomed(server: LocalServer, name: str, prefix: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that logged, and sleeps."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "support.doomed", name, "time.sleep(60)"],
        env=environment(server.env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def read(server: LocalServer, query: str, *values: object) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(f"file:{server.data_dir}/runfold.db?mode=ro", uri=True)
    with contextlib.closing(database):
        return database.execute(query, values).fetchall()


def evidence(server: LocalServer, writer_id: str) -> dict[str, list[Any]]:
    """Return the facts by source."""
    found: dict[str, list[Any]] = {}
    for source, facts in read(server, "select source, facts from evidence where writer_id = ?", writer_id):
        found.setdefault(source, []).append(unpack_value(facts))
    return found


@pytest.mark.parametrize("way", WAYS)
def test_evidence_is_stored_once_though_it_came_twice(server: LocalServer, name: str, way: str) -> None:
    api = runfold.Api(url=server.url)

    def writer() -> dict[str, Any]:
        [found] = api.run(f"ends/{name}").writers()
        return dict(found)

    with doomed(server, name, WAYS[way]) as process:
        # What is stored came through an agent, which watches the process by then.
        until(lambda: [run for run in api.runs("ends") if run.id == name])
        process.send_signal(signal.SIGKILL if way == "python" else signal.SIGTERM)
        process.wait(60)
        if way == "python":
            until(lambda: writer()["state"] == "killed")
    writer_id = until(lambda: writer()["writer"])
    # The record came too: the agent's spool is stored as far as it was written.
    until(lambda: read(server, "select 1 from writers where role = 'node' and last_seq > 1"))
    wanted = {"wait"} if way == "python" else {"wait", "launcher"}
    found = until(lambda: wanted <= (said := evidence(server, writer_id)).keys() and said)
    assert [one["status"] for one in found["wait"]] == [-process.returncode]
    assert "gone" not in found
    senders = [(one["signum"], one["sender_pid"] is not None) for one in found.get("launcher", ())]
    assert senders == ([] if way == "python" else [(signal.SIGTERM, True)])

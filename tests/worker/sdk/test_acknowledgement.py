"""Waiting for the ack that the agent leaves in a spool's header."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

import runfold
from runfold.acknowledgement import acked_seq, dies_with_the_container, knows_a_server, wait_for_ack
from runfold.node.settings import NodeSettings
from runfold.spool import SpoolReader


@pytest.fixture
def directory(run: runfold.Run) -> Path:
    for number in range(9):
        run.log({"a": number})
    found = run._spool.directory
    assert found is not None
    return found


def acknowledge(directory: Path, seq: int) -> None:
    reader = SpoolReader(directory)
    reader.header.store_ack(seq, b"s" * 16)
    reader.close()


def nothing() -> None:
    return


def test_the_header_says_how_far_it_is(directory: Path) -> None:
    assert acked_seq(directory) == 0
    acknowledge(directory, 7)
    assert acked_seq(directory) == 7
    assert acked_seq(directory / "missing") == 0


def test_the_wait_ends_with_the_ack(directory: Path) -> None:
    timer = threading.Timer(0.1, acknowledge, (directory, 10))
    timer.start()
    assert wait_for_ack(directory, 10, timeout_s=30, call_agent=nothing, run_id="r")
    timer.join()


def test_the_wait_ends_in_time(directory: Path) -> None:
    acknowledge(directory, 9)
    assert not wait_for_ack(directory, 10, timeout_s=0.05, call_agent=nothing, run_id="r")
    assert not wait_for_ack(directory, 10, timeout_s=0, call_agent=nothing, run_id="r")
    assert wait_for_ack(directory, 9, timeout_s=0, call_agent=nothing, run_id="r")


def test_status_follows_the_acks(run: runfold.Run, directory: Path) -> None:
    acknowledge(directory, 4)
    status = run.status()
    assert (status.sync_items_total, status.acknowledged, status.sync_items_pending) == (10, 4, 6)
    assert status.sync_time is not None


@pytest.mark.parametrize(
    ("said", "knows"),
    [
        (None, False),
        ("no json", False),
        ({"url": "http://h", "pid": 2**22 + 1}, False),
        ({"url": "http://h", "pid": os.getpid()}, True),
        ({"url": "http://h"}, True),
    ],
)
def test_who_there_is_to_wait_for(said: object, knows: bool, tmp_path: Path) -> None:
    node = NodeSettings(runfold_dir=tmp_path, target="local")
    if said is not None:
        node.registration.write_text(said if isinstance(said, str) else json.dumps(said))
    assert knows_a_server(node) is knows
    assert knows_a_server(NodeSettings(runfold_dir=tmp_path, target="0123")) is True


def test_a_folder_of_this_machine_does_not_die_with_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: path.name == ".dockerenv")
    mounts = "overlay / overlay rw 0 0\n/dev/sda /data ext4 rw 0 0\ntmpfs /data/fast tmpfs rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda _: mounts)
    assert dies_with_the_container(Path("/root/.runfold"), {})
    assert not dies_with_the_container(Path("/data/runfold"), {})
    assert dies_with_the_container(Path("/data/fast/runfold"), {})
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert not dies_with_the_container(Path("/root/.runfold"), {})
    assert dies_with_the_container(Path("/root/.runfold"), {"KUBERNETES_SERVICE_HOST": "h"})

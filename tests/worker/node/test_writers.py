"""The set of writers of a directory, on real spools: found, watched, settled, removed; hosts that share one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runfold.node import lock
from runfold.node.agent import Agent
from runfold.node.processes import ProcessWatch, boot_id
from runfold.node.settings import NodeSettings
from runfold.node.shipper import Shipper
from runfold.node.tail import WriterTail
from runfold.node.writers import Writers
from runfold.protocol.frames import decode_frame
from runfold.protocol.records import ConfigRecord, RecordKind
from runfold.protocol.streams import partition_of
from runfold.spool import SpoolWriter
from support.spooler import open_writer, schema

pytestmark = pytest.mark.journey
TARGET = "local"


def spool(root: Path, rows: int = 3, *, close: bool = True, **identity: Any) -> SpoolWriter:
    writer = open_writer(root, TARGET, **identity)
    for step in range(rows):
        writer.append_row(schema(2), 0, step, [1.0, 2.0])
    if close:
        writer.close()
    return writer


class Node:
    def __init__(self, root: Path, **given: Any) -> None:
        self.now = 0.0
        self.shipper = Shipper()
        self.watch = ProcessWatch()
        self.writers = Writers(
            root / TARGET, watch=self.watch, shipper=self.shipper, clock=lambda: self.now, **given
        )

    def ack_all(self) -> None:
        for writer, tail in self.writers.tails.items():
            tail.store_ack(tail.head_seq(), b"S" * 16)
            window = self.shipper._windows[writer]
            window.acked = window.sent = tail.head_seq()

    def close(self) -> None:
        self.writers.close()
        self.watch.close()


@pytest.fixture
def node(tmp_path: Path):
    (tmp_path / TARGET).mkdir()
    found = Node(tmp_path)
    yield found
    found.close()


def test_writers_are_found_as_they_appear(node: Node, tmp_path: Path):
    first = spool(tmp_path)
    assert [tail.writer for tail in node.writers.discover()] == [first.writer_id]
    assert node.writers.discover() == []
    second = spool(tmp_path)
    assert [tail.writer for tail in node.writers.discover()] == [second.writer_id]


def test_a_directory_that_is_no_spool_is_looked_at_again_later(node: Node, tmp_path: Path):
    source = spool(tmp_path / "elsewhere").directory
    place = tmp_path / TARGET / source.name
    place.mkdir()
    assert node.writers.discover() == []
    for file in source.iterdir():
        shutil.copy(file, place)
    assert node.writers.discover(every_s=0.0) == []
    node.now = 3.0
    assert len(node.writers.discover()) == 1


def test_a_closed_and_acked_writer_rests_and_is_done(node: Node, tmp_path: Path):
    spool(tmp_path)
    [tail] = node.writers.discover()
    node.writers.settle()
    assert node.writers.open_count() == 0 and not node.writers.are_all_drained()
    node.ack_all()
    node.writers.settle()
    assert node.writers.are_all_drained()
    assert tail._reader is None
    assert tail.next_frame(5, 1000) is None and tail._reader is None, (
        "at rest it is not opened to see nothing"
    )
    assert tail.next_frame(1, 1000) is not None, "another server may want it all"


def test_a_dead_process_is_told_until_the_server_took_it(node: Node, tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    spool(tmp_path, pid=process.pid, pid_start=1, close=False)
    node.writers.discover()
    node.ack_all()
    node.writers.settle()
    [news] = node.writers.news()
    assert (news.alive, news.head_seq) == (False, 4)
    assert not node.writers.are_all_drained()
    node.now = 1000.0
    assert node.writers.news() == [news], "however long it takes"
    node.writers.reported([news])
    assert node.writers.are_all_drained() and node.writers.news() == []


def test_a_writer_of_an_earlier_boot_is_dead(node: Node, tmp_path: Path):
    spool(tmp_path, boot_id="00000000-0000-4000-8000-000000000000", pid=os.getpid())
    [tail] = node.writers.discover()
    assert tail.is_alive is False


def test_old_spools_are_removed_and_a_vanished_one_is_forgotten(node: Node, tmp_path: Path):
    kept, old, gone = (spool(tmp_path).directory for _ in range(3))
    node.writers.discover()
    assert node.writers.remove_old(now_unix_s=1e12, keep_s=0.0, keep_bytes=0) == 0, "nothing is acked yet"
    node.ack_all()
    node.writers.settle()
    os.utime(old, (1, 1))
    for file in old.iterdir():
        os.utime(file, (1, 1))
    shutil.rmtree(gone)
    now_unix_s = kept.stat().st_mtime + 10
    assert node.writers.remove_old(now_unix_s=now_unix_s, keep_s=3600.0, keep_bytes=10**9) == 1
    assert kept.exists() and not old.exists()
    assert [tail.directory for tail in node.writers.tails.values()] == [kept]


def test_of_a_live_writer_only_the_quota_takes_what_was_acked(node: Node, tmp_path: Path):
    written = spool(tmp_path, close=False)
    while len(list(written.directory.glob("*.seg"))) < 3:
        written.append_record(RecordKind.CONFIG, ConfigRecord(set={"text": "x" * 60_000}).pack())
    node.writers.discover()
    node.ack_all()
    for keep_bytes, held in ((10**9, 3), (0, 1)):
        node.writers.remove_old(now_unix_s=1e12, keep_s=0.0, keep_bytes=keep_bytes)
        assert len(list(written.directory.glob("*.seg"))) == held
    written.close()


OTHER_BOOT = "00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    "identity", [{"boot_id": OTHER_BOOT, "host": "other"}, {"boot_id": boot_id(), "pid_namespace": 7}]
)
def test_another_places_spools_are_shipped_only_while_it_has_no_agent(
    node: Node, tmp_path: Path, identity: dict[str, Any]
):
    spool(tmp_path, **identity)
    place = lock.place_of(identity["boot_id"], identity.get("pid_namespace"))
    theirs = lock.AgentLock(tmp_path / TARGET, place=place)
    assert theirs.acquire()
    assert node.writers.discover() == []
    theirs.release()
    node.now = 6.0
    [tail] = node.writers.discover()
    assert tail.is_alive is None, "its processes can't be seen from here"
    node.ack_all()
    node.writers.settle()
    assert node.writers.are_all_drained()
    third = Node(tmp_path, host="third", boot="00000000-0000-4000-8000-000000000003")
    assert third.writers.discover() == [], "one stand-in is enough"
    third.close()
    assert theirs.acquire()
    node.now = 12.0
    assert node.writers.discover() == [] and not node.writers.tails
    theirs.release()


def test_a_host_name_set_by_hand_is_no_other_place(node: Node, tmp_path: Path):
    spool(tmp_path, host="a name for people", close=False)
    [tail] = node.writers.discover()
    assert tail.is_alive is True


def test_more_partitions_move_each_run_to_its_stream(node: Node, tmp_path: Path):
    for number in range(6):
        spool(tmp_path, run_id=f"run{number}")
    node.writers.discover()
    node.ack_all()
    node.writers.set_partitions(3)
    for tail in node.writers.tails.values():
        assert tail.partition == partition_of(tail.identity.run_path, None, 3)
        assert node.shipper.acked(tail.writer) == 4
    assert len({tail.partition for tail in node.writers.tails.values()}) > 1


def test_a_frame_carries_its_run_and_its_records(tmp_path: Path):
    written = spool(tmp_path)
    tail = WriterTail(written.directory)
    encoded = tail.next_frame(1, 10**6)
    assert encoded is not None
    frame = decode_frame(encoded.data)
    assert (frame.writer, frame.run_path, frame.lo, frame.hi) == (written.writer_id, "local/p/r", 1, 4)
    assert tail.next_frame(5, 10**6) is None
    tail.close()


def test_an_agent_that_leaves_looks_once_more_before_it_goes(tmp_path: Path):
    settings = NodeSettings(runfold_dir=tmp_path, target=TARGET, idle_exit_s=0.0)
    settings.target_dir.mkdir(parents=True)
    mine = lock.AgentLock(settings.target_dir)
    mine.acquire()
    agent = Agent(settings, mine)
    agent.step()
    assert agent._is_idle()
    late = spool(settings.spool_root)  # its Run saw the lock held, and started no agent
    assert not agent._leave()
    assert lock.is_held(settings.target_dir)
    assert late.writer_id in agent.writers.tails
    agent.close()
    mine.release()

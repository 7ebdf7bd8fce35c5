"""What survives a power loss, on a disk that keeps only what was synced; and what is not synced at all."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from contracts.spool_oracle import MODES, Delivered, Mode, append_config, append_row, deliver, make
from runfold.node.agent import Agent
from runfold.node.disk_plan import WriterOnDisk
from runfold.node.disk_sync import DiskSync
from runfold.node.settings import NodeSettings
from runfold.spool import SpoolReader, SpoolWriter, list_writers
from support.processes import until

both_modes = pytest.mark.parametrize("mode", MODES)


class Disk:
    """The worst that a power loss may do: a file has its last synced bytes, a directory its last synced names."""

    def __init__(self) -> None:
        self.bytes_of: dict[int, bytes] = {}
        self.names_in: dict[int, dict[str, tuple[int, bool]]] = {}
        self.synced: list[str] = []
        self.fails: OSError | None = None

    def sync(self, path: Path) -> None:
        inode = path.stat().st_ino
        if self.fails:
            raise self.fails
        self.synced.append(path.name)
        if path.is_dir():
            self.names_in[inode] = {
                found.name: (found.stat().st_ino, found.is_dir()) for found in path.iterdir()
            }
        else:
            self.bytes_of[inode] = path.read_bytes()

    def restore(self, inode: int, to: Path) -> None:
        """Write to `to` what a power loss leaves of a directory."""
        to.mkdir(mode=0o700)
        for name, (found, is_directory) in self.names_in.get(inode, {}).items():
            if is_directory:
                self.restore(found, to / name)
            else:
                (to / name).write_bytes(self.bytes_of.get(found, b""))


class Place:
    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.root = tmp_path / "home" / "spool"
        (self.root / "local").mkdir(parents=True)
        self.disk = Disk()
        self.now_s = 0.0
        self.sync = DiskSync(self.root / "local", within_s=1.0, clock=lambda: self.now_s, sync=self.disk.sync)

    def survivor(self, writer: SpoolWriter) -> Delivered:
        home, after = self.root.parent, self.tmp_path / f"after-{time.monotonic_ns()}"
        self.disk.restore(home.stat().st_ino, after)
        [directory] = list_writers(after / "spool" / "local")
        assert directory.name == writer.directory.name
        return deliver(directory)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def fill(writer: SpoolWriter, count: int) -> None:
    for _ in range(count):
        assert append_row(writer)


def ack(writer: SpoolWriter, seq: int) -> None:
    reader = SpoolReader(writer.directory)
    reader.header.store_ack(seq, b"s" * 16)
    reader.close()


# --- the decision -------------------------------------------------------------------------------------------


def test_a_writer_is_due_when_the_look_before_found_it_unacked_too():
    about = WriterOnDisk()
    assert not about.is_due(head_seq=5, acked_seq=0)
    assert about.is_due(head_seq=9, acked_seq=0)
    about.synced(9, [1])
    assert not about.is_due(head_seq=9, acked_seq=0)
    # New rows: seen first, synced at the next look.
    assert [about.is_due(head_seq=head, acked_seq=0) for head in (20, 30)] == [False, True]


def test_a_writer_whose_acks_come_in_time_is_never_due():
    about = WriterOnDisk()
    assert not any(about.is_due(head_seq=100 * look, acked_seq=100 * look - 100) for look in range(1, 50))


def test_only_segments_that_hold_something_unsafe_are_chosen():
    about = WriterOnDisk()
    assert about.segments([1, 11, 21], head_seq=25, acked_seq=0) == [1, 11, 21]
    assert about.segments([1, 11, 21], head_seq=25, acked_seq=9) == [1, 11, 21]
    assert about.segments([1, 11, 21], head_seq=25, acked_seq=10) == [11, 21]
    assert about.segments([11, 21, 31], head_seq=30, acked_seq=10) == [11, 21]
    about.synced(20, [1, 11])
    assert about.segments([1, 11, 21], head_seq=25, acked_seq=0) == [21]
    assert about.segments([], head_seq=25, acked_seq=0) == []


# --- power loss ---------------------------------------------------------------------------------------------


@both_modes
def test_rows_that_two_looks_saw_survive_a_power_loss(place: Place, mode: Mode) -> None:
    writer = make(place.root, mode)
    for _ in range(8):
        fill(writer, 90)
        append_config(writer, 100)
        place.sync.look()
        told_seq = writer.last_seq
        fill(writer, 70)
        assert place.sync.look() == 1
        survivor = place.survivor(writer)
        assert survivor.hi >= told_seq + 70
        assert not survivor.gaps
        survivor.check_contents()


@both_modes
def test_of_what_a_server_has_stored_nothing_is_synced(place: Place, mode: Mode) -> None:
    writer = make(place.root, mode)
    for _ in range(20):
        fill(writer, 50)
        ack(writer, writer.last_seq - 20)
        assert place.sync.look() == 0
    writer.close()
    ack(writer, writer.last_seq)
    place.sync.look()
    assert place.disk.synced == []


@both_modes
def test_segments_are_synced_while_they_change_and_names_once(place: Place, mode: Mode) -> None:
    writer = make(place.root, mode)
    fill(writer, 3)
    for _ in range(2):
        place.sync.look()
    first, name = f"{1:016x}.seg", writer.directory.name
    assert place.disk.synced == [first, "writer.msgpack", "header", name, "local", "spool", "home"]
    for _ in range(6):
        place.sync.look()
    append_row(writer)
    for _ in range(2):
        place.sync.look()
    assert place.disk.synced[7:] == [first]
    fill(writer, 100)
    for _ in range(2):
        place.sync.look()
    assert place.disk.synced.count(first) == 3
    assert place.disk.synced.count(name) == 2
    assert place.disk.synced.count("header") == 1


@both_modes
def test_the_end_of_a_run_survives_and_its_spool_is_not_looked_at_again(place: Place, mode: Mode) -> None:
    writer = make(place.root, mode)
    fill(writer, 30)
    writer.close()
    for _ in range(2):
        place.sync.look()
    survivor = place.survivor(writer)
    assert (survivor.hi, survivor.gaps) == (31, [])
    said = place.tmp_path / "said"
    place.disk.restore(place.root.parent.stat().st_ino, said)
    reader = SpoolReader(said / "spool" / "local" / writer.directory.name)
    assert reader.header.final_seq == 31
    reader.close()
    (writer.directory / "header").unlink()
    synced = list(place.disk.synced)
    place.sync.look()
    assert place.disk.synced == synced


def test_a_spool_that_goes_meanwhile_is_no_matter(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    writer = make(place.root, "mmap")
    fill(writer, 200)
    place.sync.look()
    (writer.directory / f"{1:016x}.seg").unlink()
    assert place.sync.look() == 1
    (writer.directory / "header").write_bytes(b"damaged")
    assert place.sync.look() == 0
    (writer.directory / "header").unlink()
    assert place.sync.look() == 0
    for path in writer.directory.iterdir():
        path.unlink()
    writer.directory.rmdir()
    assert place.sync.look() == 0
    assert not caplog.records


def test_a_disk_that_fails_is_told_once_a_minute_and_asked_again(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    writers = [make(place.root, "mmap"), make(place.root, "mmap")]
    place.disk.fails = OSError(errno.EIO, "Input/output error")
    for _ in range(118):
        for writer in writers:
            append_row(writer)
        place.now_s += 0.5
        place.sync.look()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Input/output error" in caplog.text
    place.now_s += 2.0
    place.sync.look()
    assert len(caplog.records) == 2
    place.disk.fails = None
    assert place.sync.look() == 2


# --- the thread ---------------------------------------------------------------------------------------------


def test_the_thread_syncs_by_itself_and_stops(tmp_path: Path) -> None:
    writer = make(tmp_path, "mmap")
    disk = Disk()
    sync = DiskSync(tmp_path / "local", within_s=0.02, sync=disk.sync)
    sync.start()
    fill(writer, 10)
    until(lambda: "local" in disk.synced)
    sync.stop()
    sync.stop()
    assert not [found for found in threading.enumerate() if found.name == "runfold-disk-sync"]


def test_the_thread_goes_on_after_a_fault_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = make(tmp_path, "mmap")
    disk, faults = Disk(), iter([ZeroDivisionError("a fault")])

    def broken_at_first(path: Path) -> None:
        for fault in faults:
            raise fault
        disk.sync(path)

    sync = DiskSync(tmp_path / "local", within_s=0.02, sync=broken_at_first)
    sync.start()
    fill(writer, 10)
    until(lambda: disk.synced)
    sync.stop()
    assert len(caplog.records) == 1
    assert "a fault" in caplog.text


@pytest.mark.parametrize("within_s", [0.0, 0.02])
def test_an_agent_without_a_server_brings_rows_to_disk_unless_that_is_off(
    tmp_path: Path, within_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = NodeSettings(runfold_dir=tmp_path, target="local", sync_spool_s=within_s, drain_s=0.0)
    writer = make(settings.spool_root, "mmap")
    synced: list[str] = []
    fdatasync = os.fdatasync

    def record(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", record)
    agent = Agent(settings, None)
    looks = iter(range(4))
    agent.run(should_stop=lambda: (within_s == 0 or f"{1:016x}.seg" in synced) and next(looks, None) is None)
    writer.close()
    assert bool(synced) == bool(within_s)
    assert not [found for found in threading.enumerate() if found.name == "runfold-disk-sync"]

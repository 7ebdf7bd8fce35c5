"""What was delivered goes when there is no room for it; what was not stays, whatever the size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.spool_oracle import deliver, fill, make, segments
from runfold.spool import SpoolReader, SpoolWriter, list_writers
from runfold.spool.retention import enforce_total, remove_leftovers, remove_spool

SERVER = b"s" * 16


@pytest.fixture
def writers(tmp_path: Path) -> list[SpoolWriter]:
    made = [make(tmp_path, "mmap", first_segment_bytes=8192) for _ in range(3)]
    for writer in made:
        fill(writer, 600)
    return made


def age(writer: SpoolWriter, unix_s: float) -> None:
    """Set the times of all files; each segment a second younger than the one before."""
    for second, path in enumerate([writer.directory / "header", *segments(writer.directory)]):
        os.utime(path, (unix_s + second, unix_s + second))


def test_delivered_segments_go_oldest_first_until_the_total_fits(writers: list[SpoolWriter]) -> None:
    readers = [SpoolReader(writer.directory) for writer in writers]
    for reader, writer in zip(readers, writers, strict=True):
        reader.header.store_ack(writer.last_seq, SERVER)
    for writer, unix_s in zip(writers, (2000, 1000, 3000), strict=True):
        age(writer, unix_s)
    held = [len(segments(writer.directory)) for writer in writers]
    total_bytes = sum(reader.held_bytes() for reader in readers)
    usage = enforce_total(readers, total_bytes)
    assert (usage.held_bytes, usage.freed_bytes) == (total_bytes, 0)
    usage = enforce_total(readers, total_bytes - 3 * 8192)
    assert usage.freed_bytes == 3 * 8192
    assert [len(segments(writer.directory)) for writer in writers] == [held[0], held[1] - 3, held[2]]
    assert min(int(path.stem, 16) for path in segments(writers[1].directory)) > 1
    # Segments that are being written stay.
    usage = enforce_total(readers, 0)
    assert [len(segments(writer.directory)) for writer in writers] == [1, 1, 1]
    assert usage.held_bytes == 3 * 8192


def test_what_is_not_acknowledged_stays_whatever_the_total(writers: list[SpoolWriter]) -> None:
    readers = [SpoolReader(writer.directory) for writer in writers]
    usage = enforce_total(readers, 0)
    assert usage.freed_bytes == 0
    assert usage.held_bytes > 0
    for writer in writers:
        assert deliver(writer.directory, dead=False).gaps == []


def test_a_spool_goes_as_a_whole_when_it_ended_was_delivered_and_is_old(writers: list[SpoolWriter]) -> None:
    writer = writers[0]
    reader = SpoolReader(writer.directory)
    age(writer, 1000)

    def removed(**changes: float | bool) -> bool:
        told = {"keep_s": 60, "writer_is_dead": False, "now_unix_s": 2000} | changes
        return remove_spool(reader, **told)  # type: ignore[arg-type]

    reader.header.store_ack(writer.last_seq, SERVER)
    age(writer, 1000)
    assert not removed()
    writer.close()
    reader.header.store_ack(writer.last_seq - 1, SERVER)
    age(writer, 1000)
    assert not removed()
    reader.header.store_ack(writer.last_seq, SERVER)
    age(writer, 1000)
    assert not removed(now_unix_s=1020)
    assert removed()
    assert len(list_writers(writer.directory.parent)) == 2
    assert not removed()
    assert not writer.directory.exists()
    assert not list(writer.directory.parent.glob(".*"))


def test_a_dead_writers_spool_goes_without_being_closed(writers: list[SpoolWriter]) -> None:
    writer = writers[0]
    writer.close(final=False)
    reader = SpoolReader(writer.directory)
    reader.header.store_ack(writer.last_seq, SERVER)
    age(writer, 1000)
    assert not remove_spool(reader, keep_s=60, writer_is_dead=False, now_unix_s=2000)
    assert remove_spool(reader, keep_s=60, writer_is_dead=True, now_unix_s=2000)


def test_leftovers_go_when_they_are_old(tmp_path: Path) -> None:
    writer = make(tmp_path, "mmap")
    target = writer.directory.parent
    for name in (".new-ab", ".old-cd", "other"):
        (target / name).mkdir()
        os.utime(target / name, (1000, 1000))
    (target / ".new-file").write_text("")
    assert remove_leftovers(target, older_s=60, now_unix_s=1010) == 0
    assert remove_leftovers(target, older_s=60, now_unix_s=2000) == 2
    assert sorted(path.name for path in target.iterdir()) == sorted(
        [".new-file", "other", writer.directory.name]
    )
    assert remove_leftovers(tmp_path / "missing", older_s=60) == 0
    writer.close()


PROGRAM = """
import sys
from pathlib import Path
from runfold.spool import SpoolReader
from runfold.spool.retention import remove_spool
reader = SpoolReader(Path(sys.argv[1]))
reader.header.store_ack(reader.head_seq(), b"s" * 16)
reader.remove_acked(0, 0)
remove_spool(reader, keep_s=0, writer_is_dead=True, now_unix_s=2**40)
"""


@pytest.mark.parametrize(
    "failpoint", ["spool.before_unlink", "spool.before_unlink:3", "spool.before_rmtree", ""]
)
def test_a_kill_while_things_are_removed_leaves_a_whole_spool_or_none(
    writers: list[SpoolWriter], failpoint: str
) -> None:
    writer = writers[0]
    held = len(segments(writer.directory))
    writer.close(final=False)
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(writer.directory)],
        env={**os.environ, "RUNFOLD_FAILPOINT": failpoint},
        check=False,
    )
    assert found.returncode == (-signal.SIGKILL if failpoint else 0)
    if "unlink" in failpoint:
        # The ack stands, and what is still there can be read.
        removed = 2 if failpoint.endswith(":3") else 0
        assert len(segments(writer.directory)) == held - removed
        reader = SpoolReader(writer.directory)
        assert reader.header.acked_seq == writer.last_seq
        delivered = deliver(writer.directory)
        assert delivered.hi == writer.last_seq
        assert {gap.why for gap in delivered.gaps} <= {"released after an acknowledgement"}
    else:
        assert not writer.directory.exists()
        target = writer.directory.parent
        assert len(list(target.glob(".old-*"))) == remove_leftovers(target, older_s=0)
        assert not list(target.glob(".old-*"))

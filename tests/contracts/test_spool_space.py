"""No space: training goes on, what is lost is counted and declared, and how the process ended is still kept."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts import spool_oracle
from contracts.spool_oracle import (
    LOSS,
    MODES,
    Clock,
    Mode,
    append_config,
    append_row,
    deliver,
    fill,
    make,
    segments,
)
from runfold.protocol.blocks import Gap
from runfold.protocol.records import ExitRecord, GapRecord, RecordKind
from runfold.spool import SpoolReader, SpoolUnavailableError, SpoolWriter
from runfold.spool import segments as chain

pytestmark = pytest.mark.parametrize("mode", MODES)

SECOND_NS = 1_000_000_000


def fill_up(writer: SpoolWriter) -> int:
    """Append rows until one is not kept; return its seq."""
    for _ in range(100_000):
        if not append_row(writer):
            return writer.last_seq
    raise AssertionError("it never gets full")


def release(writer: SpoolWriter) -> None:
    """Let the agent acknowledge and remove everything that it may."""
    reader = SpoolReader(writer.directory)
    reader.header.store_ack(writer.last_seq, b"s" * 16)
    assert reader.remove_acked(keep_s=0, keep_bytes=0)
    reader.close()


def test_over_the_quota_rows_are_counted_and_declared_when_there_is_space_again(
    tmp_path: Path, mode: Mode
) -> None:
    clock = Clock()
    writer = make(tmp_path, mode, clock, max_bytes=40_000)
    lo = fill_up(writer)
    for _ in range(20):
        assert not append_row(writer)
        assert not append_config(writer)
    assert writer.dropped_count == 41
    assert writer.last_seq == lo + 40
    # While it is so, a reader waits: the gap is not at its end yet.
    held = deliver(writer.directory, dead=False)
    assert (held.hi, held.gaps) == (lo - 1, [])
    assert SpoolReader(writer.directory).head_seq() == lo + 40
    assert sum(path.stat().st_size for path in segments(writer.directory)) <= 40_000
    release(writer)
    # Space is asked for again only now and then.
    assert not append_row(writer)
    clock.now_ns += SECOND_NS
    assert append_row(writer)
    assert append_config(writer)
    reader = SpoolReader(writer.directory)
    batch = reader.read(lo)
    assert batch is not None
    assert batch.gaps == [Gap(lo, lo + 41, "quota")]
    assert batch.others[0].seq == lo + 42
    assert GapRecord.unpack(batch.others[0].payload) == GapRecord(lo, lo + 41, "quota")
    assert batch.hi == writer.last_seq == lo + 44
    assert writer.dropped_count == 42


def test_every_gap_is_declared_apart(tmp_path: Path, mode: Mode) -> None:
    clock = Clock()
    writer = make(tmp_path, mode, clock, max_bytes=20_000)
    lost: set[int] = set()
    kept_gaps = 0
    for _ in range(5):
        lo = fill_up(writer)
        append_row(writer)
        lost |= {lo, lo + 1}
        release(writer)
        clock.now_ns += SECOND_NS
        assert append_row(writer)
        kept_gaps += 1
    delivered = deliver(writer.directory, dead=False)
    assert delivered.hi == writer.last_seq
    assert {lo, lo + 1} <= delivered.lost
    assert writer.dropped_count == len(lost)


def test_a_clock_that_is_set_back_does_not_stop_the_retries(tmp_path: Path, mode: Mode) -> None:
    clock = Clock()
    clock.now_ns = 10**18
    writer = make(tmp_path, mode, clock, max_bytes=20_000)
    fill_up(writer)
    release(writer)
    clock.now_ns -= 86_400 * SECOND_NS
    assert append_row(writer)


def test_how_a_process_ended_is_kept_without_space(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode, max_bytes=20_000)
    lo = fill_up(writer)
    append_row(writer)
    assert writer.append_record(RecordKind.EXIT, ExitRecord(1, "exception", "ValueError", "x" * 200).pack())
    assert not append_row(writer)
    writer.close()
    delivered = deliver(writer.directory, dead=False)
    assert ExitRecord.unpack(delivered.others[lo + 3].payload).exception == "ValueError"
    assert delivered.lost == {lo, lo + 1, lo + 4}
    assert delivered.hi == writer.last_seq == lo + 5


@pytest.mark.parametrize("closed", [True, False])
def test_what_is_lost_at_the_end_is_declared_without_a_record(
    tmp_path: Path, mode: Mode, closed: bool
) -> None:
    writer = make(tmp_path, mode, max_bytes=20_000)
    lo = fill_up(writer)
    # More than the reserve holds: even the declaration finds no room.
    while writer.append_record(RecordKind.EXIT, ExitRecord(1, "exception", None, "x" * 700).pack()):
        pass
    append_row(writer)
    last_seq = writer.last_seq
    writer.close(final=closed)
    delivered = deliver(writer.directory)
    assert delivered.hi >= last_seq
    assert lo in delivered.lost
    assert last_seq in delivered.lost


def test_what_must_stay_free_stays_free(tmp_path: Path, mode: Mode) -> None:
    with pytest.raises(SpoolUnavailableError) as refused:
        make(tmp_path, mode, min_free_bytes=1 << 60, min_free_ratio=1.0)
    assert refused.value.errno == errno.ENOSPC


def test_a_small_disk_is_used_though_it_is_smaller_than_what_should_stay_free(
    tmp_path: Path, mode: Mode
) -> None:
    total_bytes = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    make(tmp_path, mode, min_free_bytes=2 * total_bytes, min_free_ratio=0.0001).close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 kB; only root can mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "spool-test", str(place)],
            capture_output=True,
            check=False,
        ).returncode
    )
    if not mounted:
        pytest.skip("cannot mount a tmpfs here; the limit on file sizes is tested below")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_does_not_stop_training(small_disk: Path, mode: Mode) -> None:
    clock = Clock()
    writer = make(small_disk, mode, clock)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    lo = fill_up(writer)
    for _ in range(100):
        clock.now_ns += SECOND_NS
        assert not append_row(writer)
    # Nothing that was half made is left in the way.
    assert sorted(path.name for path in writer.directory.iterdir())[-2:] == ["header", "writer.msgpack"]
    ballast.unlink()
    clock.now_ns += SECOND_NS
    assert append_row(writer)
    fill(writer, 100)
    writer.close()
    delivered = deliver(writer.directory, dead=False)
    assert delivered.gaps == [Gap(lo, lo + 100, "disk full")]
    assert delivered.hi == writer.last_seq


def test_a_disk_that_stays_full_takes_the_exit_record(small_disk: Path, mode: Mode) -> None:
    writer = make(small_disk, mode)
    fill_up(writer)
    kept = writer.append_record(RecordKind.EXIT, ExitRecord(3, "sys.exit").pack())
    # What is allocated is ours; without allocation the disk has the last word.
    assert kept or mode == "pwrite"
    writer.close()
    delivered = deliver(writer.directory, dead=False)
    assert delivered.hi == writer.last_seq
    assert (RecordKind.EXIT in {record.kind for record in delivered.others.values()}) == kept


def test_no_spool_is_made_on_a_full_disk(small_disk: Path, mode: Mode) -> None:
    (small_disk / "ballast").write_bytes(bytes(256 * 1024 - 4096))
    with pytest.raises(SpoolUnavailableError) as refused:
        make(small_disk, mode)
    assert refused.value.errno == errno.ENOSPC
    assert list((small_disk / "local").iterdir()) == []


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from contracts.spool_oracle import append_row, make
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
writer = make(Path(sys.argv[1]), sys.argv[3])
kept = sum(append_row(writer) for _ in range(500))
print(writer.directory, kept, writer.dropped_count)
writer.close()
"""


def test_a_limit_on_file_sizes_does_not_stop_training(tmp_path: Path, mode: Mode) -> None:
    tests = Path(spool_oracle.__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(tests), mode],
        capture_output=True,
        text=True,
        check=True,
    )
    directory, kept, dropped = found.stdout.split()
    assert 30 < int(kept) < 500
    assert int(kept) + int(dropped) == 500
    delivered = deliver(Path(directory), dead=False)
    assert len(delivered.rows) == int(kept)
    assert delivered.hi == 501 or delivered.others[delivered.hi].kind == RecordKind.GAP


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ENOSPC, "disk full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only file system"),
        (errno.EIO, "I/O error: Input/output error"),
    ],
)
def test_every_refusal_of_the_file_system_is_loss_with_a_reason(
    tmp_path: Path, mode: Mode, number: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    writer = make(tmp_path, mode, clock)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as refusing:
        refusing.setattr(chain, "create_file", refuse)
        lo = fill_up(writer)
    clock.now_ns += SECOND_NS
    assert append_row(writer)
    assert deliver(writer.directory, dead=False).gaps == [Gap(lo, lo, why)]


def test_a_spool_directory_that_is_removed_does_not_stop_training(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 10)
    for path in writer.directory.iterdir():
        path.unlink()
    writer.directory.rmdir()
    fill_up(writer)
    assert not append_row(writer, LOSS)
    writer.close()
    assert writer.acked_seq == 0


def test_what_was_acknowledged_makes_room_before_anything_is_lost(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode, Clock(), max_bytes=40_000)
    reader = SpoolReader(writer.directory)

    for _ in range(50):
        for _ in range(40):
            assert append_row(writer)
        reader.header.store_ack(writer.last_seq, b"s" * 16)

    assert writer.dropped_count == 0
    assert reader.held_bytes() <= 40_000
    reader.close()
    writer.close()


def test_what_was_not_acknowledged_never_makes_room(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode, Clock(), max_bytes=40_000)
    reader = SpoolReader(writer.directory)
    first_lost = fill_up(writer)
    reader.header.store_ack(3, b"s" * 16)
    for _ in range(20):
        assert not append_row(writer)
    writer.close()

    held, gaps = 3, []
    while held < first_lost - 1:
        batch = reader.read(held + 1, max_bytes=10**6, writer_is_dead=True)
        assert batch is not None
        held = batch.hi
        gaps += [gap for gap in batch.gaps if gap.lo < first_lost]
    reader.close()

    assert gaps == []

"""Damage is one record lost and declared, the rest delivered; nothing that was not said comes out."""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.spool_oracle import (
    IDENTITY,
    LOSS,
    MODES,
    SCHEMAS,
    Delivered,
    Mode,
    append_config,
    append_row,
    copy_of,
    damage,
    deliver,
    fill,
    make,
    segments,
)
from runfold.protocol.identity import Identity
from runfold.protocol.records import RecordKind
from runfold.protocol.rows import RECORD_HEADER
from runfold.spool import SpoolDamagedError, SpoolReader, SpoolWriter
from runfold.spool.format import AT_HEAD_SEQ, HEADER_BYTES, SEGMENT_HEADER_BYTES

pytestmark = pytest.mark.parametrize("mode", MODES)

ONE_SEGMENT: dict[str, Any] = {"first_segment_bytes": 1 << 16, "max_segment_bytes": 1 << 16}


def kill(writer: SpoolWriter) -> Path:
    """Leave the files as a killed process does."""
    directory = writer.directory
    writer.close(final=False)
    return directory


def record_offsets(path: Path) -> list[tuple[int, int, int]]:
    """Return (offset, size, seq) of each record in an undamaged segment."""
    data = path.read_bytes()
    found, offset = [], SEGMENT_HEADER_BYTES
    while offset + RECORD_HEADER.size <= len(data):
        size, _, seq, *_ = RECORD_HEADER.unpack_from(data, offset)
        if not size:
            break
        found.append((offset, size, seq))
        offset += size
    return found


def check_complete(delivered: Delivered, head_seq: int) -> None:
    """acknowledged = delivered + declared."""
    assert delivered.hi == head_seq
    assert set(delivered.rows) | set(delivered.others) | delivered.lost == set(range(1, head_seq + 1))


@pytest.mark.parametrize("how", ["truncate", "zero", "garble"])
@pytest.mark.parametrize("last", ["row", "record"])
def test_a_tail_torn_anywhere_ends_the_log_and_nothing_more(
    tmp_path: Path, mode: Mode, how: str, last: str
) -> None:
    writer = make(tmp_path, mode, **ONE_SEGMENT)
    fill(writer, 20)
    assert append_row(writer) if last == "row" else append_config(writer)
    head_seq = writer.last_seq
    directory = kill(writer)
    offset, size, _ = record_offsets(segments(directory)[0])[-1]
    whole = segments(directory)[0].read_bytes()[offset : offset + size]
    chance = random.Random(3)
    for cut in range(size):
        copy = copy_of(directory, 1)
        segment = segments(copy)[0]
        if how == "truncate":
            os.truncate(segment, offset + cut)
        elif how == "zero":
            damage(segment, offset + cut, bytes(size - cut))
        else:
            garbage = bytes(
                byte ^ chance.randrange(1, 256) for byte in segment.read_bytes()[offset + cut : offset + size]
            )
            damage(segment, offset + cut, garbage)
        is_torn = segment.read_bytes()[offset : offset + size] != whole
        # Alive: it is being written at this moment, wait.
        reader = SpoolReader(copy)
        alive = deliver(copy, dead=False, reader=reader)
        assert alive.hi == head_seq - is_torn
        # Dead, and the header says that it was committed: declared.
        check_complete(deliver(copy), head_seq)
        # Dead in the middle of the write: that log() never returned.
        damage(copy / "header", AT_HEAD_SEQ, struct.pack("<Q", head_seq - 1))
        torn = deliver(copy)
        assert torn.gaps == []
        assert torn.hi == alive.hi
        reader.close()


def test_a_flipped_bit_costs_one_record_at_most(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 400)
    head_seq = writer.last_seq
    directory = kill(writer)
    chance = random.Random(4)
    worst = 0
    for _ in range(150):
        copy = copy_of(directory, 1)
        segment = chance.choice(segments(copy))
        data = bytearray(segment.read_bytes())
        bit = chance.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        segment.write_bytes(data)
        delivered = deliver(copy, max_bytes=chance.choice([1, 2000, 1_000_000]))
        check_complete(delivered, head_seq)
        worst = max(worst, len(delivered.lost))
        shutil.rmtree(copy)
    # One record, or the rows of one schema in one segment when it hits the definition.
    assert 1 <= worst <= 60


def test_many_flipped_bits_lose_only_what_they_hit(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode, **ONE_SEGMENT)
    for _ in range(400):
        append_row(writer)
    head_seq = writer.last_seq
    directory = kill(writer)
    offsets = record_offsets(segments(directory)[0])
    chance = random.Random(5)
    for _ in range(10):
        copy = copy_of(directory, 1)
        hit = set()
        for offset, size, seq in chance.sample(offsets[2:], 30):
            byte = chance.randrange(offset, offset + size)
            damage(segments(copy)[0], byte, bytes([segments(copy)[0].read_bytes()[byte] ^ 64]))
            hit.add(seq)
        delivered = deliver(copy)
        check_complete(delivered, head_seq)
        assert delivered.lost == hit


def test_a_damaged_record_is_declared_while_the_writer_lives(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode, **ONE_SEGMENT)
    for _ in range(50):
        append_row(writer)
    offset, size, seq = record_offsets(segments(writer.directory)[0])[20]
    damage(segments(writer.directory)[0], offset + size - 1, b"\xff")
    delivered = deliver(writer.directory, dead=False)
    assert delivered.lost == {seq}
    assert delivered.hi == writer.last_seq
    writer.close()


@pytest.mark.parametrize("page", [0, 1, 5, 15])
def test_a_zeroed_page_loses_that_page(tmp_path: Path, mode: Mode, page: int) -> None:
    writer = make(tmp_path, mode, **ONE_SEGMENT)
    while len(record_offsets(segments(writer.directory)[0])) < 800:
        append_row(writer)
    head_seq = writer.last_seq
    directory = kill(writer)
    offsets = record_offsets(segments(directory)[0])
    touched = {
        seq for offset, size, seq in offsets if offset < 4096 * (page + 1) and offset + size > 4096 * page
    }
    damage(segments(directory)[0], 4096 * page, bytes(4096))
    delivered = deliver(directory)
    check_complete(delivered, head_seq)
    if page == 0:
        # The definition went with it, and with it what its rows mean; who the writer is did not.
        assert delivered.others[1].kind == RecordKind.WRITER
    else:
        assert delivered.lost == touched & set(range(1, head_seq + 1))


def test_a_definition_that_is_gone_is_known_from_the_segment_before(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    for _ in range(300):
        append_row(writer)
    head_seq = writer.last_seq
    directory = kill(writer)
    damage(segments(directory)[1], SEGMENT_HEADER_BYTES + 40, b"\xff\xff")
    delivered = deliver(directory)
    assert (delivered.hi, delivered.gaps) == (head_seq, [])


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_missing_segment_is_a_gap(tmp_path: Path, mode: Mode, where: str) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 600)
    head_seq = writer.last_seq
    directory = kill(writer)
    paths = segments(directory)
    index = {"first": 0, "middle": len(paths) // 2, "last": len(paths) - 1}[where]
    firsts = [int(path.stem, 16) for path in paths] + [head_seq + 1]
    paths[index].unlink()
    delivered = deliver(directory)
    check_complete(delivered, head_seq)
    # Who the writer is comes from a file of its own.
    assert delivered.lost == set(range(max(2, firsts[index]), firsts[index + 1]))


def test_all_segments_missing_is_one_gap(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 100)
    directory = kill(writer)
    for path in segments(directory):
        path.unlink()
    delivered = deliver(directory)
    check_complete(delivered, 101)
    assert set(delivered.others) == {1}


def test_a_segment_header_that_is_destroyed_costs_nothing(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 300)
    head_seq = writer.last_seq
    directory = kill(writer)
    for path in segments(directory):
        damage(path, 0, os.urandom(SEGMENT_HEADER_BYTES))
    delivered = deliver(directory)
    assert (delivered.hi, delivered.gaps) == (head_seq, [])


def test_a_truncated_segment_in_the_middle_loses_its_end(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 600)
    head_seq = writer.last_seq
    directory = kill(writer)
    for size in (0, 10, 64, 65, 1000, 3333):
        copy = copy_of(directory, size)
        os.truncate(segments(copy)[1], size)
        delivered = deliver(copy)
        check_complete(delivered, head_seq)
        first_seq, end_seq = (int(path.stem, 16) for path in segments(copy)[1:3])
        assert delivered.lost <= set(range(first_seq, end_seq))


def test_files_of_strangers_are_not_read(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 300)
    head_seq = writer.last_seq
    directory = kill(writer)
    other = make(tmp_path / "other", mode)
    fill(other, 600)
    strangers = segments(other.directory)
    # Another writer's segments: under names between ours, after ours, and in place of one of ours.
    taken = {int(path.stem, 16) for path in segments(directory)}
    for index, path in enumerate(strangers[1:4]):
        shutil.copy(path, directory / f"{index * 37 + 5:016x}.seg")
    shutil.copy(strangers[-1], directory / f"{head_seq + 1:016x}.seg")
    (directory / f"{head_seq + 50:016x}.seg").write_bytes(os.urandom(5000))
    (directory / f"{head_seq + 60:016x}.seg").mkdir()
    os.mkfifo(directory / f"{head_seq + 70:016x}.seg")
    (directory / f"{head_seq + 80:016x}.seg").symlink_to(strangers[0])
    (directory / "notes.txt").write_text("hello")
    (directory / "00.seg").write_text("hello")
    (directory / "ahead.tmp").write_bytes(os.urandom(100))
    delivered = deliver(directory)
    assert (delivered.hi, delivered.gaps) == (head_seq, [])
    shutil.copy(strangers[1], directory / segments(directory)[0].name)
    replaced = deliver(directory)
    check_complete(replaced, head_seq)
    assert replaced.lost <= set(range(1, sorted(taken)[1]))


def test_a_record_of_another_writer_is_not_believed(tmp_path: Path, mode: Mode) -> None:
    one, other = make(tmp_path / "1", mode), make(tmp_path / "2", mode)
    for writer in (one, other):
        for _ in range(10):
            append_row(writer)
    offset, size, seq = record_offsets(segments(other.directory)[0])[8]
    damage(
        segments(one.directory)[0], offset, segments(other.directory)[0].read_bytes()[offset : offset + size]
    )
    assert deliver(one.directory, dead=False).lost == {seq}


@pytest.mark.parametrize("call", ["open", "pread", "listdir"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_what_cannot_be_read_for_now_is_not_declared_lost(
    tmp_path: Path, mode: Mode, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 300)
    directory = kill(writer)
    reader = SpoolReader(directory)
    delivered = Delivered()
    for _ in range(4):
        batch = reader.read(delivered.hi + 1, max_bytes=1000, writer_is_dead=True)
        assert batch is not None
        delivered.add(batch)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as refusing:
        refusing.setattr(os, call, refuse)
        with pytest.raises(OSError, match=os.strerror(number)):
            while batch := reader.read(delivered.hi + 1, max_bytes=1000, writer_is_dead=True):
                delivered.add(batch)
    while batch := reader.read(delivered.hi + 1, writer_is_dead=True):
        delivered.add(batch)
    delivered.check_contents()
    assert (delivered.hi, delivered.gaps) == (301, [])
    reader.close()


# --- header and identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["zeros", "garbage", "missing", "short", "empty", "another's"])
def test_a_destroyed_header_is_rebuilt(tmp_path: Path, mode: Mode, how: str) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 300)
    head_seq = writer.last_seq
    directory = kill(writer)
    header = directory / "header"
    match how:
        case "zeros":
            header.write_bytes(bytes(HEADER_BYTES))
        case "garbage":
            header.write_bytes(os.urandom(HEADER_BYTES))
        case "missing":
            header.unlink()
        case "short":
            os.truncate(header, 100)
        case "empty":
            os.truncate(header, 0)
        case _:
            shutil.copy(make(tmp_path / "2", mode).directory / "header", header)
    for _ in range(2):
        delivered = deliver(directory)
        assert set(range(1, head_seq + 1)) <= set(delivered.rows) | set(delivered.others)
        reader = SpoolReader(directory)
        # Nothing counts as acknowledged, so everything is sent again.
        assert reader.header.acked_seq == 0
        assert reader.header.fixed.writer.hex() == directory.name
        assert reader.header.fixed.created_ns == 17
        if how != "another's":
            assert reader.head_seq() == head_seq
        reader.close()
    reader = SpoolReader(directory)
    reader.header.store_ack(head_seq, b"s" * 16)
    reader.close()
    assert SpoolReader(directory).header.acked_seq == head_seq


def test_a_header_destroyed_under_a_living_writer_delays_nothing(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 50)
    damage(writer.directory / "header", 0, bytes(HEADER_BYTES))
    reader = SpoolReader(writer.directory)
    delivered = Delivered()
    for _ in range(10):
        while batch := reader.read(delivered.hi + 1):
            delivered.add(batch)
        assert delivered.hi == writer.last_seq == reader.head_seq()
        fill(writer, 20)
    writer.close()
    assert deliver(writer.directory, dead=False).hi == writer.last_seq


def test_a_damaged_ack_counts_as_none(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 30)
    reader = SpoolReader(writer.directory)
    reader.header.store_ack(9, b"s" * 16)
    assert writer.acked_seq == 9
    damage(writer.directory / "header", 256, b"\xff")
    assert reader.header.acked_seq == 0
    # The writer keeps what it has seen: an ack that is half written looks the same.
    assert writer.acked_seq == 9


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x80", None])
def test_the_identity_is_read_from_the_first_record_when_its_file_is_gone(
    tmp_path: Path, mode: Mode, content: bytes | None
) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 300)
    directory = kill(writer)
    if content is None:
        (directory / "writer.msgpack").unlink()
    else:
        (directory / "writer.msgpack").write_bytes(content)
    reader = SpoolReader(directory)
    assert reader.identity == Identity.from_map({**IDENTITY, "v": 1})
    segments(directory)[0].unlink()
    with pytest.raises(SpoolDamagedError):
        SpoolReader(directory)


def test_a_directory_that_is_no_spool_is_refused(tmp_path: Path, mode: Mode) -> None:
    with pytest.raises(SpoolDamagedError):
        SpoolReader(tmp_path)
    (tmp_path / ("ab" * 16)).mkdir()
    with pytest.raises(SpoolDamagedError):
        SpoolReader(tmp_path / ("ab" * 16))


# --- anything -----------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(chance=st.randoms(use_true_random=False))
def test_no_damage_crashes_a_reader_or_invents_anything(
    tmp_path_factory: pytest.TempPathFactory, mode: Mode, chance: random.Random
) -> None:
    writer = make(tmp_path_factory.mktemp("spool"), mode)
    for _ in range(chance.randrange(200)):
        append_row(writer, chance.choice(SCHEMAS))
    head_seq = writer.last_seq
    directory = kill(writer)
    for _ in range(chance.randint(1, 6)):
        path = chance.choice(segments(directory))
        size = path.stat().st_size
        at = chance.randrange(size + 1)
        match chance.randrange(4):
            case 0:
                os.truncate(path, at)
            case 1:
                damage(path, at, chance.randbytes(chance.randrange(1, 200)))
            case 2:
                damage(path, at, bytes(chance.randrange(1, 5000)))
            case _:
                data = path.read_bytes()
                damage(path, at & ~7, data[chance.randrange(size + 1) & ~7 :][: chance.randrange(1, 2000)])
    for dead in (False, True):
        delivered = deliver(directory, dead=dead, max_bytes=chance.choice([1, 3000, 1_000_000]))
        assert all(schema in SCHEMAS or schema == LOSS for schema, _, _ in delivered.rows.values())
    check_complete(delivered, head_seq)

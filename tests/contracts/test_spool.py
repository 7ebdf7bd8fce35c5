"""What every spool does, however it is written: mapped or by pwrite."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.spool_oracle import (
    EVAL,
    LOSS,
    MODES,
    SCHEMAS,
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
from runfold.protocol.errors import LimitError, ProtocolError
from runfold.protocol.identity import Identity
from runfold.protocol.limits import MAX_RECORD_BYTES
from runfold.protocol.records import ExitRecord, RecordKind
from runfold.protocol.rows import RowSchema
from runfold.spool import SpoolReader, SpoolUnavailableError, SpoolWriter, list_writers

pytestmark = pytest.mark.parametrize("mode", MODES)


def test_what_goes_in_comes_out(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    assert append_row(writer, LOSS, flags=5)
    assert append_config(writer)
    assert append_row(writer, EVAL, flags=2)
    assert writer.append_record(RecordKind.EXIT, ExitRecord(3, "sys.exit").pack(), flags=9)
    delivered = deliver(writer.directory, dead=False)
    assert sorted(delivered.rows) == [2, 4]
    assert delivered.others[1].kind == RecordKind.WRITER
    assert Identity.unpack(delivered.others[1].payload).config == {"lr": 0.1}
    assert (delivered.others[5].flags, ExitRecord.unpack(delivered.others[5].payload).code) == (9, 3)
    assert delivered.gaps == []
    writer.close()


def test_rows_keep_their_flags_and_times(tmp_path: Path, mode: Mode) -> None:
    clock = Clock()
    writer = make(tmp_path, mode, clock)
    before_ns = clock.now_ns
    for flags in (1, 4, 2):
        append_row(writer, LOSS, flags)
    batch = SpoolReader(writer.directory).read(2)
    assert batch is not None
    assert batch.blocks[0].flags == bytes([1, 4, 2])
    times = memoryview(batch.blocks[0].t_ns).cast("Q").tolist()
    assert before_ns < times[0] < times[1] < times[2] <= clock.now_ns


def test_schemas_that_alternate_become_one_block_each(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    for _ in range(10):
        append_row(writer, LOSS)
        append_row(writer, EVAL)
    batch = SpoolReader(writer.directory).read(2)
    assert batch is not None
    assert [(block.n, block.seq_list()) for block in batch.blocks] == [
        (10, list(range(2, 22, 2))),
        (10, list(range(3, 22, 2))),
    ]


def test_a_reader_follows_a_living_writer(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    reader = SpoolReader(writer.directory)
    assert reader.read(1) is not None
    seq = 2
    for round_ in range(300):
        assert reader.read(seq) is None
        for _ in range(round_ % 4):
            append_row(writer, SCHEMAS[round_ % 4])
        while seq <= writer.last_seq:
            batch = reader.read(seq)
            assert batch is not None
            assert (batch.lo, batch.gaps) == (seq, [])
            seq = batch.hi + 1
        assert reader.head_seq() == writer.last_seq
    assert len(segments(writer.directory)) > 3


def test_a_reader_goes_back_to_any_seq(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 500)
    reader = SpoolReader(writer.directory)
    chance = random.Random(2)
    for _ in range(100):
        seq = chance.randint(1, writer.last_seq)
        batch = reader.read(seq, max_bytes=chance.choice([1, 500, 5000]))
        assert batch is not None
        assert batch.lo == seq
        assert batch.gaps == []
    assert reader.read(writer.last_seq + 1) is None
    assert reader.read(writer.last_seq + 1000) is None
    assert reader.read(writer.last_seq + 1, writer_is_dead=True) is None


def test_batches_keep_near_the_size_that_was_asked_for(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode, first_segment_bytes=1 << 20, max_segment_bytes=1 << 20)
    fill(writer, 3000)
    reader = SpoolReader(writer.directory)
    batch = reader.read(1, max_bytes=10_000)
    assert batch is not None
    assert 50 < batch.hi < 400
    assert deliver(writer.directory, max_bytes=10_000).hi == writer.last_seq


def test_segments_follow_one_another_and_grow(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode, first_segment_bytes=4096, max_segment_bytes=16384)
    while len(segments(writer.directory)) < 6:
        append_row(writer)
    writer.close()
    names = [int(path.stem, 16) for path in segments(writer.directory)]
    assert names[0] == 1
    sizes = [path.stat().st_size for path in segments(writer.directory)]
    if mode == "mmap":
        assert sizes[:5] == [4096, 8192, 16384, 16384, 16384]
    delivered = deliver(writer.directory)
    assert (len(delivered.rows), delivered.gaps) == (writer.last_seq - 1, [])


def test_every_segment_can_be_read_alone(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 500)
    for path in segments(writer.directory):
        first_seq = int(path.stem, 16)
        batch = SpoolReader(writer.directory).read(first_seq)
        assert batch is not None
        assert batch.gaps == []


def test_a_record_larger_than_a_segment_gets_its_own(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    assert append_row(writer)
    assert append_config(writer, filler=100_000)
    assert writer.append_record(RecordKind.CONSOLE, bytes(MAX_RECORD_BYTES))
    assert append_row(writer)
    delivered = deliver(writer.directory, max_bytes=1)
    assert delivered.gaps == []
    assert len(delivered.others[4].payload) == MAX_RECORD_BYTES
    assert delivered.hi == 5


def test_a_record_over_the_limit_raises_and_takes_no_seq(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    with pytest.raises(LimitError) as refused:
        writer.append_record(RecordKind.CONSOLE, bytes(MAX_RECORD_BYTES + 1))
    assert refused.value.limit == MAX_RECORD_BYTES
    assert writer.last_seq == 1


@pytest.mark.parametrize("values", [["x", 1.0], [1.0], [1.0, 2.0, 3.0], [None, 1.0], [10**400, 1.0]])
def test_a_wrong_value_raises_and_changes_nothing(tmp_path: Path, mode: Mode, values: list[float]) -> None:
    writer = make(tmp_path, mode)
    for _ in range(2):
        # Before and after the schema is known.
        with pytest.raises((struct.error, OverflowError, TypeError)):
            writer.append_row(LOSS, 4, 7, values)
        append_row(writer)
    with pytest.raises(struct.error):
        writer.append_row(LOSS, 4, 2**63, [1.0, 1.0])
    delivered = deliver(writer.directory)
    assert (sorted(delivered.rows), delivered.gaps) == ([2, 3], [])


def test_a_row_of_many_thousand_keys_is_kept(tmp_path: Path, mode: Mode) -> None:
    schema = RowSchema([(f"k{index}",) for index in range(20_000)], "d" * 20_000)
    writer = make(tmp_path, mode)
    for _ in range(3):
        assert append_row(writer, schema)
    delivered = deliver(writer.directory)
    assert (len(delivered.rows), delivered.gaps) == (3, [])


def test_more_schemas_than_are_remembered_are_kept(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode, first_segment_bytes=1 << 20, max_segment_bytes=1 << 20)
    schemas = [RowSchema([(f"k{index}",)], "q") for index in range(5000)]
    for schema in [*schemas, *schemas[:20]]:
        assert append_row(writer, schema)
    delivered = deliver(writer.directory)
    assert (len(delivered.rows), delivered.gaps) == (5020, [])


def test_a_closed_spool_says_how_far_it_goes(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 20)
    reader = SpoolReader(writer.directory)
    assert (reader.header.closed, reader.header.final_seq) == (False, None)
    writer.close()
    writer.close()
    assert (reader.header.closed, reader.header.final_seq) == (True, 21)
    assert writer.is_closed
    assert not append_row(writer)
    assert not append_config(writer)
    assert writer.last_seq == reader.head_seq() == 21
    assert deliver(writer.directory, dead=False).hi == 21
    assert segments(writer.directory)[-1].stat().st_size < 4096


def test_a_forked_child_lets_go_without_a_trace(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 10)
    child = os.fork()
    if child == 0:
        writer.close(final=False)
        os._exit(0)
    os.waitpid(child, 0)
    fill(writer, 300)
    writer.close()
    delivered = deliver(writer.directory, dead=False)
    assert (delivered.hi, delivered.gaps) == (311, [])


# --- acknowledgements ---------------------------------------------------------------------------------------


def test_the_writer_sees_what_was_acknowledged_and_by_whom(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 10)
    assert (writer.acked_seq, writer.server_id) == (0, bytes(16))
    reader = SpoolReader(writer.directory)
    reader.header.store_ack(7, b"s" * 16, 1234)
    assert (writer.acked_seq, writer.server_id) == (7, b"s" * 16)
    reader.header.acked_seq = 9
    assert (writer.acked_seq, writer.server_id) == (9, b"s" * 16)
    # Another server has less, and the ack goes down.
    reader.header.store_ack(3, b"t" * 16)
    assert (writer.acked_seq, writer.server_id) == (3, b"t" * 16)
    writer.close()
    reader.header.store_ack(11, b"t" * 16)
    assert writer.acked_seq == 11
    reader.close()
    again = SpoolReader(writer.directory)
    assert (again.header.acked_seq, again.header.server_id) == (11, b"t" * 16)


def test_acknowledged_segments_go_only_when_they_are_removed(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 500)
    before = segments(writer.directory)
    reader = SpoolReader(writer.directory)
    reader.header.store_ack(writer.last_seq, b"s" * 16)
    fill(writer, 1)
    assert segments(writer.directory)[: len(before)] == before
    freed_bytes = sum(path.stat().st_size for path in segments(writer.directory)[:-1])
    assert reader.remove_acked(keep_s=0, keep_bytes=0) == freed_bytes
    # The one that is being written stays.
    assert segments(writer.directory) == [segments(writer.directory)[-1]]
    assert reader.first_held_seq() == int(segments(writer.directory)[0].stem, 16)
    writer.close()
    reader.header.store_ack(writer.last_seq, b"s" * 16)
    reader.remove_acked(keep_s=0, keep_bytes=0)
    assert segments(writer.directory) == []
    assert reader.first_held_seq() == writer.last_seq + 1
    assert reader.read(writer.last_seq + 1) is None


def test_a_segment_with_one_record_to_come_is_not_removed(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 500)
    reader = SpoolReader(writer.directory)
    second = int(segments(writer.directory)[1].stem, 16)
    reader.header.store_ack(second - 2, b"s" * 16)
    assert reader.remove_acked(keep_s=0, keep_bytes=0) == 0
    reader.header.store_ack(second - 1, b"s" * 16)
    assert reader.remove_acked(keep_s=0, keep_bytes=0) > 0
    assert reader.first_held_seq() == second


def test_acknowledged_segments_are_kept_a_while_within_a_size(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode, first_segment_bytes=8192)
    fill(writer, 1000)
    writer.close()
    reader = SpoolReader(writer.directory)
    reader.header.store_ack(writer.last_seq, b"s" * 16)
    now_unix_s = max(path.stat().st_mtime for path in segments(writer.directory))
    assert reader.remove_acked(keep_s=60, keep_bytes=1 << 30, now_unix_s=now_unix_s) == 0
    held = len(segments(writer.directory))
    reader.remove_acked(keep_s=60, keep_bytes=3 * 8192, now_unix_s=now_unix_s)
    assert 0 < len(segments(writer.directory)) < held
    reader.remove_acked(keep_s=60, keep_bytes=1 << 30, now_unix_s=now_unix_s + 3600)
    assert segments(writer.directory) == []


def test_another_server_gets_what_is_held_and_a_gap_for_the_rest(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 500)
    reader = SpoolReader(writer.directory)
    reader.header.store_ack(writer.last_seq, b"s" * 16)
    reader.remove_acked(keep_s=0, keep_bytes=0)
    first_seq = reader.first_held_seq()
    delivered = deliver(writer.directory, dead=False)
    # Who the writer is does not depend on the segment that is gone.
    assert Identity.unpack(delivered.others[1].payload).run_path == "local/p/r"
    assert delivered.gaps == [Gap(2, first_seq - 1, "released after an acknowledgement")]
    assert delivered.hi == writer.last_seq


# --- directories --------------------------------------------------------------------------------------------


def test_files_are_private(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    fill(writer, 200)
    assert writer.directory.stat().st_mode & 0o777 == 0o700
    assert writer.directory.parent.stat().st_mode & 0o777 == 0o700
    for path in writer.directory.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_writers_are_listed_and_nothing_else(tmp_path: Path, mode: Mode) -> None:
    assert list_writers(tmp_path / "local") == []
    writers = sorted(make(tmp_path, mode).directory for _ in range(3))
    (tmp_path / "local" / "target.json").write_text("{}")
    (tmp_path / "local" / ".new-00").mkdir()
    (tmp_path / "local" / ("ab" * 16)).write_text("a file")
    (tmp_path / "local" / "not-hex").mkdir()
    (tmp_path / "local" / ("AB" * 16)).mkdir()
    (tmp_path / "local" / ("cd" * 16)).symlink_to(writers[0])
    assert list_writers(tmp_path / "local") == writers


def test_a_target_that_is_a_link_is_refused(tmp_path: Path, mode: Mode) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "local").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolUnavailableError):
        make(tmp_path, mode)


def test_a_place_that_cannot_hold_a_spool_is_an_os_error(tmp_path: Path, mode: Mode) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnavailableError):
        make(tmp_path / "file", mode)
    with pytest.raises(SpoolUnavailableError) as refused:
        make(tmp_path, mode, max_bytes=100)
    assert refused.value.errno
    assert list_writers(tmp_path / "local") == []
    assert list((tmp_path / "local").iterdir()) == []


def test_an_identity_that_is_none_is_refused(tmp_path: Path, mode: Mode) -> None:
    with pytest.raises(ProtocolError):
        SpoolWriter.create(tmp_path, "local", {"entity": "e"})


# --- any sequence of calls ----------------------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.just("row"), st.integers(0, 3), st.integers(1, 30)),
    st.tuples(st.just("record"), st.integers(0, 3000), st.integers(1, 3)),
    st.tuples(st.just("read"), st.integers(1, 9000), st.integers(1, 5)),
    st.tuples(st.just("rewind"), st.integers(0, 100), st.just(0)),
    st.tuples(st.just("release"), st.integers(0, 100), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(plan=st.lists(STEPS, max_size=25))
def test_any_sequence_of_calls_delivers_what_was_said(
    tmp_path_factory: pytest.TempPathFactory, mode: Mode, plan: list[tuple[str, int, int]]
) -> None:
    writer = make(tmp_path_factory.mktemp("spool"), mode)
    reader = SpoolReader(writer.directory)
    seq = 1
    for action, size, count in plan:
        if action == "row":
            for _ in range(count):
                assert append_row(writer, SCHEMAS[size])
        elif action == "record":
            for _ in range(count):
                assert append_config(writer, size)
        elif action == "read":
            for _ in range(count):
                batch = reader.read(seq, max_bytes=size)
                assert (batch is None) == (seq > writer.last_seq)
                if batch is not None:
                    assert (batch.lo, batch.gaps) == (seq, [])
                    seq = batch.hi + 1
        elif action == "release":
            reader.header.store_ack(seq - 1, b"s" * 16)
            reader.remove_acked(keep_s=0, keep_bytes=0)
        else:
            seq = max(reader.first_held_seq(), seq - size)
    delivered = deliver(writer.directory, dead=False)
    assert delivered.hi == writer.last_seq
    assert all(gap.hi < reader.first_held_seq() for gap in delivered.gaps)
    writer.close()
    reader.close()

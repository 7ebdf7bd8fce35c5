"""`kill -9` at any step: every append that returned is delivered, the one in the middle is whole or absent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import pytest

from contracts import spool_trainer
from contracts.spool_oracle import (
    EVAL,
    LOSS,
    MODES,
    Clock,
    Delivered,
    Mode,
    append_row,
    deliver,
    make,
    segments,
)
from runfold.protocol.records import RecordKind, SignalRecord
from runfold.protocol.rows import RowSchema
from runfold.spool import SpoolReader, SpoolWriter, list_writers

pytestmark = pytest.mark.parametrize("mode", MODES)

#: Every point in the writer's path, and hits of it: the first, some in the middle.
FAILPOINTS = [
    *("spool.directory_made", "spool.identity_written", "spool.before_publish", "spool.after_publish"),
    *("spool.segment_created", "spool.segment_created:2", "spool.segment_created:4"),
    *("spool.before_rename", "spool.before_rename:2", "spool.before_rename:4"),
    *("spool.after_rename", "spool.after_rename:2", "spool.after_rename:4"),
    *("spool.before_record", "spool.before_record:2", "spool.before_record:77", "spool.before_record:200"),
    *("spool.after_body", "spool.after_body:2", "spool.after_body:77", "spool.after_body:200"),
    *("spool.after_record", "spool.after_record:2", "spool.after_record:77", "spool.after_record:200"),
    *("spool.after_head", "spool.after_head:2", "spool.after_head:77", "spool.after_head:200"),
    "spool.before_closed",
]


def train(root: Path, mode: Mode, failpoint: str, count: int = 300) -> tuple[int, Path | None, int, bool]:
    """Run a trainer; return its status, its spool, the last seq that it was told, and whether it closed."""
    found = subprocess.run(
        [sys.executable, spool_trainer.__file__, str(root), mode, str(count), "plain"],
        env={**os.environ, "RUNFOLD_FAILPOINT": failpoint},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = found.stdout.split()
    numbers = [int(line) for line in lines[1:] if line != "closed"]
    return found.returncode, Path(lines[0]) if lines else None, max(numbers, default=1), "closed" in lines


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_what_was_told_survives_a_kill_at_every_step(tmp_path: Path, mode: Mode, failpoint: str) -> None:
    status, directory, told_seq, closed = train(tmp_path, mode, failpoint)
    if mode == "pwrite" and failpoint.startswith("spool.after_body"):
        # One write puts the whole record there; there is no such step.
        assert status == 0
        return
    assert status == -signal.SIGKILL
    assert not closed
    listed = list_writers(tmp_path / "local")
    if directory is None:
        # Killed in the middle of making it: no directory, or one that holds who it was.
        assert all(1 in deliver(path).others for path in listed)
        return
    assert listed == [directory]
    alive = deliver(directory, dead=False)
    assert alive.gaps == []
    assert told_seq <= alive.hi <= told_seq + 1
    dead = deliver(directory)
    assert (dead.gaps, dead.hi) == ([], alive.hi)
    assert sorted([*dead.rows, *dead.others]) == list(range(1, dead.hi + 1))


def test_without_a_failpoint_it_closes(tmp_path: Path, mode: Mode) -> None:
    status, directory, told_seq, closed = train(tmp_path, mode, "")
    assert (status, told_seq, closed) == (0, 301, True)
    assert directory is not None
    assert deliver(directory, dead=False).hi == 301


@pytest.mark.parametrize("delay_s", [0.0, 0.003, 0.02])
def test_what_was_told_survives_a_kill_at_any_time(tmp_path: Path, mode: Mode, delay_s: float) -> None:
    trainer = subprocess.Popen(
        [sys.executable, spool_trainer.__file__, str(tmp_path), mode, "100000000", "ahead"],
        stdout=subprocess.PIPE,
    )
    assert trainer.stdout is not None
    directory = Path(trainer.stdout.readline().decode().strip())
    for _ in range(500):
        trainer.stdout.readline()
    time.sleep(delay_s)
    trainer.kill()
    told = trainer.stdout.read().decode().split("\n")
    trainer.stdout.close()
    trainer.wait()
    # The last line may be cut in the middle.
    told_seq = max([int(line) for line in told[:-1] if line], default=501)
    delivered = deliver(directory)
    assert delivered.gaps == []
    assert told_seq <= delivered.hi <= told_seq + 1


def test_a_reader_beside_a_busy_writer_sees_no_damage(tmp_path: Path, mode: Mode) -> None:
    trainer = subprocess.Popen(
        [sys.executable, spool_trainer.__file__, str(tmp_path), mode, "8000", "quiet"],
        stdout=subprocess.PIPE,
    )
    assert trainer.stdout is not None
    directory = Path(trainer.stdout.readline().decode().strip())
    reader = SpoolReader(directory)
    delivered = Delivered()
    reads = 0
    while not (reader.header.closed and delivered.hi == reader.header.final_seq):
        # Small reads end in the middle of what is being written.
        batch = reader.read(delivered.hi + 1, max_bytes=1000 + reads % 5000)
        if batch is not None:
            delivered.add(batch)
            reads += 1
    assert trainer.wait() == 0
    trainer.stdout.close()
    delivered.check_contents()
    assert (delivered.hi, delivered.gaps) == (8_001, [])
    reader.close()


def test_a_signal_handler_may_append_in_the_middle_of_anything(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    hits = 0

    def handler(_: int, __: FrameType | None) -> None:
        nonlocal hits
        hits += 1
        number = hits
        # A row as the main program appends it, which may be in any step of appending.
        writer.append_row(LOSS, 1, -number, [0.0, 0.0])
        if number % 3 == 0:
            writer.append_record(RecordKind.SIGNAL, SignalRecord(number).pack())

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    said = 0
    try:
        while hits < 400:
            assert writer.append_row(LOSS, 4, said, [float(said), 0.5])
            said += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    reader = SpoolReader(writer.directory)
    main: list[int] = []
    handled: list[int] = []
    signals, seq = 0, 1
    while batch := reader.read(seq):
        assert batch.gaps == []
        for block in batch.blocks:
            for step in memoryview(block.steps).cast("q").tolist():
                (main if step >= 0 else handled).append(step)
        signals += sum(record.kind == RecordKind.SIGNAL for record in batch.others)
        seq = batch.hi + 1
    assert main == list(range(said))
    # A handler may itself be in the middle when the next signal comes.
    assert sorted(handled) == [-number for number in range(hits, 0, -1)]
    assert signals == hits // 3
    assert seq - 1 == writer.last_seq


def test_a_signal_handler_that_raises_costs_at_most_the_row_in_the_middle(tmp_path: Path, mode: Mode) -> None:
    class Interrupt(Exception):
        pass

    def handler(_: int, __: FrameType | None) -> None:
        raise Interrupt

    writer = make(tmp_path, mode)
    said: set[int] = set()
    raised = 0
    before = signal.signal(signal.SIGALRM, handler)
    try:
        while raised < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00005 + raised * 0.000002)
                while True:
                    seq = writer.last_seq + 1
                    append_row(writer)
                    said.add(seq)
            except Interrupt:
                raised += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    append_row(writer)
    assert len(segments(writer.directory)) > 5
    for dead in (False, True):
        delivered = deliver(writer.directory, dead=dead)
        assert delivered.hi == writer.last_seq
        # append_row() may have been done when the handler raised, so that `said` does not know of it.
        assert said <= set(delivered.rows)
        assert len(delivered.lost) <= raised
        assert not delivered.lost & said


@pytest.mark.parametrize("raised", [KeyboardInterrupt, TimeoutError])
@pytest.mark.parametrize("situation", ["new segment", "new schema", "no space", "space again", "record"])
def test_a_signal_handler_may_raise_after_any_call(
    tmp_path: Path, mode: Mode, situation: str, raised: type[BaseException]
) -> None:
    """As above, but at each single place where the interpreter may run a handler, one after the other."""
    events = 0
    while raise_in_the_middle(tmp_path / str(events), mode, situation, events, raised):
        events += 1
    assert events > (30 if situation == "new segment" else 5)


def raise_in_the_middle(root: Path, mode: Mode, situation: str, at: int, raised: type[BaseException]) -> bool:
    """Raise in event number `at` of one append, go on, and check; return whether there was such an event."""
    clock = Clock()
    writer = make(root, mode, clock, max_bytes=12_000 if "space" in situation else 1 << 30)
    said: set[int] = set()

    def append(schema: RowSchema = LOSS) -> None:
        seq = writer.last_seq + 1
        if append_row(writer, schema):
            said.add(writer.last_seq)
            assert writer.last_seq >= seq

    append()
    if "space" in situation:
        while writer.dropped_count < (1 if situation == "space again" else 0):
            append()
        while situation == "no space" and has_room(writer):
            append()
    while situation == "new segment" and has_room(writer):
        append()
    if situation == "space again":
        reader = SpoolReader(writer.directory)
        reader.header.store_ack(writer.last_seq, b"s" * 16)
        reader.remove_acked(keep_s=0, keep_bytes=0)
        reader.close()
        clock.now_ns += 10**9
    left = at

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        # Where CPython looks for signals: at the start of a Python function, after a call of a C function.
        if event in ("call", "c_return") and "/runfold/spool/" in frame.f_code.co_filename:
            left -= 1
            if left < 0:
                sys.setprofile(None)
                raise raised("by the test")

    before_seq = writer.last_seq
    sys.setprofile(profile)
    try:
        if situation == "record":
            writer.append_record(RecordKind.SIGNAL, SignalRecord(2).pack())
        else:
            append(EVAL if situation == "new schema" else LOSS)
    except raised:
        assert left < 0
    else:
        # Nothing swallows what the program's own handler raises.
        assert left >= 0
    finally:
        sys.setprofile(None)
    for _ in range(5):
        append(LOSS)
        append(EVAL)
    clock.now_ns += 10**9
    for _ in range(150):
        append(LOSS)
    last_seq = writer.last_seq
    delivered = Delivered()
    reader = SpoolReader(writer.directory)
    released = reader.first_held_seq() - 1
    writer.close(final=False)
    while batch := reader.read(delivered.hi + 1, writer_is_dead=True):
        delivered.add(batch)
    reader.close()
    assert delivered.hi == last_seq
    assert {seq for seq in said if seq > released} <= set(delivered.rows)
    if "space" not in situation:
        assert delivered.lost <= {before_seq + 1, before_seq + 2}
    return left < 0


def has_room(writer: SpoolWriter) -> bool:
    """Return whether one more row of LOSS fits the current segment."""
    return writer._has_room(LOSS.record_bytes)

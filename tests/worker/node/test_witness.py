"""What duties see, said two ways; duties that fail; and how ends are read from the kernel."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runfold.node.duties import MAX_FAULTS, Duties
from runfold.node.elastic_error import MAX_FILE_BYTES, read_elastic_error
from runfold.node.node_spool import NodeSpool
from runfold.node.parents import Parents, will_tell
from runfold.node.processes import ProcessWatch, boot_id, pid_namespace, start_of
from runfold.node.witness import MAX_REFUSALS, MAX_WAITING, Witness
from runfold.parent.note import (
    FOLDER,
    MAX_SIGNALS,
    ParentNote,
    PassedOn,
    list_notes,
    read_note,
    remove_old_notes,
    write_note,
)
from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence, control_kind
from runfold.protocol.records import EvidenceRecord, RecordKind
from support.processes import until
from support.spooled import read_spools

W = b"w" * 16


class Tail:
    partition = 3
    is_alive: bool | None = None


class KnownWriters:
    """The part of `Writers` that a witness looks at."""

    def __init__(self) -> None:
        self.tails: dict[bytes, Tail] = {W: Tail()}

    def processes(self) -> list[Any]:
        return []


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    spool = NodeSpool(tmp_path / "spool" / "local", host="h")
    return Witness(KnownWriters(), spool, clock_ns=lambda: 77)  # type: ignore[arg-type]


def test_an_agent_that_has_nothing_to_say_makes_no_spool(tmp_path: Path, witness: Witness) -> None:
    assert witness.offer() == []
    witness.spool.close()
    assert read_spools(tmp_path) == []


def test_message_and_record_are_the_same_evidence(tmp_path: Path, witness: Witness) -> None:
    assert witness.testify(W, e.WAIT, {"status": 9, "by": "pidfd"})
    assert witness.testify(W, e.LAUNCHER, {"pid": 5, "signum": 15}, t_ns=44)
    offered = witness.offer()
    assert [partition for partition, _ in offered] == [3, 3]
    messages = [Evidence.from_message(control_kind(message)[1]) for _, message in offered]
    witness.spool.close()
    [spooled] = read_spools(tmp_path)
    assert spooled.identity.role == "node"
    assert spooled.is_closed
    records = _evidence(tmp_path)
    assert [(one.key, one.t_ns) for one in messages] == [(one.key, one.t_ns) for one in records]
    assert [one.t_ns for one in messages] == [77, 44]


def _evidence(runfold_dir: Path) -> list[Evidence]:
    from runfold.spool import SpoolReader, list_writers

    found = []
    for directory in list_writers(runfold_dir / "spool" / "local"):
        with contextlib.closing(SpoolReader(directory)) as reader:
            batch = reader.read(1, max_bytes=1 << 20)
            assert batch is not None
            found += [
                Evidence.from_record(EvidenceRecord.unpack(record.payload), record.t_ns)
                for record in batch.others
                if record.kind == RecordKind.EVIDENCE
            ]
    return found


def test_messages_are_offered_until_they_are_taken(witness: Witness) -> None:
    witness.testify(W, e.GONE, {})
    first = witness.offer()
    witness.answered(were_taken=False)
    assert witness.offer() == first
    witness.testify(W, e.WAIT, {"status": 0, "by": "proc"})
    witness.answered(were_taken=True)
    [left] = witness.offer()
    assert control_kind(left[1])[1]["source"] == e.WAIT
    witness.answered(were_taken=True)
    assert witness.is_heard()
    witness.spool.close()


def test_a_server_that_refuses_messages_gets_the_records_only(witness: Witness) -> None:
    witness.testify(W, e.GONE, {})
    for _ in range(MAX_REFUSALS):
        assert witness.offer()
        witness.answered(were_taken=False)
    assert witness.is_heard()
    witness.spool.close()


def test_messages_that_nobody_takes_are_bounded(witness: Witness) -> None:
    for number in range(MAX_WAITING + 50):
        witness.testify(W, e.STACK, {"text": str(number)})
    first = control_kind(witness.offer()[0][1])[1]
    assert first["facts"] == {"text": "50"}
    witness.spool.close()


def test_of_a_writer_that_is_forgotten_only_the_record_tells(witness: Witness) -> None:
    witness.testify(b"o" * 16, e.GONE, {})
    assert witness.offer() == []
    witness.answered(were_taken=True)
    assert witness.is_heard()
    witness.spool.close()


def test_what_no_disk_takes_is_written_down_when_one_does(
    tmp_path: Path, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert witness.keep()
    with monkeypatch.context() as full:
        full.setattr(NodeSpool, "add_evidence", lambda *_: False)
        assert not witness.testify(W, e.WAIT, {"status": 9, "by": "proc"}, t_ns=44)
        assert not witness.testify(W, e.OOM, {"kills": 1})
        assert not witness.keep()
    assert witness.keep()
    assert witness.keep()
    witness.spool.close()
    assert [(one.source, one.t_ns) for one in _evidence(tmp_path)] == [(e.WAIT, 44), (e.OOM, 77)]


class Faulty:
    """A duty that always fails, and one that counts."""

    def __init__(self, *, fails: bool) -> None:
        self.calls: list[str] = []
        self._fails = fails

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self._fails:
            raise RuntimeError(name)

    def writer_found(self, tail: object) -> None:
        self._called("found")

    def writer_ended(self, tail: object) -> None:
        self._called("ended")

    def step(self, now_s: float) -> None:
        self._called("step")

    def close(self) -> None:
        self._called("close")


def test_a_duty_that_fails_stops_nobody_and_is_switched_off() -> None:
    bad, good = Faulty(fails=True), Faulty(fails=False)
    duties = Duties([bad, good])
    tail = Tail()
    tail.is_alive = False
    duties.found(tail)  # type: ignore[arg-type]
    assert bad.calls == good.calls == ["found", "ended"]
    for _ in range(MAX_FAULTS + 5):
        duties.step(1.0)
    assert len(bad.calls) == MAX_FAULTS
    assert good.calls.count("step") == MAX_FAULTS + 5
    duties.close()
    duties.close()
    assert good.calls.count("close") == 1


# --- the kernel's word ----------------------------------------------------------------------------------

#: A parent that looks at its child late, when a line comes.
LATE_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import os, sys; sys.stdin.readline(); os._exit(3)"],
                         stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.readline()
child.stdin.close()
sys.stdin.readline()
child.wait()
print("looked", flush=True)
sys.stdin.readline()
"""


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def parent() -> Any:
    made: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", LATE_PARENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        made.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in made:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("use_pidfd", [True, False])
def test_the_status_of_a_zombie_is_known_at_once(parent: Any, use_pidfd: bool) -> None:
    process, pid = parent()
    watch = ProcessWatch(use_pidfd=use_pidfd)
    assert watch.watch("k", pid, start_of(pid))
    _tell(process)
    assert watch.wait(10.0) == ["k"]
    end = watch.end_of("k")
    assert end is not None
    assert (end.status, end.by) == (3 << 8, "proc")
    assert watch.wait(0.0) == [], "an end is told once"
    watch.forget("k")
    assert watch.end_of("k") is None
    watch.close()


def test_the_status_of_a_process_that_was_looked_at_is_told_by_its_pidfd(parent: Any) -> None:
    process, pid = parent()
    watch = ProcessWatch()
    assert watch.watch("k", pid, start_of(pid))
    _tell(process)
    _tell(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "looked\n"
    assert watch.wait(10.0) == ["k"]
    end = watch.end_of("k")
    if end is None:
        pytest.skip("the kernel does not tell (before Linux 6.15)")
    assert (end.status, end.by) == (3 << 8, "pidfd")
    watch.close()


def test_a_status_that_is_hidden_comes_when_the_parent_looks(
    parent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the process belonged to somebody whose status we may not read: /proc then says 0."""
    monkeypatch.setattr("runfold.node.processes.end_of_zombie", lambda *_, **__: None)
    process, pid = parent()
    watch = ProcessWatch()
    assert watch.watch("k", pid, start_of(pid))
    _tell(process)
    assert watch.wait(10.0) == ["k"]
    assert watch.end_of("k") is None
    if not watch.may_tell_later("k"):
        pytest.skip("the kernel does not tell (before Linux 6.13)")
    _tell(process)

    def told() -> bool:
        assert watch.wait(0.0) == []
        return watch.end_of("k") is not None

    until(told)
    assert not watch.may_tell_later("k")
    watch.close()


# --- files of others ------------------------------------------------------------------------------------


def test_an_error_file_is_read_with_care(tmp_path: Path) -> None:
    file = tmp_path / "error.json"
    assert read_elastic_error(str(file)) is None
    file.write_text(
        '{"message": {"message": "a.B: x", "extraInfo": {"py_callstack": "T", "timestamp": "17"}}}'
    )
    assert read_elastic_error(str(file)) == {
        "message": "a.B: x",
        "exception": "a.B",
        "traceback": "T",
        "unix_s": 17.0,
    }
    file.write_text('{"message": "half \\ud800"}')
    assert read_elastic_error(str(file)) == {"message": "half ?"}
    file.write_text('{"message": "Signal 15 (SIGTERM) received"}')
    assert read_elastic_error(str(file)) == {"message": "Signal 15 (SIGTERM) received"}
    for text in (
        "",
        "[]",
        "{}",
        "nul",
        '{"message": 3}',
        '{"message": {}}',
        "[" * 100_000,
        "x" * (MAX_FILE_BYTES + 1),
    ):
        file.write_text(text)
        assert read_elastic_error(str(file)) is None, text[:20]
    link = tmp_path / "link"
    file.write_text('{"message": "m"}')
    link.symlink_to(file)
    assert read_elastic_error(str(link)) is None
    os.mkfifo(tmp_path / "fifo")
    assert read_elastic_error(str(tmp_path / "fifo")) is None


def note(pid: int = 5, **given: Any) -> ParentNote:
    said: dict[str, Any] = {
        "pid_start": 100,
        "parent_pid": os.getpid(),
        "parent_start": start_of(os.getpid()),
        "boot_id": boot_id(),
        "pid_namespace": pid_namespace(),
        **given,
    }
    return ParentNote(pid, **said)


def test_notes_are_read_again_when_they_change_and_damage_is_passed_over(tmp_path: Path) -> None:
    parents = Parents(tmp_path, boot=boot_id(), namespace=pid_namespace())
    parents.refresh()
    assert parents.about([(5, 100)]) == []
    first = note(signals=(PassedOn(15, 1, 2, 3), PassedOn(2, 4)))
    write_note(tmp_path, first)
    write_note(tmp_path, note(6, boot_id="another"))
    folder = tmp_path / FOLDER
    (folder / "9-9.json").write_text('{"v": 1, "pid": "x"')
    (folder / "8-8.json").write_text('{"v": 1, "signals": 7}')
    (folder / "7-7.json").symlink_to(folder / "5-100.json")
    parents.refresh()
    assert parents.about([(5, 100), (6, 100), (7, 7), (8, 8)]) == [first]
    assert parents.about([(5, 101), (5, None)]) == [], "another process of that pid"
    assert will_tell(first)
    version = parents.version
    ended = note(status=9, ended_ns=8)
    write_note(tmp_path, ended)
    until(lambda: (parents.refresh(), parents.about([(5, 100)]) == [ended])[1])
    assert parents.version > version
    assert not will_tell(ended)
    assert not will_tell(note(parent_start=1)), "its parent is gone"


def test_notes_that_are_old_or_too_many_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runfold.parent.note.MAX_NOTES", 3)
    for pid in range(1, 7):
        # The second one's child still runs.
        write_note(tmp_path, note(pid, status=None if pid == 2 else 0))
        os.utime(tmp_path / FOLDER / f"{pid}-100.json", (1000.0 + pid, 1000.0 + pid))
    remove_old_notes(tmp_path, now_unix_s=1010.0)
    assert sorted(read_note(path).pid for path in list_notes(tmp_path)) == [2, 4, 5, 6]
    remove_old_notes(tmp_path, now_unix_s=1005.5 + 86_400)
    assert [read_note(path).pid for path in list_notes(tmp_path)] == [6]


def test_of_too_many_signals_a_note_holds_the_last_ones() -> None:
    full = note(5)
    for t_ns in range(MAX_SIGNALS + 3):
        full = full.with_signal(PassedOn(10, t_ns))
    assert [signal.t_ns for signal in full.signals] == list(range(3, MAX_SIGNALS + 3))

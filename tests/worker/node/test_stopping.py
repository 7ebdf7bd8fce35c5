"""The duty that stops processes: whom it signals and when, what it says of it, and whom it leaves alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runfold.node.process_signals import Process, Signals, is_launcher_program
from runfold.node.processes import start_of
from runfold.node.stop_plan import LAUNCHER_PATIENCE_S
from runfold.node.stopping import STATE_NAME, Stopping
from runfold.node.tail import WriterTail
from runfold.protocol.records import RecordKind, SignalRecord
from runfold.protocol.streams import StopRequest
from runfold.spool import SpoolWriter
from support.processes import until
from support.spooler import open_writer

TARGET = "local"
LAUNCHER = Process(90, 900.0)
TERM, KILL, CONT = signal.SIGTERM, signal.SIGKILL, signal.SIGCONT


class Wires(Signals):
    """Signals that go nowhere."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[int]]] = []
        self.gone: set[int] = set()
        self.forbidden: set[int] = set()
        self.owners: dict[int, int] = {}

    def is_alive(self, process: Process) -> bool:
        return process.pid not in self.gone

    def owner_uid(self, process: Process) -> int | None:
        return self.owners.get(process.pid)

    def send(self, process: Process, *signums: int) -> bool:
        if process.pid in self.forbidden:
            raise PermissionError("not yours")
        if process.pid in self.gone:
            return False
        self.sent.append((process.pid, list(signums)))
        return True

    def take(self) -> list[tuple[int, list[int]]]:
        sent, self.sent = self.sent, []
        return sent


class Heard:
    """A witness that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[bytes, str, Mapping[str, Any]]] = []

    def testify(self, writer: bytes, source: str, facts: Mapping[str, Any]) -> None:
        self.said.append((writer, source, facts))


class Node:
    """Spools of processes that need not exist, and the duty over them, with a clock that is moved by hand."""

    def __init__(self, base: Path) -> None:
        self.now_s = 1000.0
        self.root = base
        self.wires, self.witness = Wires(), Heard()
        self.spools: dict[bytes, SpoolWriter] = {}
        self.tails: list[WriterTail] = []
        self.duty = self.agent()

    def agent(self, *, is_allowed: bool = True, signals: Signals | None = None) -> Stopping:
        """An agent that was started now."""
        return Stopping(
            self.witness,  # type: ignore[arg-type]
            self.root / TARGET,
            is_allowed=is_allowed,
            signals=signals or self.wires,
            clock=lambda: self.now_s,
            may_signal_launcher=lambda _pid: True,
        )

    def writer(self, pid: int, *, duty: Stopping | None = None, **identity: Any) -> WriterTail:
        spool = open_writer(self.root, TARGET, pid=pid, **{"pid_start": pid * 10.0, **identity})
        self.spools[spool.writer_id] = spool
        tail = WriterTail(self.root / TARGET / spool.writer_id.hex())
        tail.is_alive = True
        self.tails.append(tail)
        (duty or self.duty).writer_found(tail)
        return tail

    def rank(self, pid: int) -> WriterTail:
        said = {"source": "torchrun", "launcher_pid": LAUNCHER.pid, "launcher_start": LAUNCHER.start}
        return self.writer(pid, launcher=said)

    def after(self, seconds: float, duty: Stopping | None = None) -> list[tuple[int, list[int]]]:
        self.now_s += seconds
        (duty or self.duty).step(self.now_s)
        return self.wires.take()

    def ends(self, tail: WriterTail) -> None:
        tail.is_alive = False
        self.wires.gone.add(tail.identity.pid or 0)
        self.duty.writer_ended(tail)

    def close(self) -> None:
        for tail in self.tails:
            tail.close()
        for spool in self.spools.values():
            spool.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


def whole(grace_s: float, request: str = "r1") -> StopRequest:
    return StopRequest(request, "eve", grace_s, is_whole=True)


def test_sigterm_at_once_sigkill_after_the_grace_and_both_are_told(node: Node):
    tail = node.writer(100)
    node.duty.take({tail.writer: whole(10)})
    assert node.wires.take() == [(100, [TERM, CONT])]
    node.duty.take({tail.writer: whole(10)})
    assert node.after(9.9) == []
    assert node.after(0.2) == [(100, [KILL])]
    assert node.after(60) == []
    facts = {"request": "r1", "pid": 100, "to": "process"}
    assert node.witness.said == [
        (tail.writer, "stop_signal", facts | {"signum": 15}),
        (tail.writer, "stop_signal", facts | {"signum": 9}),
    ]


def test_only_living_processes_of_this_node_are_touched(node: Node):
    here, elsewhere, dead = node.writer(100), node.writer(101), node.writer(102)
    console, node_writer = node.writer(103, role="console"), node.writer(104, role="node")
    elsewhere.is_alive, dead.is_alive = None, False
    asked = [here, elsewhere, dead, console, node_writer]
    node.duty.take({tail.writer: whole(0) for tail in asked} | {b"?" * 16: whole(0)})
    assert node.wires.take() == [(100, [KILL])]


def test_where_it_is_switched_off_it_says_so_once(node: Node):
    node.duty = node.agent(is_allowed=False)
    tail = node.writer(100)
    for _ in range(3):
        node.duty.take({tail.writer: whole(0)})
        assert node.after(100) == []
    ((writer, source, facts),) = node.witness.said
    assert (writer, source, facts["request"]) == (tail.writer, "stop_refused", "r1")
    assert "RUNFOLD_ALLOW_STOP=0" in facts["why"]


def test_a_process_of_unknown_start_may_be_another_by_now(node: Node):
    tail = node.writer(100, pid_start=None)
    node.duty.take({tail.writer: whole(0)})
    assert node.wires.take() == []
    assert node.witness.said[0][1] == "stop_refused"


def test_a_process_that_may_not_be_signalled_is_told(node: Node):
    tail = node.writer(100)
    node.wires.forbidden.add(100)
    node.duty.take({tail.writer: whole(5)})
    node.after(10)
    assert [source for _, source, _ in node.witness.said] == ["stop_refused"]
    assert "not yours" in node.witness.said[0][2]["why"]


def test_an_agent_of_root_ends_nobodys_process_for_anothers_spool(
    node: Node, monkeypatch: pytest.MonkeyPatch
):
    """A spool says which pid is meant, and its owner may write there what they like."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    mine, anothers, launched = node.writer(100), node.writer(101), node.rank(102)
    node.wires.owners = {100: os.getuid(), 101: os.getuid() + 1, LAUNCHER.pid: os.getuid() + 1}
    node.duty.take({tail.writer: whole(5) for tail in (mine, anothers, launched)})
    assert node.wires.take() == [(100, [TERM, CONT]), (102, [TERM, CONT])]
    refused = [writer for writer, source, _ in node.witness.said if source == "stop_refused"]
    assert refused == [anothers.writer]


def test_a_shorter_grace_shortens_and_a_second_request_sends_no_second_sigterm(node: Node):
    tail = node.writer(100)
    node.duty.take({tail.writer: whole(600)})
    assert node.wires.take() == [(100, [TERM, CONT])]
    node.now_s += 10
    node.duty.take({tail.writer: whole(5, "r2")})
    assert node.after(4.9) == []
    assert node.after(0.2) == [(100, [KILL])]
    assert node.witness.said[-1][2]["request"] == "r2"


def test_torchrun_is_stopped_first_once_and_told_for_each_rank(node: Node):
    ranks = [node.rank(100), node.rank(101)]
    node.duty.take({tail.writer: whole(20) for tail in ranks})
    assert node.wires.take() == [(LAUNCHER.pid, [TERM, CONT])]
    told = {(writer, facts["pid"], facts["to"]) for writer, _, facts in node.witness.said}
    assert told == {(tail.writer, LAUNCHER.pid, "launcher") for tail in ranks}
    assert node.after(9.9) == []
    assert node.after(0.2) == [(100, [TERM, CONT]), (101, [TERM, CONT])], "it did not pass it on"
    assert node.after(10) == [(100, [KILL]), (101, [KILL])]
    for tail in ranks:
        node.ends(tail)
    assert node.wires.take() == [], "it has SIGTERM already, and ends by itself"
    assert node.after(LAUNCHER_PATIENCE_S + 1) == [(LAUNCHER.pid, [KILL])], "it is stuck"
    assert node.after(1000) == []


def test_a_stop_of_single_ranks_leaves_the_launcher_alone(node: Node):
    tail = node.rank(100)
    node.duty.take({tail.writer: StopRequest("r1", "eve", 20.0)})
    assert node.wires.take() == [(100, [TERM, CONT])]
    assert node.after(30) == [(100, [KILL])]
    node.ends(tail)
    assert node.after(1000) == []


def test_with_a_long_grace_the_launcher_ends_when_its_ranks_have(node: Node):
    ranks = [node.rank(100), node.rank(101)]
    node.duty.take({tail.writer: whole(300) for tail in ranks})
    assert node.wires.take() == [(100, [TERM, CONT]), (101, [TERM, CONT])]
    node.ends(ranks[0])
    assert node.after(100) == []
    node.ends(ranks[1])
    assert node.wires.take() == [(LAUNCHER.pid, [TERM, CONT])], "before it starts them again"


def test_a_launcher_that_is_gone_or_no_launcher_is_not_signalled(node: Node):
    node.wires.gone.add(LAUNCHER.pid)
    tail = node.rank(100)
    node.duty.take({tail.writer: whole(10)})
    assert node.wires.take() == [(100, [TERM, CONT])]
    assert is_launcher_program(os.getpid())
    with subprocess.Popen(["sleep", "60"]) as other:
        assert not is_launcher_program(other.pid)
        other.kill()
    assert not is_launcher_program(2**22 + 1)


def test_a_rank_that_says_it_has_sigterm_is_not_disturbed_by_another(node: Node):
    """torchrun has passed it on: a second one would run the handler again while it saves."""
    told, silent = node.rank(100), node.rank(101)
    node.spools[told.writer].append_record(RecordKind.SIGNAL, SignalRecord(signum=10).pack())
    node.duty.take({tail.writer: whole(20) for tail in (told, silent)})
    node.wires.take()
    node.spools[told.writer].append_record(RecordKind.SIGNAL, SignalRecord(signum=15).pack())
    assert node.after(10.1) == [(101, [TERM, CONT])]
    assert node.after(10) == [(100, [KILL]), (101, [KILL])]


def test_a_process_whose_run_has_ended_is_left_alone(node: Node):
    """After finish() the process may be saving, or be in its next run."""
    tail = node.writer(100)
    node.duty.take({tail.writer: whole(10)})
    node.wires.take()
    node.spools[tail.writer].close()
    node.duty.step(node.now_s)
    node.duty.take({tail.writer: whole(10)})
    assert node.after(60) == []
    assert not (node.root / TARGET / STATE_NAME).exists()


def test_the_next_agent_goes_on_where_this_one_was_killed(node: Node):
    tail = node.writer(100)
    node.duty.take({tail.writer: whole(10)})
    node.wires.take()
    node.now_s += 6
    second = node.agent()
    second.writer_found(tail)
    second.take({tail.writer: whole(10)})
    assert node.after(3.9, second) == [], "no second SIGTERM"
    assert node.after(0.2, second) == [(100, [KILL])], "and no second grace"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"boot_id": "another", "stops": {}}', '{"stops": 3}'])
def test_a_damaged_or_foreign_file_of_what_was_begun_is_nothing(node: Node, text: str):
    (node.root / TARGET).mkdir(exist_ok=True)
    (node.root / TARGET / STATE_NAME).write_text(text)
    tail = node.writer(100)
    second = node.agent()
    second.writer_found(tail)
    second.take({tail.writer: whole(10)})
    assert node.wires.take() == [(100, [TERM, CONT])]


def test_what_another_boot_began_is_forgotten(node: Node):
    tail = node.writer(100)
    node.duty.take({tail.writer: whole(10)})
    path = node.root / TARGET / STATE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "another"}))
    node.wires.take()
    second = node.agent()
    second.writer_found(tail)
    assert node.after(60, second) == []


def test_on_a_full_disk_it_stops_all_the_same(node: Node):
    tail = node.writer(100)
    node.duty._path = Path("/proc/none/stops.json")
    node.duty.take({tail.writer: whole(10)})
    assert node.wires.take() == [(100, [TERM, CONT])]
    assert node.after(10) == [(100, [KILL])]


# --- real processes ---------------------------------------------------------------------------------------

IGNORES = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
DEFAULT = "import time; print(1, flush=True); time.sleep(60)"


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", request.param], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.journey
@pytest.mark.parametrize(
    ("child", "is_stopped", "ends_with"),
    [(DEFAULT, False, TERM), (DEFAULT, True, TERM), (IGNORES, False, KILL), (IGNORES, True, KILL)],
    indirect=["child"],
)
def test_a_process_ends_also_where_it_was_stopped_or_does_not_want_to(
    node: Node, child: subprocess.Popen[bytes], is_stopped: bool, ends_with: int
):
    duty = node.agent(signals=Signals())
    if is_stopped:
        child.send_signal(signal.SIGSTOP)
        until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rsplit(")")[-1].split()[0] == "T")
    tail = node.writer(child.pid, duty=duty, pid_start=start_of(child.pid))
    duty.take({tail.writer: whole(5)})
    if ends_with == TERM:
        assert child.wait(10) == -TERM
    else:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)
        node.after(5.1, duty)
        assert child.wait(10) == -KILL
    assert node.witness.said[-1][2]["signum"] == ends_with


@pytest.mark.journey
@pytest.mark.parametrize("child", [DEFAULT], indirect=True)
@pytest.mark.parametrize("has_pidfd", [True, False])
def test_a_later_process_with_the_same_pid_is_not_signalled(
    child: subprocess.Popen[bytes], has_pidfd: bool, monkeypatch: pytest.MonkeyPatch
):
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    start = start_of(child.pid)
    assert start
    assert not Signals().send(Process(child.pid, start + 1000), KILL)
    assert child.poll() is None
    assert Signals().send(Process(child.pid, start), TERM)
    assert child.wait(10) == -TERM
    assert not Signals().send(Process(child.pid, start), KILL)

"""Stacks of real processes, by signal and by another program; none is ever ended by it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runfold import stack_signal
from runfold.node.stacks import StackDumps
from runfold.node.tail import WriterTail
from runfold.protocol.errors import ProtocolError
from runfold.protocol.streams import StackRequest, pack_stack_requests, unpack_stack_requests
from support.processes import environment, until

PROGRAM = """
import faulthandler, signal, sys, time, runfold
run = runfold.init(project="p", config={"spool": True})
print(run._spool.directory, flush=True)
{before}
def load_batch():
    print("hangs", flush=True)
    time.sleep(60)
load_batch()
"""


class Heard:
    """Stands for the witness: keeps what is said."""

    def __init__(self) -> None:
        self.said: list[tuple[bytes, str, dict[str, Any]]] = []

    def testify(self, writer: bytes, source: str, facts: dict[str, Any]) -> None:
        self.said.append((writer, source, facts))


class Hung:
    """A process that hangs, and what asks for its stacks."""

    def __init__(
        self,
        tmp_path: Path,
        before: str = "",
        env: dict[str, str] | None = None,
        *,
        says_so: bool = True,
        **options: Any,
    ) -> None:
        said = {"RUNFOLD_DIR": str(tmp_path / "home"), "RUNFOLD_MODE": "offline", **(env or {})}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.replace("{before}", before)],
            env=environment(said), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.tail = WriterTail(Path(self.process.stdout.readline().strip()))
        self.tail.is_alive = True
        if says_so:
            self.process.stdout.readline()
        self.heard = Heard()
        self.dumps = StackDumps({self.tail.writer: self.tail}, self.heard, **options)  # type: ignore[arg-type]

    def ask(self, request: str = "r1") -> None:
        self.dumps.take([pack_stack_requests([StackRequest(request, "no progress", (self.tail.writer,))])])

    def wait(self, seconds: float = 45.0) -> bool:
        def came() -> bool:
            self.dumps.step(time.monotonic())
            return bool(self.heard.said) or not (self.dumps._dumps or self.dumps._waiting)

        until(came, seconds, 0.05)
        return bool(self.heard.said)

    def close(self) -> None:
        self.dumps.close()
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.communicate()
        self.tail.close()


@pytest.fixture
def hang(tmp_path: Path) -> Iterator[Callable[..., Hung]]:
    made: list[Hung] = []

    def make(*args: Any, **kwargs: Any) -> Hung:
        made.append(Hung(tmp_path, *args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_process_writes_its_stacks_and_goes_on(hang: Callable[..., Hung]) -> None:
    hung = hang()
    for at in range(2):
        hung.ask(f"r{at}")
        hung.ask(f"r{at}")  # told again and again: the same
        assert hung.wait()
        ((writer, source, facts),) = hung.heard.said
        assert (writer, source, facts["tool"], facts["why"]) == (
            hung.tail.writer, "stack", "faulthandler", "no progress",
        )  # fmt: skip
        assert facts["text"].count("in load_batch") == 1, "each dump stands alone"
        assert "Current thread" in facts["text"]
        hung.heard.said.clear()
    assert hung.process.poll() is None


@pytest.mark.parametrize(
    ("before", "env"),
    [
        ("", {"RUNFOLD_STACKS": "off"}),
        ("faulthandler.unregister(signal.SIGRTMAX - 4)", {}),
        ("signal.signal(signal.SIGRTMAX - 4, signal.SIG_IGN)", {}),
    ],
)
def test_who_does_not_catch_the_signal_is_not_sent_it(
    hang: Callable[..., Hung], before: str, env: dict[str, str]
) -> None:
    hung = hang(before, env)
    hung.dumps._py_spy = None
    hung.ask()
    assert not hung.wait()
    assert hung.process.poll() is None


def test_a_stopped_process_is_left_alone(hang: Callable[..., Hung]) -> None:
    hung = hang()
    hung.process.send_signal(signal.SIGSTOP)
    until(lambda: "T" in Path(f"/proc/{hung.process.pid}/stat").read_text().rpartition(")")[2])
    hung.ask()
    assert not hung.wait()


def test_another_process_with_its_pid_is_not_sent_it(hang: Callable[..., Hung]) -> None:
    hung = hang()
    hung.dumps._py_spy = None
    object.__setattr__(hung.tail.identity, "pid_start", 12345.0)
    hung.ask()
    assert not hung.wait()


def test_a_program_that_took_the_process_over_is_not_sent_it(hang: Callable[..., Hung]) -> None:
    hung = hang("import os\nos.execvp('sleep', ['sleep', '60'])", says_so=False)
    hung.dumps._py_spy = None
    until(lambda: Path(f"/proc/{hung.process.pid}/comm").read_text() == "sleep\n")
    hung.ask()
    assert not hung.wait()
    assert hung.process.poll() is None


@pytest.mark.parametrize("odd", ["fifo", "link", "hard link"])
def test_a_file_that_is_none_of_the_process_is_not_touched(
    hang: Callable[..., Hung], tmp_path: Path, odd: str
) -> None:
    hung = hang()
    hung.dumps._py_spy = None
    path, other = hung.tail.directory / stack_signal.FILE_NAME, tmp_path / "other"
    other.write_text("kept")
    path.unlink()
    if odd == "fifo":
        os.mkfifo(path)
    elif odd == "link":
        path.symlink_to(other)
    else:
        path.hardlink_to(other)
    hung.ask()
    assert not hung.wait()
    assert other.read_text() == "kept" and hung.process.poll() is None


def test_a_fork_writes_into_its_own_spool(tmp_path: Path) -> None:
    program = """
import os, sys, time, runfold
run = runfold.init(project="p", id="r", config={})
parent = run._spool.directory
pid = os.fork()
if pid == 0:
    run.log({"a": 1})
    print(run._spool.directory, flush=True)
    time.sleep(60)
print(parent, pid, flush=True)
time.sleep(60)
"""
    said = {"RUNFOLD_DIR": str(tmp_path / "home"), "RUNFOLD_MODE": "offline"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment(said), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = sorted((process.stdout.readline().split() for _ in range(2)), key=len)
    (child,), (parent, pid) = lines
    try:
        assert child != parent
        os.kill(int(pid), signal.SIGRTMAX - 4)
        until((Path(child) / stack_signal.FILE_NAME).read_text)
        assert (Path(parent) / stack_signal.FILE_NAME).read_text() == ""
    finally:
        os.kill(int(pid), signal.SIGKILL)
        process.kill()
        process.communicate()


def test_py_spy_is_asked_where_there_is_no_signal(hang: Callable[..., Hung], tmp_path: Path) -> None:
    # A stand-in: tracing another process is forbidden in many places where tests run.
    program = tmp_path / "py-spy"
    program.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    program.chmod(0o700)
    hung = hang("", {"RUNFOLD_STACKS": "0"}, py_spy=str(program))
    hung.ask()
    assert hung.wait()
    ((_, _, facts),) = hung.heard.said
    assert facts["tool"] == "py-spy"
    assert json.loads(facts["text"]) == ["dump", "--nonblocking", "--pid", str(hung.process.pid)]


def test_a_py_spy_that_hangs_is_given_up(hang: Callable[..., Hung], tmp_path: Path) -> None:
    program = tmp_path / "py-spy"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    hung = hang("", {"RUNFOLD_STACKS": "0"}, py_spy=str(program))
    hung.ask()
    hung.dumps.step(time.monotonic())
    (dump,) = hung.dumps._dumps
    hung.dumps.step(time.monotonic() + 60)
    assert dump.child is not None and dump.child.poll() is not None
    assert hung.heard.said == [] and hung.dumps._dumps == []


def test_secrets_in_paths_are_redacted_and_texts_bounded(hang: Callable[..., Hung]) -> None:
    hung = hang(
        "exec(compile('def f():\\n print(1, flush=True); time.sleep(60)\\n', 'api_key=sk-' + 'a' * 40 + '.py', 'exec')); f()"
    )
    hung.ask()
    assert hung.wait()
    assert "sk-aaaa" not in hung.heard.said[0][2]["text"]


def test_a_signal_that_somebody_uses_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_signal, "_registered", None)
    signum = signal.SIGRTMAX - 4
    assert stack_signal.usable() in (signum, None)
    before = signal.signal(signum, lambda *_: None)
    try:
        assert stack_signal.usable() is None
    finally:
        signal.signal(signum, before if before is not None else signal.SIG_DFL)


def test_requests_travel() -> None:
    requests = [StackRequest("a", "b", (b"x" * 16, b"y" * 16)), StackRequest("c", "", ())]
    assert unpack_stack_requests(pack_stack_requests(requests)) == requests
    with pytest.raises(ProtocolError):
        unpack_stack_requests(b"\xc1")

"""States as the API tells them of real processes: each way to end, and no end while a process lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.processes import environment, until

TERMINAL = {"finished", "failed", "killed", "crashed", "preempted"}
PROGRAM = """
import ctypes, os, signal, sys, time, runfold
run = runfold.init(project="states", id=sys.argv[2])
for step in range(20): run.log({"a": step})
sys.stdin.readline()
exec(sys.argv[3])
"""
WAIT = "time.sleep(60)"
#: What the script does, the signal that it gets, and what is told of it.
ENDS: dict[str, tuple[str, int | None, str, str]] = {
    "end": ("pass", None, "finished", "exit code 0"),
    "raise": ("raise ValueError('no')", None, "failed", "ValueError: no"),
    "os-exit": ("os._exit(3)", None, "failed", "exit code 3"),
    "finish-then-exit": ("run.finish(); os._exit(7)", None, "finished", "exit code 0"),
    "fault": ("ctypes.string_at(0)", None, "crashed", "crashed with SIGSEGV"),
    "kill": (WAIT, signal.SIGKILL, "killed", "killed by SIGKILL"),
    "term": (WAIT, signal.SIGTERM, "killed", "killed by SIGTERM"),
    "marked": (f"run.mark_preempting(); {WAIT}", signal.SIGTERM, "preempted", "preempted (mark_preempting)"),
}


def begin(server: LocalServer, run_id: str, code: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "support.program", PROGRAM, run_id, code],
        env=environment({**server.env, **env}),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def read(server: LocalServer, run_id: str) -> Any:
    try:
        return runfold.Api(url=server.url).run(f"states/{run_id}")
    except Exception:  # not known yet, or the server is away
        return None


def state_of(server: LocalServer, run_id: str) -> str:
    run = read(server, run_id)
    return "" if run is None else run.state


def check_end(server: LocalServer, name: str, state: str, reason: str) -> bool:
    run = read(server, name)
    assert (run.state, reason in run.reason) == (state, True), (name, run.state, run.reason)
    [writer] = run.writers()
    assert (writer["state"], writer["last_step"]) == (state, 19)
    failure = run.first_failure
    assert (failure is None) == (state == "finished")
    if failure is not None:
        assert failure["state"] == state and failure["writer"] == writer["writer"]
        assert ("ValueError: no" in (failure["traceback"] or "")) == (name == "raise")
    return True


def test_each_end_reads_as_it_was(server: LocalServer) -> None:
    processes = {name: begin(server, name, code) for name, (code, *_) in ENDS.items()}
    try:
        for name, process in processes.items():
            _code, signum, state, reason = ENDS[name]
            until(lambda name=name: state_of(server, name) == "running", 60)
            go_on(process)
            if signum is not None:
                if name == "marked":
                    until(lambda name=name: state_of(server, name) == "preempting")
                process.send_signal(signum)
            process.wait(60)
            until(lambda name=name: state_of(server, name) in TERMINAL)
            # An end that is told at once may come before the last rows, and what is known of it after.
            until(lambda name=name, state=state, reason=reason: check_end(server, name, state, reason))
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[LocalServer]:
    """A server that loses its patience after seconds."""
    limits = {"RUNFOLD_UNREACHABLE_S": "4", "RUNFOLD_LOST_S": "8"}
    with LocalServer(tmp_path / "data", runfold_dir=tmp_path / "runfold", env=limits) as server:
        yield server


class Watch:
    """Every state that the API tells of a run, until stopped."""

    def __init__(self, server: LocalServer, run_id: str) -> None:
        self.seen: list[tuple[str, bool]] = []
        self._read: Callable[[], Any] = lambda: read(server, run_id)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(0.05):
            run = self._read()
            if run is not None and (not self.seen or self.seen[-1] != (run.state, run.unreachable)):
                self.seen.append((run.state, run.unreachable))

    def stop(self) -> list[tuple[str, bool]]:
        self._done.set()
        self._thread.join()
        return self.seen


@pytest.mark.timeout(180)
def test_nobody_ends_who_lives_whatever_is_away(strict: LocalServer) -> None:
    process = begin(strict, "alive", WAIT, RUNFOLD_HEARTBEAT_S="0.5")
    try:
        until(lambda: state_of(strict, "alive") == "running", 60)
        watch = Watch(strict, "alive")
        strict.stop("coordinator")  # frozen beyond the time at which contact is lost
        time.sleep(9)
        strict.cont("coordinator")
        time.sleep(1)
        strict.kill("redis")
        time.sleep(9)
        strict.restart("redis")
        time.sleep(3)
        strict.kill("coordinator")
        time.sleep(1)
        strict.restart("coordinator")
        process.send_signal(signal.SIGSTOP)  # a debugger, a suspended job
        time.sleep(9)
        process.send_signal(signal.SIGCONT)
        assert watch.stop() == [("running", False)]

        # A frozen agent says nothing: a flag first, then lost; and all of it is taken back.
        [agent] = strict.pids("agent")
        watch = Watch(strict, "alive")
        os.kill(agent, signal.SIGSTOP)
        until(lambda: state_of(strict, "alive") == "crashed")
        os.kill(agent, signal.SIGCONT)
        until(lambda: state_of(strict, "alive") == "running")
        until(lambda: not read(strict, "alive").unreachable)
        told = watch.stop()
        assert told[:4] == [("running", False), ("running", True), ("crashed", True), ("running", False)]
        go_on(process)
        process.kill()
        until(lambda: state_of(strict, "alive") == "killed")
        assert read(strict, "alive").reason == "killed by SIGKILL, sender unknown"
    finally:
        process.kill()
        process.communicate()

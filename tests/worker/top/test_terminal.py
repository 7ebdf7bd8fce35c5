"""`runfold top` on a real server: in a terminal of 80x24 as ssh gives one, once, and as JSON."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from runfold.api import Api, RunNotFoundError
from runfold_coordinator.testing import LocalServer
from support.processes import environment, until
from worker.top.documents import writer

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("top")]

#: Two ranks that step until a file appears.
PROGRAM = """
import os, pathlib, sys, time, runfold
rank = int(sys.argv[1])
run = runfold.init(project="top", id=sys.argv[3], settings=runfold.Settings(
    mode="shared", x_label="rank-%d [bold]" % rank, x_primary=rank == 0))
step = 0
while not pathlib.Path(sys.argv[2]).exists():
    run.log({"loss": 1.0}, step=step)
    print("rank", rank, "says", step, flush=True)
    step += 1
    time.sleep(0.02)
run.finish()
"""
_ESCAPES = re.compile(rb"\x1b(\[[0-9;?<>=]*[ -/]*[@-~]|\][^\x07]*(\x07|\x1b\\)|[()][0-9A-B]|[=>78cM])")


class Terminal:
    """A program in a terminal of its own. `text` is all that it has drawn, without escapes."""

    def __init__(
        self, command: list[str], env: Mapping[str, str], *, columns: int = 80, lines: int = 24
    ) -> None:
        self.drawn = b""
        self._terminal, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=inner, stdout=inner, stderr=inner, env=dict(env), start_new_session=True
        )
        os.close(inner)

    @property
    def text(self) -> str:
        return _ESCAPES.sub(b" ", self.drawn).decode(errors="replace")

    def see(self, *words: str, timeout_s: float = 40.0) -> None:
        """Wait until all words have been drawn since the last call."""
        deadline = time.monotonic() + timeout_s
        while not all(word in self.text for word in words):
            assert time.monotonic() < deadline, f"{words} not drawn:\n{self.text[-4000:]}"
            self._read(0.1)
        self.drawn = b""

    def press(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def end(self, timeout_s: float = 20.0) -> int:
        """Return its status, once it has ended."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            self._read(0.1)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._terminal)

    def _read(self, seconds: float) -> None:
        if select.select([self._terminal], [], [], seconds)[0]:
            try:
                self.drawn += os.read(self._terminal, 65536)
            except OSError:  # the other end was closed
                time.sleep(seconds)


def command(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runfold", "top", *arguments],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as started:
        yield started


@contextlib.contextmanager
def going_on(server: LocalServer, run_id: str, folder: Path, **env: str) -> Iterator[str]:
    """Run two ranks; give the run's path when the server knows both."""
    ended = folder / "end"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(ended), run_id],
            env=environment({**server.env, "RANK": str(rank), **env}),
            stdout=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    try:
        api = Api(url=server.url)
        until(lambda: _count(api, run_id) == 2, 40)
        api.close()
        yield f"local/top/{run_id}"
    finally:
        ended.touch()
        for rank in ranks:
            rank.wait(30)


def _count(api: Api, run_id: str) -> int:
    try:
        return len(api.run(f"top/{run_id}").live()["writers"])
    except RunNotFoundError:
        return 0


@pytest.fixture(scope="module")
def job(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with going_on(server, "live", tmp_path_factory.mktemp("job")) as path:
        yield path


def in_terminal(server: LocalServer, *arguments: str, **env: str) -> Terminal:
    own = {"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""} | env
    return Terminal([sys.executable, "-m", "runfold", "top", *arguments], environment({**server.env, **own}))


def test_in_a_terminal_of_80_by_24(server: LocalServer, job: str) -> None:
    terminal = in_terminal(server, job)
    try:
        terminal.see("local/top/live", "RANK", "STATE", "LOG AGE", "running", "1-2 of 2")
        terminal.see("step ", timeout_s=20)  # goes on by itself
        terminal.press("/rank:1\r")
        terminal.see("1-1 of 1 (2 without filter)")
        terminal.press("\x1b")
        terminal.see("1-2 of 2")
        terminal.press("q")
        assert terminal.end() == 0
    finally:
        terminal.close()


def test_without_colours(server: LocalServer, job: str) -> None:
    terminal = in_terminal(server, job, NO_COLOR="1")
    try:
        deadline = time.monotonic() + 40
        while "1-2 of 2" not in terminal.text and time.monotonic() < deadline:
            terminal._read(0.1)
        codes = {
            code for found in re.findall(rb"\x1b\[([0-9;]*)m", terminal.drawn) for code in found.split(b";")
        }
        assert codes and not codes & {b"31", b"32", b"33", b"41"}
        terminal.press("q")
        assert terminal.end() == 0
    finally:
        terminal.close()


def test_the_list_opens_a_run(server: LocalServer, job: str) -> None:
    terminal = in_terminal(server)
    try:
        terminal.see("1 run goes on", "live")
        terminal.press("\r")
        terminal.see("RANK", "1-2 of 2")
        terminal.press("\x03")
        terminal.press("q")
        terminal.end()
    finally:
        terminal.close()


def test_a_frozen_server_is_said(server: LocalServer, job: str) -> None:
    terminal = in_terminal(server, job, "--timeout", "1")
    try:
        terminal.see("1-2 of 2")
        server.stop("coordinator")
        terminal.see("old)")
        server.cont("coordinator")
        terminal.see("running")
        terminal.press("q")
        assert terminal.end() == 0
    finally:
        server.cont("coordinator")
        terminal.close()


def test_the_console_and_a_stop(server: LocalServer, tmp_path: Path) -> None:
    with going_on(server, "stopped", tmp_path, RUNFOLD_CONSOLE="auto") as path:
        terminal = in_terminal(server, path)
        try:
            terminal.see("1-2 of 2")
            terminal.press("c")
            terminal.see("rank 0 on", "rank 0 says")
            terminal.press("\x1b")
            terminal.see("RANK", "1-2 of 2")
            terminal.press("x")
            terminal.see("local/top/stopped", "SIGKILL after 30 s")
            terminal.press("y")
            terminal.see("asked 2 processes to stop")
            terminal.see("killed")
            terminal.press("q")
            assert terminal.end() == 0
        finally:
            terminal.close()


def test_once_prints_a_table_and_ends(server: LocalServer, job: str) -> None:
    done = command(server.env, job, "--once", "--sort", "rank")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert lines[0].startswith("local/top/live  running")
    assert [line.split()[:2] for line in lines[-2:]] == [["0", "running"], ["1", "running"]]
    assert "[bold]" in lines[-1]
    assert "live" in command(server.env, "--once").stdout


def test_json_is_the_live_document(server: LocalServer, job: str) -> None:
    found = json.loads(command(server.env, job, "--once", "--json").stdout)
    assert [each["rank"] for each in found["writers"]] == [0, 1]
    assert set(writer(0)) == set(found["writers"][0]), "what tests of the view take for an answer"
    assert found["writers"][0]["step_s"] == pytest.approx(0.02, abs=0.2)
    assert json.loads(command(server.env, "--once", "--json").stdout)["runs"][0]["id"] == "live"


def test_json_goes_on_until_it_is_ended(server: LocalServer, job: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "runfold", "top", job, "--json", "--interval", "0.2"],
        env=environment(server.env),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    steps = [json.loads(process.stdout.readline())["run"]["last_step"] for _ in range(3)]
    process.send_signal(signal.SIGINT)
    process.wait(20)
    process.stdout.close()
    assert steps == sorted(steps) and process.returncode == 130


def test_wrong_words_are_told(server: LocalServer, job: str) -> None:
    missing = command(server.env, "top/nosuch", "--once")
    assert missing.returncode == 1 and "no run" in missing.stderr
    unknown = command(server.env, job, "--once", "--sort", "colour")
    assert unknown.returncode == 2 and "step_lag" in unknown.stderr.replace("│", "").replace("\n", "")

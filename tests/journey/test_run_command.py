"""`runfold run -- CMD` beside the bare command: status, signals, terminal and streams are the same."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runfold.parent.note import KEPT_S, list_notes, read_note
from support.processes import environment, until

RUN = [sys.executable, "-m", "runfold", "run"]
#: Says when it is ready, and each signal that comes; ends by itself after a while.
LISTENER = """
import os, signal, sys, time
def say(signum, _):
    sys.stdout.write(f"got {signum}\\n")
    sys.stdout.flush()
for signum in (1, 2, 3, 10, 12, 15, 18, 28):
    signal.signal(signum, say)
sys.stdout.write(f"ready {os.getpid()}\\n")
sys.stdout.flush()
until = time.monotonic() + 60
while time.monotonic() < until and not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment({"RUNFOLD_DIR": str(tmp_path / "home")})


class Listener:
    """LISTENER under `runfold run`."""

    def __init__(self, tmp_path: Path, env: dict[str, str], **options: Any) -> None:
        self.end_file = tmp_path / "end"
        self.process = subprocess.Popen(
            [*RUN, "--", sys.executable, "-c", LISTENER, str(self.end_file)],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        self.pid = int(self.line().split()[1])

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> list[str]:
        """Let it end; return the lines that were not read."""
        self.end_file.touch()
        assert self.process.stdout is not None
        lines = self.process.stdout.read().splitlines()
        self.process.stdout.close()
        assert self.process.wait(60) == 0
        return lines


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "sys.exit(3)",
        "raise ValueError",
        "os._exit(255)",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.kill(os.getpid(), signal.SIGUSR1)",
        "os.abort()",
        "ctypes.string_at(0)",
    ],
)
def test_it_ends_as_its_command_ends(tmp_path: Path, env: dict[str, str], end: str) -> None:
    code = f"import ctypes, os, resource, signal, sys, time\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n{end}"
    bare, under = (
        subprocess.run([*prefix, sys.executable, "-c", code], env=env, cwd=tmp_path, check=False, stderr=-3)
        for prefix in ([], [*RUN, "--"])
    )
    assert under.returncode == bare.returncode
    [path] = list_notes(tmp_path / "home")
    note = read_note(path)
    expected = bare.returncode << 8 if bare.returncode >= 0 else -bare.returncode
    assert note.status is not None
    assert note.status & ~0x80 == expected
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["no-such-command"], 127, "not found"),
        ([""], 127, "'': not found"),
        (["/etc/passwd"], 126, "can't be run"),
        ([], 2, ""),
    ],
)
def test_a_command_that_cannot_run_gives_what_a_shell_gives(
    env: dict[str, str], command: list[str], status: int, said: str
) -> None:
    done = subprocess.run([*RUN, "--", *command], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_that_does_not_say_what_runs_it_is_the_shells(tmp_path: Path, env: dict[str, str]) -> None:
    script = tmp_path / "train"
    script.write_text("# no interpreter is named here\nexit $1\n")
    script.chmod(0o755)
    for name in (str(script), "./train"):
        assert subprocess.run([*RUN, "--", name, "5"], env=env, cwd=tmp_path, check=False).returncode == 5


@pytest.mark.parametrize("given", [{}, {"LC_CTYPE": "C"}])
def test_the_environment_is_the_commands(tmp_path: Path, given: dict[str, str]) -> None:
    # Without a locale, Python sets one for itself.
    environ = {"PATH": os.environ["PATH"], "RUNFOLD_DIR": str(tmp_path), "MINE": "1", **given}
    done = subprocess.run(
        [*RUN, "--", "/usr/bin/env"], env=environ, capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.splitlines()) == sorted(f"{name}={value}" for name, value in environ.items())


def test_streams_arguments_directory_and_descriptors_are_the_commands(
    tmp_path: Path, env: dict[str, str]
) -> None:
    code = (
        "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), sys.stdin.read(), os.getpgrp()]))"
    )
    reads, writes = os.pipe()
    os.set_inheritable(writes, True)
    done = subprocess.run(
        [*RUN, sys.executable, "-c", f"{code}; os.write({writes}, b'x')", "--lr", "0.1", "--help", "--"],
        env=env,
        cwd=tmp_path,
        input="in",
        capture_output=True,
        text=True,
        check=True,
        pass_fds=[writes],
    )
    os.close(writes)
    assert json.loads(done.stdout) == [["--lr", "0.1", "--help", "--"], str(tmp_path), "in", os.getpgrp()]
    assert os.read(reads, 9) == b"x"
    os.close(reads)


def test_signals_are_passed_on_once_and_their_sender_is_noted(tmp_path: Path, env: dict[str, str]) -> None:
    listener = Listener(tmp_path, env)
    for signum in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH):
        listener.process.send_signal(signum)
        assert listener.line() == f"got {int(signum)}"
    assert listener.end() == []
    [note] = [read_note(path) for path in list_notes(tmp_path / "home")]
    assert note.pid == listener.pid
    assert [signal.signum for signal in note.signals] == [10, 15, 1]
    assert {(one.sender_pid, one.sender_uid) for one in note.signals} == {(os.getpid(), os.getuid())}
    assert note.parent_pid == listener.process.pid


def test_what_was_ignored_stays_ignored(tmp_path: Path, env: dict[str, str]) -> None:
    code = "import signal; print(signal.getsignal(1) is signal.SIG_IGN)"
    done = subprocess.run(
        ["/usr/bin/nohup", *RUN, "--", sys.executable, "-c", code],
        env=env, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "True\n"


def test_ctrl_c_comes_once_and_the_terminal_is_the_commands(tmp_path: Path, env: dict[str, str]) -> None:
    end_file = tmp_path / "end"
    code = LISTENER.replace("import os,", "import os; assert os.isatty(0) and os.isatty(1)\nimport os,")
    pid, terminal = pty.fork()
    if not pid:
        os.execve(sys.executable, [*RUN, "--", sys.executable, "-c", code, str(end_file)], env)
    said = b""

    def read_until(word: bytes) -> None:
        nonlocal said
        deadline = time.monotonic() + 60
        while word not in said:
            assert time.monotonic() < deadline, said
            if select.select([terminal], [], [], 0.1)[0]:
                said += os.read(terminal, 4096)

    read_until(b"ready")
    os.write(terminal, b"\x03")
    read_until(b"got 2")
    os.write(terminal, b"\x1c")
    read_until(b"got 3")
    time.sleep(0.3)
    end_file.touch()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    while select.select([terminal], [], [], 0.1)[0]:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # EIO: its last user is gone
            break
    os.close(terminal)
    assert said.count(b"got 2") == said.count(b"got 3") == 1
    [note] = [read_note(path) for path in list_notes(tmp_path / "home")]
    assert [(one.signum, one.sender_pid) for one in note.signals] == [(2, None), (3, None)]


def test_ctrl_z_stops_both_and_fg_lets_both_go_on(tmp_path: Path, env: dict[str, str]) -> None:
    listener = Listener(tmp_path, env, process_group=0)

    def state(pid: int) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    os.killpg(listener.process.pid, signal.SIGTSTP)
    until(lambda: state(listener.pid) == state(listener.process.pid) == "T")
    os.killpg(listener.process.pid, signal.SIGCONT)
    until(lambda: "T" not in (state(listener.pid), state(listener.process.pid)))
    listener.end()


def test_a_home_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "home").write_text("in the way")
    done = subprocess.run([*RUN, "--", "sh", "-c", "exit 4"], env=env, check=False)
    assert done.returncode == 4


def test_a_home_that_hangs_is_not_waited_for(env: dict[str, str]) -> None:
    program = (
        "import threading\n"
        "from runfold.parent import command\n"
        "command.write_note = lambda *_: threading.Event().wait()\n"
        "command.PATIENCE_S = 0.1\n"
        "command.run_and_end(['sh', '-c', '(kill -TERM $PPID) & exec sleep 20'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=env, timeout=60, check=False)
    assert done.returncode == -signal.SIGTERM


def test_old_notes_go(tmp_path: Path, env: dict[str, str]) -> None:
    subprocess.run([*RUN, "--", "true"], env=env, check=True)
    [old] = list_notes(tmp_path / "home")
    os.utime(old, (time.time() - KEPT_S - 10,) * 2)
    subprocess.run([*RUN, "--", "true"], env=env, check=True)
    [kept] = list_notes(tmp_path / "home")
    assert kept != old

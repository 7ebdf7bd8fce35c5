"""However a process ends, its spool says how, and its exit status is what it would have been without us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from runfold.protocol.records import RecordKind
from support.spooled import Spooled, read_spools

#: The end of each program, and the status of its process.
ENDS: dict[str, tuple[str, int]] = {
    "normal": ("pass", 0),
    "sys.exit": ("sys.exit(5)", 5),
    "sys.exit with text": ("sys.exit('bye')", 1),
    "sys.exit without code": ("sys.exit()", 0),
    "bare SystemExit": ("raise SystemExit(6)", 6),
    "bare SystemExit 0": ("raise SystemExit(0)", 0),
    "bare SystemExit with text": ("raise SystemExit('bye')", 1),
    "exit": ("exit(4)", 4),
    "exit before init was imported": ("early_exit(8)", 8),
    "argparse": ("argparse.ArgumentParser().parse_args(['--bad'])", 2),
    "code above a byte": ("sys.exit(257)", 1),
    "exception": ("raise ValueError('x')", 1),
    "exception that a hook shows": ("sys.excepthook = lambda *_: None; raise ValueError('x')", 1),
    "caught exit": ("try: sys.exit(3)\nexcept SystemExit: pass", 0),
    "caught exit, then a bare one": ("try: sys.exit(3)\nexcept SystemExit: pass\nraise SystemExit(7)", 7),
    "exception in a thread": ("t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", 0),
    "exit in a block": ("with run: sys.exit(3)", 3),
    "exit 0 in a block": ("with run: raise SystemExit(0)", 0),
    "finished before": ("run.finish(exit_code=2); sys.exit(9)", 9),
}
#: What the EXIT record says where it is not the status of the process.
RECORDED = {"finished before": 2}

START = """
import argparse, ctypes, os, signal, sys, threading, time
from sys import exit as early_exit
import runfold
run = runfold.init(project="p")
run.log({"a": 1})
run.log({"b": 2}, commit=False)
"""


def program(tmp_path: Path, end: str, *, nested: bool = False) -> Path:
    body = textwrap.indent(end, "    ")
    code = f"{START}\ndef main():\n{body}\nmain()\n" if nested else f"{START}\n{end}\n"
    path = tmp_path / "train.py"
    path.write_text(code)
    return path


def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("RUNFOLD_", "WANDB_"))}
    own = {
        "RUNFOLD_DIR": str(tmp_path / "home"),
        "RUNFOLD_MODE": "offline",
        "RUNFOLD_SILENT": "1",
        "RUNFOLD_CONSOLE": "off",
        # No agent stays behind to look for a server that never comes.
        "RUNFOLD_AGENT_PATIENCE_S": "1",
    }
    return {**kept, **own}


def ran(tmp_path: Path, *arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode


def only(tmp_path: Path) -> Spooled:
    (spooled,) = read_spools(tmp_path / "home")
    return spooled


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("nested", [False, True])
def test_the_end_is_recorded_and_the_status_stays(name: str, nested: bool, tmp_path: Path) -> None:
    end, status = ENDS[name]
    assert ran(tmp_path, str(program(tmp_path, end, nested=nested))) == status
    spooled = only(tmp_path)
    assert spooled.exit is not None
    assert spooled.exit.code == RECORDED.get(name, status)
    assert spooled.is_closed
    assert spooled.values == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(6)", "sys.exit(5)", "raise ValueError"])
def test_the_same_as_a_module(end: str, tmp_path: Path) -> None:
    program(tmp_path, end, nested=True)
    status = ran(tmp_path, "-m", "train")
    found = only(tmp_path).exit
    assert found is not None
    assert found.code == status


def test_an_exception_is_recorded_with_its_traceback(tmp_path: Path) -> None:
    ran(tmp_path, str(program(tmp_path, "raise KeyError('password=hunter22')", nested=True)))
    found = only(tmp_path).exit
    assert found is not None
    assert (found.how, found.exception) == ("exception", "KeyError")
    assert found.traceback is not None
    assert "in main" in found.traceback
    assert "hunter22" not in found.traceback


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_is_recorded_and_kills_as_before(name: str, tmp_path: Path) -> None:
    number = getattr(signal, name)
    end = f"os.kill(os.getpid(), {int(number)}); time.sleep(30)"
    assert ran(tmp_path, str(program(tmp_path, end))) == -number
    spooled = only(tmp_path)
    assert [(said.signum, said.name) for said in spooled.payloads(RecordKind.SIGNAL)] == [(number, name)]
    assert len(spooled.rows) == 2


def test_a_signal_kills_a_process_that_is_stuck_in_c(tmp_path: Path) -> None:
    end = """
libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(128)
libc.pthread_mutex_lock(mutex)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
libc.pthread_mutex_lock(mutex)
"""
    assert ran(tmp_path, str(program(tmp_path, end))) == -signal.SIGTERM
    (said,) = only(tmp_path).payloads(RecordKind.SIGNAL)
    assert said.signum == signal.SIGTERM


def test_handlers_of_the_script_are_called_and_kept(tmp_path: Path) -> None:
    start = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(21))\n"
    path = program(tmp_path, "os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)")
    path.write_text(start + path.read_text())
    assert ran(tmp_path, str(path)) == 21
    spooled = only(tmp_path)
    assert len(spooled.payloads(RecordKind.SIGNAL)) == 1
    assert spooled.exit is not None
    assert spooled.exit.code == 21


def test_a_handler_put_in_our_place_later_is_left_alone(tmp_path: Path) -> None:
    end = """
signal.signal(signal.SIGTERM, lambda *_: None)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(2)
sys.exit(22)
"""
    assert ran(tmp_path, str(program(tmp_path, end))) == 22


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    start = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    path = program(tmp_path, "os.kill(os.getpid(), signal.SIGHUP)")
    path.write_text(start + path.read_text())
    assert ran(tmp_path, str(path)) == 0


def test_after_finish_the_process_is_as_it_was(tmp_path: Path) -> None:
    end = """
run.finish()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert signal.set_wakeup_fd(-1) == -1
"""
    assert ran(tmp_path, str(program(tmp_path, end))) == 0


def test_a_signal_in_the_middle_of_logging_loses_nothing(tmp_path: Path) -> None:
    end = """
count = 0
def tick(*_):
    run.log({"tick": 1})
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for number in range(30000):
    run.log({"n": number, "x": 0.5} if number % 5 else {"n": number, "t": "text"})
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    assert ran(tmp_path, str(program(tmp_path, end))) == 0
    spooled = only(tmp_path)
    numbers = [row["n"] for row in spooled.values if "n" in row]
    assert numbers == list(range(30000))
    assert sum("tick" in row for row in spooled.values) > 10
    assert spooled.steps == sorted(spooled.steps)
    assert spooled.gaps == []


def test_an_interrupt_in_the_middle_of_logging_leaves_a_whole_spool(tmp_path: Path) -> None:
    end = """
signal.setitimer(signal.ITIMER_REAL, 0.2)
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
caught = 0
number = 0
try:
    while True:
        run.log({"n": number, "x": 0.5})
        number += 1
except KeyboardInterrupt:
    pass
for _ in range(10):
    run.log({"after": 1})
"""
    assert ran(tmp_path, str(program(tmp_path, end))) == 0
    spooled = only(tmp_path)
    assert spooled.gaps == []
    assert sum("after" in row for row in spooled.values) == 10
    numbers = [row["n"] for row in spooled.values if "n" in row]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("end", ["os._exit(3)", "os.abort()", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_process_that_vanishes_says_nothing_and_keeps_its_rows(end: str, tmp_path: Path) -> None:
    assert ran(tmp_path, str(program(tmp_path, end))) != 0
    spooled = only(tmp_path)
    assert spooled.exit is None
    assert not spooled.is_closed
    assert len(spooled.rows) == 2


#: A script that puts its own handler in our place, and calls what was there before it, as Lightning does.
COMPOSED = """
before = signal.getsignal(signal.SIGTERM)
def graceful(signum, frame):
    if callable(before):
        before(signum, frame)
    sys.exit(23)
signal.signal(signal.SIGTERM, graceful)
"""


@pytest.mark.parametrize(
    ("then", "told"),
    [("", 1), ('other = runfold.init(project="p", reinit="create_new")', 1), ("run.finish()", 0)],
)
def test_a_handler_that_calls_the_one_before_it_ends_the_process_its_own_way(
    then: str, told: int, tmp_path: Path
) -> None:
    end = f"{COMPOSED}\n{then}\nos.kill(os.getpid(), signal.SIGTERM); time.sleep(30)"
    assert ran(tmp_path, str(program(tmp_path, end))) == 23
    first = next(spooled for spooled in read_spools(tmp_path / "home") if spooled.values)
    assert len(first.payloads(RecordKind.SIGNAL)) == told


def test_asyncio_still_cancels_its_main_task_at_an_interrupt(tmp_path: Path) -> None:
    end = """
import asyncio
async def work():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        run.log({"cancelled": 1})
        raise
asyncio.run(work())
"""
    assert ran(tmp_path, str(program(tmp_path, end))) == -signal.SIGINT
    spooled = only(tmp_path)
    assert {"cancelled": 1} in spooled.values
    assert [said.name for said in spooled.payloads(RecordKind.SIGNAL)] == ["SIGINT"]


@pytest.mark.parametrize("end", ["pass", "sys.exit(5)", "raise SystemExit(6)", "early_exit(7)", "1 / 0"])
def test_no_process_is_made_to_learn_the_status(end: str, tmp_path: Path) -> None:
    """A training process of a hundred gigabytes must not be forked because it ends."""
    watch = "os.register_at_fork(before=lambda: open('forked', 'w').close())"
    assert ran(tmp_path, str(program(tmp_path, f"{watch}\n{end}"))) >= 0
    assert not (tmp_path / "forked").exists()
    assert only(tmp_path).exit is not None


#: Nobody answers there, which makes each run wait at its end.
DEAD_SERVER = """
settings = {"base_url": "http://127.0.0.1:9", "finish_timeout": 2.0, "quiet": True}
runs = [runfold.init(project="p", mode="online", reinit="create_new", settings=settings) for _ in range(11)]
"""


def test_many_runs_wait_together_at_exit(tmp_path: Path) -> None:
    began_s = time.monotonic()
    assert ran(tmp_path, str(program(tmp_path, DEAD_SERVER))) == 0
    assert 2.0 <= time.monotonic() - began_s < 22.0, "one after the other they would take longer"
    # An agent may have come meanwhile, and have a spool of its own.
    ours = [spooled for spooled in read_spools(tmp_path / "home") if spooled.identity.role == "process"]
    assert [spooled.is_closed for spooled in ours] == [True] * 12


def test_an_interrupt_of_the_wait_at_exit_changes_no_status(tmp_path: Path) -> None:
    end = f"""{DEAD_SERVER.replace("2.0", "60.0")}
def waits():
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame is not None and frame.f_code.co_name != "wait_for_ack":
        frame = frame.f_back
    return frame is not None
def interrupt():
    while not waits():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
signal.signal(signal.SIGINT, lambda *_: (signal.signal(signal.SIGINT, signal.default_int_handler)))
threading.Thread(target=interrupt, daemon=True).start()
raise SystemExit(4)
"""
    began_s = time.monotonic()
    assert ran(tmp_path, str(program(tmp_path, end))) == 4
    assert time.monotonic() - began_s < 45.0
    exits = [spooled.exit for spooled in read_spools(tmp_path / "home")]
    assert [exit.code for exit in exits if exit is not None] == [4] * 12

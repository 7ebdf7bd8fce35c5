"""The output of a program is what it is without capture: bytes, order, status, wherever it goes."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from support.console_stage import Stage, peak_bytes, tee_of

#: Everything that reaches descriptors 1 and 2, by every way there is.
TALK = """
import ctypes, subprocess
libc = ctypes.CDLL(None)
print("one", flush=True)
os.write(1, b"two raw\\n")
libc.puts(b"three of C"); libc.fflush(None)
subprocess.run(["echo", "four of a child"])
pid = os.fork()
if pid == 0:
    os.write(1, b"five of a fork\\n"); os._exit(0)
os.waitpid(pid, 0)
print("six", file=sys.stderr, flush=True)
print("seven without end", end="")
"""
TALK_LINES = ["one", "two raw", "three of C", "four of a child", "five of a fork"]

ENDS = {
    "return": ("", 0),
    "exit 3": ("sys.exit(3)", 3),
    "exception": ("raise ValueError('no')", 1),
    "os._exit": ("sys.stdout.flush(); os._exit(4)", 4),
    "SIGTERM": ("sys.stdout.flush(); os.kill(os.getpid(), 15); time.sleep(9)", -signal.SIGTERM),
    "SIGKILL": ("sys.stdout.flush(); os.kill(os.getpid(), 9)", -signal.SIGKILL),
    "SIGSEGV": ("import faulthandler; faulthandler.enable(); sys.stdout.flush(); ctypes.string_at(0)", -11),
    "abort": ("sys.stdout.flush(); os.write(2, b'glibc: free(): invalid\\n'); libc.abort()", -signal.SIGABRT),
}


@pytest.mark.parametrize("end", ENDS)
def test_output_and_status_are_the_same_and_the_lines_are_kept(stage: Stage, end: str) -> None:
    code, status = ENDS[end]
    plain = stage.run(TALK + code, "off")
    captured = stage.run(TALK + code)
    assert captured[0] == plain[0]
    assert without_threads(captured[1]) == without_threads(plain[1])
    assert captured[2] == plain[2] == status
    kept = stage.lines("stdout")
    assert kept == [*TALK_LINES, "seven without end"]
    assert stage.lines("stderr")[0] == "six"
    if end in ("SIGSEGV", "abort", "exception"):
        words = {"SIGSEGV": "Fatal Python error", "abort": "glibc: free()", "exception": "ValueError: no"}
        assert any(line.startswith(words[end]) for line in stage.lines("stderr"))


def without_threads(errors: bytes) -> bytes:
    """What faulthandler says of other threads, ours among them, does not count."""
    parts = re.sub(rb"0x[0-9a-f]+", b"", errors).split(b"\n\n")
    return b"\n\n".join(part for part in parts if not part.startswith(b"Thread "))


@pytest.mark.parametrize("console", ["off", "auto"])
def test_two_streams_to_one_place_keep_their_order(stage: Stage, console: str) -> None:
    program = "for n in range(2000): os.write(1 + n % 2, b'%d\\n' % n)"
    output, _, status = stage.run(program, console, stderr=subprocess.STDOUT)
    assert output == b"".join(b"%d\n" % n for n in range(2000))
    assert status == 0
    if console == "auto":
        assert stage.lines("output") == [str(n) for n in range(2000)]


@pytest.mark.parametrize("console", ["off", "auto"])
def test_a_file_holds_everything_when_the_process_has_ended(stage: Stage, console: str) -> None:
    log = stage.folder / "log"
    with log.open("wb") as file:
        file.write(b"before\n")
        file.flush()
        block = "for n in range(200_000): print('line', n)\nprint('err', file=sys.stderr)"
        stage.run(block, console, stdout=file, stderr=subprocess.STDOUT)
    data = log.read_bytes()
    assert data.startswith(b"before\nline 0\n" if console == "off" else b"before\n")
    assert sorted(data.splitlines()) == sorted([b"before", b"err", *(b"line %d" % n for n in range(200_000))])


def test_a_terminal_stays_one(stage: Stage) -> None:
    program = (
        "print(sys.stdout.isatty(), sys.stderr.isatty(), os.get_terminal_size(), os.get_terminal_size(2))\n"
        "sys.stdout.write('10%\\r20%\\r\\x1b[32mdone\\x1b[0m\\n')\n"
        "print('error', file=sys.stderr)\n"
        "print(input('prompt> ') if False else 'end')\n"
    )
    plain, captured = stage.in_terminal(program, "off"), stage.in_terminal(program)
    assert captured == plain
    assert b"True True os.terminal_size(columns=91, lines=24)" in plain[0]
    assert b"\r\nerror\r\n" in plain[0], "the terminal makes its line ends once"
    kept = stage.lines("output")
    assert kept[1:] == ["\x1b[32mdone\x1b[0m", "error", "end"]


def test_a_window_that_changes_is_seen(stage: Stage) -> None:
    program = (
        "import fcntl, struct, termios\n"
        "fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('4H', 50, 200, 0, 0))\n"
        "end = time.monotonic() + 20\n"
        "while os.get_terminal_size(1).columns != 200 and time.monotonic() < end: time.sleep(0.05)\n"
        "print(os.get_terminal_size(1))\n"
    )
    seen, status = stage.in_terminal(program)
    assert b"columns=200, lines=50" in seen
    assert status == 0


@pytest.mark.parametrize("closing", ["os.close(1)", "os.close(2)", "os.close(1); os.close(2)"])
def test_closed_descriptors_stay_closed(stage: Stage, closing: str) -> None:
    program = closing + "\nimport runfold\nrun = runfold.init(project='p', mode='offline')\n"
    program += "import os\nfor fd in (1, 2):\n    try: os.write(fd, b'open\\n')\n    except OSError: pass\n"
    program += "run.finish()\nopened = os.open('/dev/null', os.O_RDONLY); raise SystemExit(10 + opened)"
    plain = stage.run("import os\n" + program, "off", init=False)
    assert stage.run("import os\n" + program, init=False) == plain
    assert plain[2] == 11 if "1)" in closing else 12


def test_a_reader_that_goes_away_is_met_by_the_program_itself(stage: Stage) -> None:
    program = "while True: print('y' * 100, flush=True)"
    for console in ("off", "auto"):
        process = stage.start(program, console)
        assert process.stdout is not None
        process.stdout.read(5000)
        process.stdout.close()
        assert process.wait(30) in (1, 120)
        assert process.stderr is not None
        assert b"BrokenPipeError" in process.stderr.read()


def test_exec_keeps_the_output(stage: Stage) -> None:
    program = "print('before', flush=True)\nos.execv('/bin/echo', ['echo', 'after'])"
    assert stage.run(program) == stage.run(program, "off") == (b"before\nafter\n", b"", 0)
    assert stage.lines() == ["before", "after"]


def test_what_comes_after_finish_is_not_the_runs(stage: Stage) -> None:
    program = "print('run')\nrun.finish()\nprint('after')\nos.system('echo child')"
    assert stage.run(program) == stage.run(program, "off")
    assert stage.lines() == ["run"]


def test_runs_in_turn_have_their_own_lines(stage: Stage) -> None:
    program = (
        "print('first')\nsecond = runfold.init(project='p', mode='offline', reinit='create_new')\n"
        "print('first still')\nrun.finish()\nprint('second')\nsecond.finish()\nprint('none')\n"
        "with runfold.init(project='p', mode='offline'): print('third')\n"
    )
    assert stage.run(program)[0] == b"first\nfirst still\nsecond\nnone\nthird\n"
    writers = {spooled.writer_id: spooled.identity.run_id for spooled in stage.spools()}
    consoles = stage.consoles()
    assert [writers[each.identity.console_of or ""] for each in consoles] == [
        each.identity.run_id for each in consoles
    ]
    said = [[*record.lines] for each in consoles for _, record in each.records if hasattr(record, "lines")]
    assert said == [["first", "first still"], ["second"], ["third"]]


def test_ten_megabytes_a_second_pass_and_memory_is_bounded(stage: Stage) -> None:
    program = (
        "line = b'x' * 99 + b'\\n'\nblock = line * 1000\n"
        "for _ in range(500): os.write(1, block)\nsys.stdin.read()"
    )
    process = stage.start(program, stdin=subprocess.PIPE)
    assert process.stdout is not None
    digest, left = hashlib.sha256(), 50_000_000
    while left:
        data = process.stdout.read(min(left, 1 << 20))
        digest.update(data)
        left -= len(data)
    peak = peak_bytes(tee_of(process))
    process.communicate(b"")
    assert digest.digest() == hashlib.sha256((b"x" * 99 + b"\n") * 500_000).digest()
    assert peak < 28_000_000, "the burst that may be kept, and a block that is passed on"
    records = [
        record for each in stage.consoles() for _, record in each.records if hasattr(record, "dropped")
    ]
    assert sum(len(record.lines) + record.dropped for record in records if not record.open_count) == 500_000


def test_a_slow_reader_gets_everything_in_order(stage: Stage) -> None:
    program = "for n in range(300_000): print(n)\nrun.finish()\nprint('last')"
    process = stage.start(program)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), True)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)  # it has printed all, and waits as it would without us: the pipe is full
    output, _ = process.communicate(timeout=30)
    assert output == b"".join(b"%d\n" % n for n in range(300_000)) + b"last\n"


def test_a_child_that_outlives_the_process_still_prints(stage: Stage) -> None:
    program = "import subprocess\nsubprocess.Popen(['/bin/sh', '-c', 'sleep 2; echo late'])\nprint('run')"
    output, _, status = stage.run(program)
    assert (output, status) == (b"run\nlate\n", 0)
    assert stage.lines() == ["run"]


def test_tees_have_no_fault_to_tell_of(stage: Stage) -> None:
    stage.run(TALK)
    stage.lines()
    logs = list(Path(stage.folder).glob("spool/*/console.log"))
    assert [log.read_text() for log in logs] == [""]

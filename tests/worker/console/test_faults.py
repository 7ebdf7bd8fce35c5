"""What becomes of the output when the tee, or what it needs, is taken away."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from runfold.console.pipes import state_of
from support.console_stage import Stage, tee_of
from support.processes import until

#: Prints numbered lines until it is told to end; then some more.
COUNT = """
import threading
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set())).start()
n = 0
while not over.is_set():
    print(n, flush=True); n += 1; time.sleep(0.002)
for _ in range(1000):
    print(n, flush=True); n += 1
print("the end of", n)
"""


def check_count(output: bytes) -> None:
    lines = output.split()
    count = int(lines[-1])
    assert count > 1000
    assert lines[: -len(b"the end of".split()) - 1] == [b"%d" % n for n in range(count)]


def read_until(process: subprocess.Popen[bytes], number: int) -> bytes:
    assert process.stdout is not None
    seen = b""
    while b"\n%d\n" % number not in seen:
        data = process.stdout.read1(65536)  # type: ignore[attr-defined]  # a BufferedReader
        assert data, "it goes on printing"
        seen += data
    return seen


def test_a_tee_that_is_killed_takes_no_line_along(stage: Stage) -> None:
    process = stage.start(COUNT, stdin=subprocess.PIPE)
    seen = read_until(process, 100)
    tee = tee_of(process)
    until(lambda: stage_has_lines(stage))
    os.kill(tee, signal.SIGKILL)
    seen += read_until(process, 600)
    rest, errors = process.communicate(b"", timeout=30)
    assert process.returncode == 0
    check_count(seen + rest)
    assert b"Traceback" not in errors


@pytest.mark.parametrize("times", [1, 60])
def test_a_tee_that_is_stopped_goes_on_or_is_done_without(stage: Stage, times: int) -> None:
    process = stage.start(COUNT, stdin=subprocess.PIPE)
    seen = read_until(process, 100)
    tee = tee_of(process)
    os.kill(tee, signal.SIGSTOP)
    stopping = threading.Thread(target=stop_again, args=(tee, times))
    stopping.start()
    seen += read_until(process, 1600)
    stopping.join()
    os.kill(tee, signal.SIGCONT)
    rest, _ = process.communicate(b"", timeout=30)
    assert process.returncode == 0
    check_count(seen + rest)
    until(lambda: state_of(tee) in ("", "Z"))


def stop_again(pid: int, times: int) -> None:
    for _ in range(times):
        time.sleep(0.05)
        os.kill(pid, signal.SIGSTOP)


def stage_has_lines(stage: Stage) -> bool:
    return any(spooled.identity.role == "console" for spooled in stage.spools())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_stops_a_job_does_not_stop_its_tee(stage: Stage, signum: signal.Signals) -> None:
    process = stage.start(COUNT, stdin=subprocess.PIPE)
    seen = read_until(process, 50)
    os.kill(tee_of(process), signum)
    seen += read_until(process, 200)
    rest, errors = process.communicate(b"", timeout=30)
    check_count(seen + rest)
    assert b"capture ended" not in errors
    assert stage.lines("stdout")[-1].startswith("the end of")


def test_a_process_killed_from_outside_leaves_its_last_lines(stage: Stage) -> None:
    process = stage.start(
        "print('partial', end='', flush=True)\nprint(' and whole', flush=True)\nsys.stdin.read()",
        stdin=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    assert process.wait(20) == -signal.SIGKILL
    assert stage.lines() == ["partial and whole"]


def test_a_tee_that_never_starts_leaves_the_output_alone(stage: Stage) -> None:
    program = (
        "import sys\nsys.executable = '/nowhere/python'\nimport time, runfold\n"
        "run = runfold.init(project='p', mode='offline')\n"
        "for n in range(2000): print(n, flush=True)\ntime.sleep(0.5)\nprint('end')\n"
    )
    stage.is_silent = False
    output, errors, status = stage.run(program, init=False)
    # What is printed in the very moment in which the originals are put back may change places.
    assert sorted(output) == sorted(b"".join(b"%d\n" % n for n in range(2000)) + b"end\n")
    assert output.endswith(b"end\n")
    assert status == 0
    assert b"console capture ended" in errors or b"did not start" in errors


def test_without_children_what_python_prints_is_kept(stage: Stage) -> None:
    program = (
        "import sys\nsys.executable = ''\nimport os, runfold\n"
        "run = runfold.init(project='p', mode='offline')\n"
        "print('python')\nos.write(1, b'not seen\\n')\nprint('error', file=sys.stderr)\n"
    )
    stage.is_silent = False
    output, errors, status = stage.run(program, init=False)
    assert sorted(output.split(b"\n")) == [b"", b"not seen", b"python"]
    assert (errors.count(b"no process for the console"), status) == (1, 0)
    assert stage.lines("stdout") == ["python"]
    assert "error" in stage.lines("stderr")


def test_a_process_whose_tee_was_killed_can_still_fork_and_exec(stage: Stage) -> None:
    program = (
        "import subprocess\nprint('up', flush=True)\nsys.stdin.readline()\n"
        "child = subprocess.Popen(['/bin/sh', '-c', 'sleep 0.3; echo child'])\nchild.wait()\nprint('down')\n"
    )
    process = stage.start(program, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    tee = tee_of(process)
    os.kill(tee, signal.SIGKILL)
    original = os.fstat(process.stdout.fileno()).st_ino
    until(lambda: Path(f"/proc/{process.pid}/fd/1").stat().st_ino == original)
    rest, _ = process.communicate(b"\n", timeout=20)
    assert rest == b"child\ndown\n"


def test_a_process_that_closes_what_it_does_not_know_prints_on(stage: Stage) -> None:
    program = (
        "import os, time, runfold\n"
        "settings = runfold.Settings(x_record_signals=False)\n"  # its thread closes what it had opened
        "run = runfold.init(project='p', mode='offline', settings=settings)\n"
        "print('before', flush=True)\nos.closerange(3, 1000)\n"
        "mine = [os.open(os.devnull, os.O_WRONLY) for _ in range(30)]\n"
        "print('after', flush=True)\ntime.sleep(1.5)\n"
        "print([os.write(fd, b'x') for fd in mine].count(1), flush=True)\nos._exit(0)\n"
    )
    output, errors, status = stage.run(program, init=False)
    assert output == b"before\nafter\n30\n", errors
    assert status == 0
    assert stage.lines("stdout")[:2] == ["before", "after"]


def test_a_full_disk_keeps_no_line_and_harms_none(stage: Stage) -> None:
    program = (
        "import os, pathlib, shutil\nprint('x', flush=True)\n"
        # The spool's folder is a file by now: no console's spool can be made in it.
        "root = pathlib.Path(os.environ['RUNFOLD_DIR'], 'spool', 'offline')\n"
        "root.rename(root.with_name('moved')); root.write_text('')\n"
        "for n in range(1000): print(n)\n"
    )
    output, _, status = stage.run(INIT_QUIET + program, init=False)
    assert output == b"x\n" + b"".join(b"%d\n" % n for n in range(1000))
    assert status == 0


INIT_QUIET = "import runfold\nrun = runfold.init(project='p', mode='offline')\n"


@pytest.mark.parametrize("console", ["wrap", "wrap_raw", "wrap_emu"])
def test_wrap_keeps_what_python_prints(stage: Stage, console: str) -> None:
    program = (
        "print('out')\nprint('err', file=sys.stderr)\nprint('10%\\r100%', end='')\n"
        "pid = os.fork()\nif pid == 0:\n    print('child', flush=True); os._exit(0)\n"
        "os.waitpid(pid, 0)\nrun.finish()\nprint('after')\n"
    )
    plain = stage.run(program, "off")
    assert stage.run(program, console) == plain
    assert stage.lines("stdout") == ["out", "100%"]
    assert stage.lines("stderr") == ["err"]


def test_notebooks_and_captured_tests_are_wrapped(stage: Stage) -> None:
    for program in (
        "import sys; sys.ps1 = '>>> '\n",
        "import io, sys; sys.stdout = io.StringIO()\n",
    ):
        source = program + "import runfold\nrun = runfold.init(project='p', mode='offline')\nprint('kept')\n"
        stage.run(source, init=False)
    assert stage.lines("stdout") == ["kept", "kept"]
    assert len(stage.consoles()) == 2


def test_off_starts_nothing_and_keeps_nothing(stage: Stage) -> None:
    for how in ("off", "auto"):
        said = "" if how == "off" else ", settings=runfold.Settings(console='off')"
        stage.run(
            f"import runfold\nrun = runfold.init(project='p', mode='offline'{said})\nprint(1)",
            how,
            init=False,
        )
    stage.run("import runfold\nrun = runfold.init(project='p', mode='disabled')\nprint(1)", init=False)
    assert [spooled.identity.role for spooled in stage.spools()] == ["process", "process"]
    assert not list(stage.folder.glob("**/console.log"))


def test_secrets_are_not_kept_however_they_are_written(stage: Stage) -> None:
    secret = "sk-A1b2C3d4E5f6G7h8I9j0K1l2"
    program = f"for part in ('key: ', {secret[:9]!r}, {secret[9:]!r}, '\\n'): os.write(1, part.encode()); time.sleep(0.7)"
    output, _, _ = stage.run(program)
    assert output.decode() == f"key: {secret}\n"
    assert stage.lines() == ["key: [redacted]"]
    for spool in stage.folder.glob("spool/*/*/*"):
        assert secret[:9].encode() not in spool.read_bytes()


def test_a_childs_own_run_has_its_own_capture(stage: Stage) -> None:
    program = (
        "print('parent', flush=True)\npid = os.fork()\nif pid == 0:\n"
        "    child = runfold.init(project='p', mode='offline', reinit='create_new')\n"
        "    print('child', flush=True); child.finish(); os._exit(0)\n"
        "os.waitpid(pid, 0)\nprint('parent again')\n"
    )
    assert stage.run(program)[0] == b"parent\nchild\nparent again\n"
    stage.lines()
    said = [
        [line for _, record in each.records if hasattr(record, "lines") for line in record.lines]
        for each in stage.consoles()
    ]
    assert sorted(said) == [["child"], ["parent", "child", "parent again"]]

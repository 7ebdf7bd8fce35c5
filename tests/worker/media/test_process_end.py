"""Media of processes that end in every way, and the folder in which they wait."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from runfold.protocol.records import RecordKind
from runfold.uploads.outbox import Outbox
from support.processes import environment, until
from support.spooled import Spooled, read_spools

PROGRAM = """
import os, sys, threading, numpy as np, runfold
from runfold.media.encoder import encoder
run = runfold.init(project="p")
run.log({"first": runfold.Html("first")})
how = sys.argv[1]
if how == "killed":
    run._await_media(30)
    began = threading.Event()
    encoder.put(lambda: (began.set(), threading.Event().wait(60)))
    began.wait()
run.log({"x": 1, "img": runfold.Image(np.zeros((200, 200, 3), np.uint8)), "list": [runfold.Html("l")]})
print("said", flush=True)
if how == "exception":
    raise ValueError("diverged")
if how == "killed":
    os.kill(os.getpid(), 9)
"""


def run_program(tmp_path: Path, how: str) -> subprocess.CompletedProcess[str]:
    env = environment({"RUNFOLD_DIR": str(tmp_path), "RUNFOLD_MODE": "offline"})
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, how], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def spooled(tmp_path: Path) -> Spooled:
    (found,) = read_spools(tmp_path)
    return found


def cells(found: Spooled, step: int) -> dict[tuple[str, ...], object]:
    merged: dict[tuple[str, ...], object] = {}
    for _, row_step, _, values in found.rows:
        if row_step == step:
            merged |= values
    return merged


def job_names(tmp_path: Path) -> list[str]:
    jobs = Outbox(tmp_path / "spool" / "offline").waiting()
    for job in jobs:
        assert Path(job.source).is_file()
    return sorted(job.name.split("_")[0] for job in jobs)


def test_a_script_that_just_ends_loses_nothing(tmp_path: Path) -> None:
    done = run_program(tmp_path, "ends")
    assert done.returncode == 0, done.stderr
    assert job_names(tmp_path) == ["media/html/first", "media/html/list", "media/images/img"]
    assert cells(spooled(tmp_path), 1)["img", "width"] == 200
    assert list((tmp_path / "media").iterdir()) == []


def test_a_script_that_fails_loses_nothing(tmp_path: Path) -> None:
    done = run_program(tmp_path, "exception")
    assert done.returncode == 1
    assert "diverged" in done.stderr
    assert len(job_names(tmp_path)) == 3
    assert ("img", "path") in cells(spooled(tmp_path), 1)


def test_of_a_killed_process_rows_tell_what_they_lack(tmp_path: Path) -> None:
    done = run_program(tmp_path, "killed")
    assert done.returncode == -signal.SIGKILL
    found = spooled(tmp_path)
    assert ("first", "path") in cells(found, 0)
    lost = cells(found, 1)
    assert lost["x",] == 1
    assert lost["img", "_type"] == "image-file"
    assert ("img", "path") not in lost
    assert lost["list", "_type"] == "html"
    assert len(found.payloads(RecordKind.FILE)) == 1
    assert job_names(tmp_path) == ["media/html/first"]
    # Its folder stays, and goes with the next process.
    assert len(list((tmp_path / "media").iterdir())) == 1
    until(lambda: run_program(tmp_path, "ends").returncode == 0)
    assert list((tmp_path / "media").iterdir()) == []


CHILDREN = """
import multiprocessing, numpy as np, runfold

def work(number):
    run.log({f"child{number}": runfold.Image(np.full((8, 8), number, np.uint8))})

run = runfold.init(project="p")
run.log({"parent": runfold.Image(np.zeros((300, 300), np.uint8))})
children = [multiprocessing.get_context("fork").Process(target=work, args=(number,)) for number in range(2)]
for child in children:
    child.start()
for child in children:
    child.join()
print([child.exitcode for child in children])
"""


def test_children_say_their_media_and_leave_nothing_behind(tmp_path: Path) -> None:
    env = environment({"RUNFOLD_DIR": str(tmp_path), "RUNFOLD_MODE": "offline"})
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[0, 0]"), done.stderr
    assert job_names(tmp_path) == ["media/images/child0", "media/images/child1", "media/images/parent"]
    assert list((tmp_path / "media").iterdir()) == []

"""A run in children: forked, spawned, in pools. Each that says something is a writer of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runfold.protocol.records import RecordKind
from support.spooled import Spooled, read_spools

START = """
import multiprocessing as mp, os, sys, threading, time
import runfold

def child(run, end):
    run.log({"child": 1.0})
    run.summary["from_child"] = 5
    run.config.update({"child_config": 1})
    run.define_metric("c", summary="max")
    runfold.log({"c": 3})
    if end == "exit":
        sys.exit(4)
    if end == "error":
        raise ValueError("boom")

def many_runs():
    from multiprocessing.util import _finalizer_registry
    before = len(_finalizer_registry)
    for _ in range(10):
        runfold.init(project="p").finish()
    sys.exit(len(_finalizer_registry) - before)

def join_shared(rank):
    os.environ["RANK"] = str(rank)
    run = runfold.init(project="p", id="both", mode="shared")
    run.log({"rank": rank})

def double(number):
    return 2 * number
"""


def ran(tmp_path: Path, code: str) -> list[Spooled]:
    """Run a program; return the spools that it left, the maker's first."""
    path = tmp_path / "train.py"
    path.write_text(
        f"{START}\nif __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in code.splitlines())
    )
    env = {"RUNFOLD_DIR": str(tmp_path / "home"), "RUNFOLD_MODE": "offline", "PATH": "/usr/bin:/bin"}
    env["RUNFOLD_CONSOLE"] = "off"  # spools of processes are counted here
    done = subprocess.run(
        [sys.executable, str(path)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return read_spools(tmp_path / "home")


MADE = 'run = runfold.init(project="p", id="r"); run.log({"a": 1})\n'


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    ("end", "code", "exception"), [("", 0, None), ("exit", 4, None), ("error", 1, "ValueError")]
)
def test_a_child_writes_into_the_same_run(
    method: str, end: str, code: int, exception: str | None, tmp_path: Path
) -> None:
    parent, child = ran(
        tmp_path,
        MADE
        + f"process = mp.get_context({method!r}).Process(target=child, args=(run, {end!r}))\n"
        + f"process.start(); process.join(); assert process.exitcode == {code}\n"
        + 'run.log({"after": 1})',
    )
    assert parent.identity.run_path == child.identity.run_path == "local/p/r"
    assert parent.values == [{"a": 1}, {"after": 1}]
    assert child.values == [{"child": 1.0}, {"c": 3}]
    assert (parent.steps, child.steps) == ([0, 3], [1, 2])
    assert (child.identity.rank, child.identity.update_finish_state) == (None, False)
    assert child.identity.label != parent.identity.label
    assert (parent.identity.forked_from, child.identity.forked_from) == (None, parent.writer_id)
    assert child.exit is not None
    assert (child.exit.code, child.exit.exception) == (code, exception)
    assert [
        child.payloads(kind) != [] for kind in (RecordKind.SUMMARY, RecordKind.CONFIG, RecordKind.METRIC)
    ] == [True] * 3
    assert parent.exit is not None
    assert parent.exit.code == 0


@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("raise SystemExit(3)", 3), ("1 / 0", 1)])
def test_a_plain_fork(end: str, code: int, tmp_path: Path) -> None:
    parent, child = ran(
        tmp_path,
        MADE
        + f"pid = os.fork()\nif pid == 0:\n    run.log({{'child': 1}})\n    {end}\n"
        + f"assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == {code}",
    )
    assert child.exit is not None
    assert child.exit.code == code
    assert parent.exit is not None
    assert parent.exit.code == 0


def test_children_that_say_nothing_leave_no_trace(tmp_path: Path) -> None:
    (parent,) = ran(
        tmp_path,
        MADE
        + "with mp.get_context('fork').Pool(2) as pool: assert pool.map(double, range(4)) == [0, 2, 4, 6]",
    )
    assert parent.values == [{"a": 1}]


def test_terminated_children_die_as_without_us(tmp_path: Path) -> None:
    (parent,) = ran(
        tmp_path,
        MADE
        + "process = mp.get_context('fork').Process(target=time.sleep, args=(60,)); process.start()\n"
        + "time.sleep(0.2); process.terminate(); process.join(); assert process.exitcode == -15",
    )
    assert parent.payloads(RecordKind.SIGNAL) == []


def test_forks_while_other_threads_log(tmp_path: Path) -> None:
    parent, *children = ran(
        tmp_path,
        MADE
        + """
stop = []
def spam():
    while not stop: run.log({"t": 1.0})
threads = [threading.Thread(target=spam) for _ in range(3)]
for thread in threads: thread.start()
for number in range(40):
    pid = os.fork()
    if pid == 0:
        run.log({"c": number})
        os._exit(0)
    os.waitpid(pid, 0)
stop.append(1)
for thread in threads: thread.join()
""",
    )
    assert sorted(child.values[0]["c"] for child in children) == list(range(40))
    assert parent.steps == sorted(set(parent.steps))
    assert parent.gaps == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_that_join_a_shared_run_by_its_id(method: str, tmp_path: Path) -> None:
    found = ran(
        tmp_path,
        f"""
context = mp.get_context({method!r})
processes = [context.Process(target=join_shared, args=(rank,)) for rank in range(3)]
for process in processes: process.start()
for process in processes: process.join()
assert [process.exitcode for process in processes] == [0, 0, 0]
""",
    )
    assert sorted((one.identity.run_id, one.identity.mode, one.identity.rank or 0) for one in found) == [
        ("both", "shared", rank) for rank in range(3)
    ]
    assert all(one.exit is not None and one.exit.code == 0 for one in found)


def test_a_family_of_processes_counts_together(tmp_path: Path) -> None:
    found = ran(
        tmp_path,
        MADE
        + """
def work():
    for number in range(50):
        run.log({"w": number} if number % 2 else {"t": "text"})
processes = [mp.get_context("fork").Process(target=work) for _ in range(4)]
for process in processes: process.start()
for process in processes: process.join()
assert run.step == 201, run.step
run.log({"after": 1})
""",
    )
    assert sorted(step for one in found for step in one.steps) == list(range(202))


def test_a_child_is_not_held_up_by_what_the_parents_threads_did(tmp_path: Path) -> None:
    """The background fold of the parent may hold its lock at the moment of the fork."""
    parent, child = ran(
        tmp_path,
        MADE
        + "run.summary.get('a'); run._live._lock.acquire(); run._is_over._cond.acquire()\n"
        + "pid = os.fork()\n"
        + "if pid == 0:\n    import signal; signal.alarm(20)\n    assert run.summary.get('a') == 1\n"
        + "    run.log({'child': 2}); assert run.summary.get('child') == 2; run.finish(); os._exit(0)\n"
        + "assert os.waitpid(pid, 0)[1] == 0\n"
        + "run._live._lock.release(); run._is_over._cond.release()",
    )
    assert parent.values == [{"a": 1}]
    assert child.values == [{"child": 2}]


def test_runs_that_ended_in_a_child_are_let_go_of(tmp_path: Path) -> None:
    code = (
        "process = mp.get_context('spawn').Process(target=many_runs)\n"
        "process.start(); process.join(); assert process.exitcode == 0, process.exitcode"
    )
    assert len(ran(tmp_path, code)) == 10


def test_a_pool_takes_the_run_or_its_log(tmp_path: Path) -> None:
    """Each task carries a pickle: all of a process go to one writer."""
    found = ran(
        tmp_path,
        """
runs = [runfold.init(project="p", id=name, reinit="create_new") for name in "rs"]
for method in ("fork", "spawn"):
    with mp.get_context(method).Pool(1) as pool:
        for i in range(4):
            for run in runs:
                pool.apply(run.log, ({method: i},))
for run in runs:
    assert run.summary["fork"] == run.summary["spawn"] == 3, run.summary
    assert (run.step, [row["_step"] for row in run.history]) == (8, list(range(8)))
""",
    )
    assert [len(one.steps) for one in found] == [0, 0, 4, 4, 4, 4]

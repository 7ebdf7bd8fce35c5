"""Process watch and lock, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from runfold.node import lock
from runfold.node.processes import ProcessWatch, is_alive, start_of
from support.processes import until

pytestmark = pytest.mark.journey


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_process_is_known_by_its_start_and_not_by_its_pid_alone(sleeper: subprocess.Popen):
    start = start_of(sleeper.pid)
    assert is_alive(sleeper.pid, start)
    assert is_alive(sleeper.pid, None)
    assert is_alive(sleeper.pid, psutil.Process(sleeper.pid).create_time())
    assert not is_alive(sleeper.pid, (start or 0) + 1000)


def test_a_zombie_is_dead(sleeper: subprocess.Popen):
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert start_of(sleeper.pid) is None


@pytest.mark.parametrize("use_pidfd", [True, False])
def test_a_death_ends_the_wait_within_a_moment(sleeper: subprocess.Popen, use_pidfd: bool):
    watch = ProcessWatch(use_pidfd=use_pidfd)
    assert watch.watch("key", sleeper.pid, start_of(sleeper.pid))
    assert watch.wait(0.0) == []
    sleeper.send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert watch.wait(90.0) == ["key"]
    assert time.monotonic() - began < 45.0
    assert watch.wait(0.0) == []
    watch.close()


def test_a_process_that_is_gone_already_is_not_watched(sleeper: subprocess.Popen):
    watch = ProcessWatch()
    start = start_of(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert not watch.watch("key", sleeper.pid, start)
    watch.close()


def test_forgotten_processes_give_their_descriptors_back(sleeper: subprocess.Popen):
    watch = ProcessWatch()
    before = len(os.listdir("/proc/self/fd"))
    for key in range(10):
        watch.watch(key, sleeper.pid, None)
    for key in range(5):
        watch.forget(key)
    watch.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_lock_a_directory_and_looking_does_not_disturb(tmp_path: Path):
    first, second = lock.AgentLock(tmp_path), lock.AgentLock(tmp_path)
    assert not lock.is_held(tmp_path)
    assert first.acquire() and first.acquire()
    assert lock.is_held(tmp_path)
    assert not second.acquire(patience_s=0.0)
    first.release()
    first.release()
    assert second.acquire(patience_s=0.0)
    second.release()


def test_the_lock_goes_with_its_process_though_a_child_lives_on(tmp_path: Path):
    program = (
        "import os, sys, time; from pathlib import Path; from runfold.node import lock\n"
        f"mine = lock.AgentLock(Path({str(tmp_path)!r})); assert mine.acquire()\n"
        "if os.fork() == 0: time.sleep(60)\n"
        "print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    assert lock.is_held(tmp_path)
    process.kill()
    process.wait()
    until(lambda: not lock.is_held(tmp_path))  # the child lets go as soon as it runs
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()

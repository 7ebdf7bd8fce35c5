"""Start the agent of a target directory without waiting for it: a process of its own, or a thread.

In: settings. Out: nothing; whether an agent works is read from its lock. Many processes may call at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

from . import lock
from .settings import OFFLINE_TARGET, NodeSettings, public_url

logger = logging.getLogger(__name__)

LOG_NAME = "agent.log"
#: Says to which server a target directory belongs, without secrets.
NOTE_NAME = "target.json"
#: Argument of an agent that ends the one before it, whose credentials are refused.
TAKE_OVER = "--take-over"
#: A process starts at most one agent a target in this time: one that can't start must not be a fork bomb.
RESPAWN_S = 1.0
#: The shell ends at once and leaves the agent to init: no zombie in the trainer, no child in its tree.
_DETACH = '"$@" &'

_started_s: dict[tuple[int, Path], float] = {}
_threads: dict[tuple[int, Path], AgentThread] = {}


def ensure_agent(settings: NodeSettings, *, is_last: bool = False) -> bool:
    """Make sure that an agent works for the settings' target, or is starting; never wait, never raise.

    Costs microseconds when one works, so that a Run may call it now and then.

    Args:
        is_last: This process will not call again: one that it started a moment ago may have died.

    Returns:
        Whether one works already, or none is wanted.
    """
    if settings.mode == "none" or settings.target == OFFLINE_TARGET:
        return True
    try:
        if settings.mode == "thread":
            _ensure_thread(settings)
            return True
        if not lock.is_held(settings.target_dir):
            if _may_start(settings) or is_last:
                _start(settings)
            return False
        if _could_do_better(settings) and _may_start(settings):
            _start(settings, TAKE_OVER)
    except Exception:  # training goes on, whatever keeps the agent from starting
        logger.warning("the node agent did not start", extra={"event": "agent_not_started"}, exc_info=True)
        return False
    return True


def make_target_dir(settings: NodeSettings) -> None:
    """Make the target directory, with a note for people on whose it is."""
    settings.target_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    note = settings.target_dir / NOTE_NAME
    if not note.exists():
        address = settings.url or settings.redis_url
        text = json.dumps({"url": public_url(address) if address else None})
        with contextlib.suppress(OSError):
            fd = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "w") as file:
                file.write(text)


def stop_thread(settings: NodeSettings, *, timeout_s: float) -> None:
    """End this process's agent thread for the target, if there is one, after it delivered what it could."""
    thread = _threads.pop((os.getpid(), settings.target_dir), None)
    if thread is not None:
        thread.stop(timeout_s)


class AgentThread:
    """An agent in a daemon thread. It waits its turn while another process's agent holds the lock."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runfold-agent", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Return True while the thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout_s: float) -> None:
        """Ask the thread to drain and end; wait at most `timeout_s`."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        from .agent import Agent

        mine = lock.AgentLock(self._settings.target_dir)
        while not mine.acquire(patience_s=0.0):
            if self._stop.wait(1.0):
                return
        try:
            Agent(self._settings, mine).run(should_stop=self._stop.is_set)
        except Exception:
            logger.exception("the agent thread ended", extra={"event": "agent_failed"})
        finally:
            mine.release()


def _ensure_thread(settings: NodeSettings) -> None:
    key = (os.getpid(), settings.target_dir)
    thread = _threads.get(key)
    if thread is None or not thread.is_alive():
        make_target_dir(settings)
        _threads[key] = AgentThread(settings)


def _may_start(settings: NodeSettings) -> bool:
    key = (os.getpid(), settings.target_dir)
    now = time.monotonic()
    if now - _started_s.get(key, -1e9) < RESPAWN_S:
        return False
    _started_s[key] = now
    return True


def _could_do_better(settings: NodeSettings) -> bool:
    """Return True if the agent that works here is refused by its server, with other credentials than ours."""
    note = lock.read_note(settings.target_dir).split()
    return len(note) == 4 and note[1:3] == ["process", "refused"] and note[3] != settings.fingerprint


def _start(settings: NodeSettings, *flags: str) -> None:
    make_target_dir(settings)
    if not sys.executable:  # an embedded interpreter has none
        _ensure_thread(settings)
        return
    try:
        _spawn(settings, *flags)
    except OSError as error:  # no children here: a limit, a sandbox
        logger.info(
            "no process for the node agent, a thread does its work",
            extra={"event": "agent_thread", "reason": str(error)},
        )
        _ensure_thread(settings)


def _spawn(settings: NodeSettings, *arguments: str) -> None:
    # -P: a redis.py or logging.py in the user's working directory is not the agent's.
    command = [
        sys.executable,
        "-P",
        "-m",
        "runfold.node",
        "--target-dir",
        str(settings.target_dir),
        *arguments,
    ]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(settings.target_dir / LOG_NAME, flags, 0o600)
    try:
        with contextlib.suppress(FileNotFoundError):
            _run_detached(["/bin/sh", "-c", _DETACH, "sh", *command], settings, log).wait()
            return
        child = _run_detached(command, settings, log)  # an image without a shell
        threading.Thread(target=child.wait, name="runfold-agent-reaper", daemon=True).start()
    finally:
        os.close(log)


def _run_detached(command: list[str], settings: NodeSettings, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        close_fds=True,
        start_new_session=True,
        cwd=settings.target_dir,
        env=_environment(settings),
    )


def _environment(settings: NodeSettings) -> dict[str, str]:
    env = {**os.environ, **settings.to_env()}
    env.pop("RUNFOLD_STATS", None)  # each run says for itself; this agent serves others too
    root = str(Path(__file__).resolve().parents[2])
    installed = {str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib")}
    if root not in installed:  # found by sys.path alone: the agent must find it too
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
    return env

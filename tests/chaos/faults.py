"""What each kind of fault does to the stage, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable

import redis

from chaos.schedule import Fault
from chaos.stage import Stage, Trainer, failpoints

#: Undoes a fault that lasts.
Undo = Callable[[], None]


def inject(stage: Stage, fault: Fault) -> Undo | None:
    """Do it; return how it ends, or None for a fault that is over at once."""
    return FAULTS[fault.kind](stage, fault)


def _restart_coordinator(stage: Stage) -> None:
    try:
        stage.server.restart("coordinator")
    except RuntimeError:
        # A server that has given its reserve up before does not start on a full disk; healing starts it.
        if not stage.schedule.needs_disks or "disk is full" not in stage.server.log_tail():
            raise


def _trainer(stage: Stage, fault: Fault) -> Trainer:
    alive = [trainer for trainer in stage.trainers if trainer.process.poll() is None]
    return (alive or stage.trainers)[fault.pick % len(alive or stage.trainers)]


def _kill_trainer(stage: Stage, fault: Fault) -> None:
    stage.kill_trainer(_trainer(stage, fault))


def _kill_agent(stage: Stage, fault: Fault) -> None:
    stage.server.kill("agent")


def _kill_coordinator(stage: Stage, fault: Fault) -> Undo:
    stage.server.kill("coordinator")
    return lambda: _restart_coordinator(stage)


def _kill_redis(stage: Stage, fault: Fault) -> Undo:
    pid = stage.redis.pid
    if pid:
        with contextlib.suppress(ProcessLookupError):  # killed a moment ago
            os.kill(pid, signal.SIGKILL)
    return stage.restart_redis


def _kill_coordinator_and_redis(stage: Stage, fault: Fault) -> Undo:
    stage.server.kill("coordinator")
    _kill_redis(stage, fault)

    def undo() -> None:
        stage.restart_redis()
        _restart_coordinator(stage)

    return undo


def _kill_agent_and_redis(stage: Stage, fault: Fault) -> Undo:
    stage.server.kill("agent")
    return _kill_redis(stage, fault)


def _flushall(stage: Stage, fault: Fault) -> None:
    with contextlib.suppress(redis.RedisError), stage.client() as client:
        client.flushall()


def _delete_stream(stage: Stage, fault: Fault) -> None:
    with contextlib.suppress(redis.RedisError), stage.client() as client:
        for key in client.keys("rf:*"):
            client.delete(key)


def _redis_full(stage: Stage, fault: Fault) -> Undo:
    def limit(size_bytes: int) -> None:
        with contextlib.suppress(redis.RedisError), stage.client() as client:
            client.config_set("maxmemory", size_bytes)

    limit(1_500_000)
    return lambda: limit(512 * 1024 * 1024)


def _freeze_trainer(stage: Stage, fault: Fault) -> Undo:
    process = _trainer(stage, fault).process
    if process.poll() is None:
        process.send_signal(signal.SIGSTOP)

    def undo() -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)

    return undo


def _freeze_agent(stage: Stage, fault: Fault) -> Undo:
    stage.server.stop("agent")
    return lambda: stage.server.cont("agent")


def _freeze_coordinator(stage: Stage, fault: Fault) -> Undo:
    stage.server.stop("coordinator")
    return lambda: stage.server.cont("coordinator")


def _freeze_redis(stage: Stage, fault: Fault) -> Undo:
    pid = stage.redis.pid
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)

    def undo() -> None:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    return undo


def _cut_agent(stage: Stage, fault: Fault) -> Undo:
    stage.agent_proxy.cut()
    return stage.agent_proxy.heal


def _cut_agent_replies(stage: Stage, fault: Fault) -> Undo:
    stage.agent_proxy.cut("replies")
    return stage.agent_proxy.heal


def _refuse_agent(stage: Stage, fault: Fault) -> Undo:
    stage.agent_proxy.refuse()
    return stage.agent_proxy.heal


def _cut_coordinator(stage: Stage, fault: Fault) -> Undo:
    stage.coordinator_proxy.cut()
    return stage.coordinator_proxy.heal


def _refuse_coordinator(stage: Stage, fault: Fault) -> Undo:
    stage.coordinator_proxy.refuse()
    return stage.coordinator_proxy.heal


def _failpoint_coordinator(stage: Stage, fault: Fault) -> Undo | None:
    """Restart the coordinator so that it kills itself at some hit of some step; then start it whole."""
    return _fail_at(stage, fault, ("ingest.", "cold."))


def _failpoint_uploads(stage: Stage, fault: Fault) -> Undo | None:
    """The same at a step of an upload or a commit."""
    return _fail_at(stage, fault, ("blobs.", "artifacts."))


def _fail_at(stage: Stage, fault: Fault, parts: tuple[str, ...]) -> Undo | None:
    names = [name for name in failpoints("coordinator") if name.startswith(parts)]
    if not names:
        return None
    stage.server.restart("coordinator", failpoint=f"{names[fault.pick % len(names)]}:{1 + fault.pick % 5}")
    time.sleep(0.3)

    def undo() -> None:
        _restart_coordinator(stage)

    return undo


def _failpoint_agent(stage: Stage, fault: Fault) -> Undo | None:
    """Put an agent in place that kills itself at some step; trainers start the next one."""
    names = failpoints("worker/runfold/node")
    if not names:
        return None
    stage.server.restart("agent", failpoint=f"{names[fault.pick % len(names)]}:{1 + fault.pick % 5}")
    return lambda: stage.server.restart("agent")


def _fill_spool_disk(stage: Stage, fault: Fault) -> Undo | None:
    disk = stage.spool_disk
    if disk is None:
        return None
    disk.fill()
    return disk.free


def _fill_database_disk(stage: Stage, fault: Fault) -> Undo | None:
    disk = stage.database_disk
    if disk is None:
        return None
    disk.fill()
    return disk.free


def _lock_database(stage: Stage, fault: Fault) -> Undo | None:
    """Hold the write lock of SQLite, as a backup or somebody's shell may."""
    path = stage.server.data_dir / "runfold.db"
    if not path.exists():
        return None  # another database
    other = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:  # it is being opened, or its disk is full
        other.close()
        return None

    def undo() -> None:
        with contextlib.suppress(sqlite3.Error):
            other.execute("ROLLBACK")
        other.close()

    return undo


FAULTS: dict[str, Callable[[Stage, Fault], Undo | None]] = {
    "kill_trainer": _kill_trainer,
    "kill_agent": _kill_agent,
    "kill_coordinator": _kill_coordinator,
    "kill_redis": _kill_redis,
    "kill_coordinator_and_redis": _kill_coordinator_and_redis,
    "kill_agent_and_redis": _kill_agent_and_redis,
    "flushall": _flushall,
    "delete_stream": _delete_stream,
    "redis_full": _redis_full,
    "freeze_trainer": _freeze_trainer,
    "freeze_agent": _freeze_agent,
    "freeze_coordinator": _freeze_coordinator,
    "freeze_redis": _freeze_redis,
    "cut_agent": _cut_agent,
    "cut_agent_replies": _cut_agent_replies,
    "refuse_agent": _refuse_agent,
    "cut_coordinator": _cut_coordinator,
    "refuse_coordinator": _refuse_coordinator,
    "failpoint_coordinator": _failpoint_coordinator,
    "failpoint_agent": _failpoint_agent,
    "failpoint_uploads": _failpoint_uploads,
    "lock_database": _lock_database,
    "fill_spool_disk": _fill_spool_disk,
    "fill_database_disk": _fill_database_disk,
}

"""The system under chaos: a server whose parts can be killed, proxies in front of Redis, trainers with oracles."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import redis

from chaos.disks import SmallDisk
from chaos.schedule import Schedule
from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.testing import LocalServer
from support.oracle import Oracle
from support.processes import start
from support.proxy import Proxy

SPOOL_DISK_BYTES = 48 * 1024 * 1024
DATABASE_DISK_BYTES = 96 * 1024 * 1024
SOURCES = Path(__file__).parents[2]
_FAILPOINT = re.compile(r'hit\(\s*"([a-z_.]+)"')


@dataclass(slots=True)
class Trainer:
    """One training process and what it really did."""

    writer: int
    run_id: str
    exit_code: int
    oracle: Oracle
    process: subprocess.Popen[str]
    killed: bool = False


class Stage:
    """Everything that runs during one schedule; a context manager that ends all of it."""

    def __init__(self, schedule: Schedule, folder: Path, *, db: str | None = None) -> None:
        self.schedule = schedule
        self.folder = folder
        self.trainers: list[Trainer] = []
        self.spool_disk: SmallDisk | None = None
        self.database_disk: SmallDisk | None = None
        self._db = db
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Stage:
        with contextlib.ExitStack() as stack:
            spool, data = self.folder / "runfold", self.folder / "data"
            if self.schedule.needs_disks:
                self.spool_disk = stack.enter_context(SmallDisk(spool, SPOOL_DISK_BYTES))
                self.database_disk = stack.enter_context(SmallDisk(data, DATABASE_DISK_BYTES))
            self.redis = EmbeddedRedis(
                self.folder, listen="port", persistent=self.schedule.redis_persistent, supervise=False
            ).start()
            stack.callback(self.redis.stop)
            parts = urlsplit(self.redis.url)
            host, port = parts.hostname or "", parts.port or 0
            self.agent_proxy = stack.enter_context(Proxy(host, port))
            self.coordinator_proxy = stack.enter_context(Proxy(host, port))
            self.server = LocalServer(
                data,
                redis=self.redis.url.replace(f":{port}/", f":{self.coordinator_proxy.port}/"),
                db=self._db,
                env={"RUNFOLD_BALLAST": str(8 * 1024 * 1024)},
                runfold_dir=spool,
                worker_redis_url=self.redis.url.replace(f":{port}/", f":{self.agent_proxy.port}/"),
            )
            stack.enter_context(self.server)
            stack.callback(self._keep_logs)
            stack.callback(self._end_trainers)
            self._exit = stack.pop_all()
        for number in range(self.schedule.trainers):
            self.start_trainer(number, self.schedule.exit_codes[number])
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def start_trainer(self, writer: int, exit_code: int) -> Trainer:
        """Start a trainer; a replacement for a killed one is a new writer with a number of its own."""
        plan = self.schedule
        run_id = f"seed{plan.seed}" if plan.shared else f"seed{plan.seed}-{writer}"
        oracle = Oracle(self.folder / f"oracle-{writer}")
        arguments = ["--run-id", run_id, "--writer", writer, "--rows", 10**9, "--seconds", plan.seconds]
        arguments += ["--pause-s", plan.pause_s, "--width", plan.width, "--oracle", oracle.path]
        arguments += ["--exit-code", exit_code, "--finish-timeout-s", "1"]
        arguments += ["--shared"] if plan.shared else ["--group", f"seed{plan.seed}"]
        arguments += ["--ragged"] if plan.ragged else []
        arguments += ["--ledger", self.ledger(writer)] if plan.uploads else []
        process = start("support.trainer", *arguments, env=self.server.env)
        trainer = Trainer(writer, run_id, exit_code, oracle, process)
        self.trainers.append(trainer)
        return trainer

    def ledger(self, writer: int) -> Path:
        """Where a writer notes what it uploads (support/uploading.py)."""
        return self.folder / f"ledger-{writer}"

    def kill_trainer(self, trainer: Trainer) -> None:
        """Kill -9, and start a replacement."""
        if trainer.process.poll() is not None:
            return
        trainer.process.kill()
        trainer.process.communicate()
        trainer.killed = True
        self.start_trainer(len(self.trainers), trainer.exit_code)

    def client(self) -> redis.Redis:
        """A direct connection to Redis, past the proxies."""
        return redis.Redis.from_url(self.redis.url, socket_timeout=2, socket_connect_timeout=2)

    def heal(self) -> None:
        """Undo every fault that lasts."""
        for part in ("agent", "coordinator"):
            self.server.cont(part)  # type: ignore[arg-type]
        for trainer in self.trainers:
            if trainer.process.poll() is None:
                trainer.process.send_signal(signal.SIGCONT)
        if self.redis.pid:
            os.kill(self.redis.pid, signal.SIGCONT)
        else:
            self.restart_redis()
        self.agent_proxy.heal()
        self.coordinator_proxy.heal()
        for disk in (self.spool_disk, self.database_disk):
            if disk is not None:
                disk.free()
        with contextlib.suppress(redis.RedisError), self.client() as client:
            client.config_set("maxmemory", 512 * 1024 * 1024)
        if not self.server.pids("coordinator"):
            self.server.restart("coordinator")

    def restart_redis(self) -> None:
        """Start Redis again at its old address."""
        self.redis.stop()
        self.redis.start()

    def _keep_logs(self) -> None:
        """Copy logs to where they outlive the small disks."""
        for path in [self.server.log_path, *self.server.runfold_dir.glob("spool/*/agent.log")]:
            with contextlib.suppress(OSError):
                shutil.copy(path, self.folder / f"kept-{path.name}")

    def _end_trainers(self) -> None:
        for trainer in self.trainers:
            if trainer.process.poll() is None:
                trainer.process.kill()
            if trainer.process.stdout is not None and not trainer.process.stdout.closed:
                trainer.process.communicate()


def failpoints(folder: str) -> list[str]:
    """Names of all failpoints in a source folder, so that a new one is hit without being listed."""
    texts = (path.read_text() for path in sorted((SOURCES / folder).rglob("*.py")))
    return sorted({name for text in texts for name in _FAILPOINT.findall(text)})

"""A node for tests of the agent: RUNFOLD_DIR with a registered server, a real Redis, trainers, agents."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from runfold.node import lock
from runfold.node.settings import NodeSettings
from runfold.node.start import ensure_agent
from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.testing import find_agents
from support.processes import start, until


class Stage:
    """One node; `close` ends everything on it."""

    def __init__(self, base: Path, *, listen: str = "socket") -> None:
        self.base = base
        self.redis = EmbeddedRedis(base / "data", persistent=False, supervise=False, listen=listen)
        self.redis.start()
        self.settings = NodeSettings(
            runfold_dir=base / "runfold", target="local", idle_exit_s=1.0, heartbeat_interval_s=0.5
        )
        self.settings.runfold_dir.mkdir()
        self.trainers: list[subprocess.Popen[str]] = []

    def register(self, redis_url: str | None = None) -> None:
        said = {"url": None, "redis_url": redis_url or self.redis.url, "pid": os.getpid(), "server_id": None}
        self.settings.registration.write_text(json.dumps(said))

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis.url)

    def train(self, rows: int, rate: float = 0.0, *flags: str) -> tuple[subprocess.Popen[str], bytes]:
        trainer = start("support.spooler", self.settings.spool_root, "local", rows, rate, *flags, env={})
        self.trainers.append(trainer)
        assert trainer.stdout is not None
        return trainer, bytes.fromhex(trainer.stdout.readline().strip())

    def agents(self) -> list[int]:
        return find_agents(self.settings.runfold_dir)

    def kill_agents(self) -> None:
        for pid in self.agents():
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, signal.SIGKILL)
        until(lambda: not lock.is_held(self.settings.target_dir))

    def ask(self, settings: NodeSettings | None = None) -> None:
        """Ask for an agent unless one is there, as a Run does now and then.

        Of two calls within RESPAWN_S the second starts nothing: ask again while you wait for what an agent does.
        """
        if not self.agents():
            ensure_agent(settings or self.settings)

    def respawn(self) -> None:
        """As a Run does it at rare moments, without its rate limit."""
        program = (
            "import os; from runfold.node.settings import NodeSettings; from runfold.node.start import ensure_agent\n"
            "ensure_agent(NodeSettings.from_env(os.environ))"
        )
        env = {**self.settings.to_env(), "PATH": os.environ["PATH"]}
        subprocess.run([sys.executable, "-c", program], env=env, check=True, timeout=30)

    def close(self) -> None:
        for trainer in self.trainers:
            trainer.kill()
            trainer.communicate()
        self.kill_agents()
        with self.client() as client, pytest.raises(redis.RedisError):
            client.shutdown(nosave=True)
            client.ping()
        self.redis.stop()

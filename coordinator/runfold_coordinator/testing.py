"""A whole server for tests: Redis, coordinator and node agents as real processes that can be killed apart.

with LocalServer() as server:
    subprocess.run([sys.executable, "train.py"], env={**os.environ, **server.env})
    server.kill("coordinator"); server.restart("coordinator")
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runfold_coordinator.embedded_redis import DEFAULT_MAX_MEMORY_BYTES, EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Mapping

#: "agent" stands for every node agent that works in `runfold_dir`.
Part = Literal["coordinator", "redis", "agent"]
START_TIMEOUT_S = 60.0


class LocalServer:
    """A coordinator with its Redis on this machine; a context manager. Not thread-safe.

    What a test kills stays dead until `restart(part)`, but for agents: a run that goes on calls for another
    one within seconds. Addresses stay the same over restarts. Leaving the context ends every part, and
    removes the folder unless it was given.
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        redis: str = "embedded",
        db: str | None = None,
        env: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        runfold_dir: Path | str | None = None,
        port: int = 0,
        redis_persistent: bool = False,
        redis_max_memory_bytes: int = DEFAULT_MAX_MEMORY_BYTES,
        worker_redis_url: str | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """Prepare; `start()` or `with` starts it.

        Args:
            data_dir: Where database and files go; None: a new folder, removed at the end.
            redis: "embedded" starts one as a part of its own, "own" leaves it to the coordinator (then
                "redis" is no part), anything else is the address of an external one.
            db: SQLAlchemy URL; None: SQLite in the data directory.
            env: Added to the coordinator's environment.
            arguments: Added to the coordinator's command line.
            runfold_dir: RUNFOLD_DIR of the trainers; None: a folder beside the data.
            redis_persistent: Keep an append-only file, so that `restart("redis")` finds its streams again.
            worker_redis_url: RUNFOLD_REDIS_URL for trainers (a proxy, an address that is not reachable).
        """
        self._given = data_dir is not None
        base = Path(data_dir) if data_dir is not None else Path(tempfile.mkdtemp(prefix="runfold-test-"))
        self.data_dir = base.resolve() if self._given else base.resolve() / "data"
        self._temporary = None if self._given else base
        self.runfold_dir = Path(runfold_dir).resolve() if runfold_dir else self.data_dir.parent / "runfold"
        self.url = ""
        self.redis_url = ""
        self._redis_choice = redis
        self._db = db
        self._extra_env = dict(env or {})
        self._arguments = arguments
        self._port = port
        self._redis_persistent = redis_persistent
        self._redis_max_memory_bytes = redis_max_memory_bytes
        self._worker_redis_url = worker_redis_url
        self._start_timeout_s = start_timeout_s
        self._redis: EmbeddedRedis | None = None
        self._coordinator: subprocess.Popen[bytes] | None = None
        self._agents: list[subprocess.Popen[bytes]] = []

    @property
    def env(self) -> dict[str, str]:
        """What a trainer's environment needs on top of ours to talk to this server and no other."""
        found = {"RUNFOLD_URL": self.url, "RUNFOLD_DIR": str(self.runfold_dir)}
        if self._worker_redis_url:
            found["RUNFOLD_REDIS_URL"] = self._worker_redis_url
        return found

    @property
    def log_path(self) -> Path:
        """The coordinator's output."""
        return self.data_dir / "coordinator.log"

    def start(self) -> LocalServer:
        """Start Redis and the coordinator; return when the coordinator serves.

        Raises:
            RuntimeError: A part did not start; the message ends with its last lines.
        """
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.runfold_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            if self._redis_choice == "embedded":
                self._start_redis()
            elif self._redis_choice != "own":
                self.redis_url = self._redis_choice
            self._start_coordinator()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End all parts, politely first; idempotent."""
        for pid in self.pids("agent"):
            _signal(pid, signal.SIGCONT)
            _signal(pid, signal.SIGTERM)
        if self._coordinator is not None:
            _end(self._coordinator, timeout_s=15.0)
        if self._redis is not None:
            self._redis.stop()
        deadline = time.monotonic() + 3.0
        while (left := self.pids("agent")) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            _signal(pid, signal.SIGKILL)
        for agent in self._agents:
            _end(agent, timeout_s=1.0)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def pids(self, part: Part) -> list[int]:
        """Process ids of a part; empty when it is not running."""
        if part == "redis":
            pid = self._redis.pid if self._redis is not None else None
            return [pid] if pid else []
        if part == "coordinator":
            process = self._coordinator
            return [process.pid] if process is not None and process.poll() is None else []
        return find_agents(self.runfold_dir)

    def kill(self, part: Part, signum: int = signal.SIGKILL) -> list[int]:
        """Kill a part, -9 by default, and wait until it is gone; returns the ids that were killed."""
        killed = self.pids(part)
        for pid in killed:
            _signal(pid, signum)
        deadline = time.monotonic() + 10.0
        while set(self.pids(part)) & set(killed) and time.monotonic() < deadline:
            time.sleep(0.01)
        return killed

    def restart(self, part: Part, *, failpoint: str | None = None) -> None:
        """Start a part again (ending it first if it runs), at the same address, on the same data.

        Args:
            failpoint: "name" or "name:n": the part kills itself when it comes to this step the n-th time.
        """
        extra = {"RUNFOLD_FAILPOINT": failpoint} if failpoint else {}
        if part == "coordinator":
            if self._coordinator is not None:
                _end(self._coordinator, timeout_s=15.0)
            self._start_coordinator(extra)
        elif part == "redis":
            assert self._redis is not None, "this server has no Redis of its own"
            self._redis.stop()
            self._redis.start()
        else:
            self.kill("agent", signal.SIGTERM)
            self._agents.append(
                subprocess.Popen(
                    [sys.executable, "-m", "runfold", "agent"],
                    env={**os.environ, **self.env, **extra},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def stop(self, part: Part) -> None:
        """Freeze a part (SIGSTOP)."""
        for pid in self.pids(part):
            _signal(pid, signal.SIGSTOP)

    def cont(self, part: Part) -> None:
        """Let a frozen part go on (SIGCONT)."""
        for pid in self.pids(part):
            _signal(pid, signal.SIGCONT)

    def _start_redis(self) -> None:
        self._redis = EmbeddedRedis(
            self.data_dir,
            listen="port",
            persistent=self._redis_persistent,
            max_memory_bytes=self._redis_max_memory_bytes,
            supervise=False,
        ).start()
        self.redis_url = self._redis.url

    def _start_coordinator(self, extra: Mapping[str, str] | None = None) -> None:
        ready = self.data_dir / "ready.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "runfold_coordinator", "--data", str(self.data_dir)]
        command += ["--host", "127.0.0.1", "--port", str(self._port), "--ready-file", str(ready)]
        if self._redis_choice != "own":
            command += ["--redis", self.redis_url]
        if self._db is not None:
            command += ["--db", self._db]
        # What this process inherited about other servers must not leak in; RUNFOLD_DIR is where it registers.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
        with self.log_path.open("ab") as log:
            self._coordinator = subprocess.Popen(
                [*command, *self._arguments],
                env={**inherited, "RUNFOLD_DIR": str(self.runfold_dir), **self._extra_env, **(extra or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        facts = self._wait_for(ready)
        if facts is None and extra:  # it died of its failpoint before it served
            return
        if facts is None:
            raise RuntimeError(f"the coordinator did not start:\n{self.log_tail()}")
        self.url = str(facts["url"])
        self._port = int(self.url.rsplit(":", 1)[1].split("/")[0])
        if self._redis_choice == "own":
            self.redis_url = str(facts["redis_url"])

    def _wait_for(self, ready: Path) -> dict[str, object] | None:
        assert self._coordinator is not None, "called after the coordinator was started"
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                facts: dict[str, object] = json.loads(ready.read_text())
                return facts
            if self._coordinator.poll() is not None:
                break
            time.sleep(0.02)
        if self._coordinator.poll() is None:
            self._coordinator.kill()
            self._coordinator.wait()
        return None

    def log_tail(self, lines: int = 30) -> str:
        """Return the last lines of the coordinator's output."""
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def find_agents(runfold_dir: Path) -> list[int]:
    """Process ids of the node agents that work in `runfold_dir`, by /proc (Linux)."""
    wanted = f"RUNFOLD_DIR={runfold_dir}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            is_agent = b"runfold.node" in command or command[1:4] == [b"-m", b"runfold", b"agent"]
            if is_agent and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it ended while we looked
            continue
    return found


def _signal(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def _end(process: subprocess.Popen[bytes], *, timeout_s: float) -> None:
    if process.poll() is not None:
        return
    _signal(process.pid, signal.SIGCONT)
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

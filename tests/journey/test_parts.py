"""The parts of a server come and go one by one; each waits for the others, and says why it can't."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

import runfold
from runfold_coordinator.__main__ import FENCED_STATUS
from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.testing import LocalServer
from support.checks import check_accounting
from support.processes import finish, start, until

PROGRAM = """
import sys, runfold
run = runfold.init(project="journey", id=sys.argv[2])
for step in range(100): run.log({"a": step})
run.finish()
"""


def stored(server: LocalServer, run_id: str) -> bool:
    try:
        run = runfold.Api(url=server.url).run(f"journey/{run_id}")
    except Exception:  # not known yet
        return False
    counts = check_accounting(run, complete=False)
    return counts["pending"] == 0 and [row["a"] for row in run.scan_history()] == list(range(100))


def test_the_coordinator_starts_before_redis(tmp_path: Path) -> None:
    with LocalServer(tmp_path / "data", runfold_dir=tmp_path / "runfold") as server:
        server.kill("redis")
        server.restart("coordinator")
        assert list(runfold.Api(url=server.url).runs("journey")) == []
        server.restart("redis")
        finish([start("support.program", PROGRAM, "early", env=server.env)])
        until(lambda: stored(server, "early"))


def test_an_agent_that_was_killed_is_replaced_while_training_goes_on(tmp_path: Path) -> None:
    program = """
import sys, time, runfold
run = runfold.init(project="journey", id="respawn")
for step in range(100):
    run.log({"a": step})
    time.sleep(0.05)
run.finish()
"""
    with LocalServer(tmp_path / "data", runfold_dir=tmp_path / "runfold") as server:
        trainer = start("support.program", program, env=server.env)
        [killed] = until(lambda: server.pids("agent"))
        server.kill("agent")
        finish([trainer])
        until(lambda: stored(server, "respawn"))
        assert killed not in server.pids("agent")


def test_a_server_on_an_evicting_redis_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, listen="port") as embedded:
        with redis.Redis.from_url(embedded.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(RuntimeError, match="CONFIG SET maxmemory-policy noeviction"):
            LocalServer(tmp_path / "data", redis=embedded.url, runfold_dir=tmp_path / "runfold").start()


def test_a_public_address_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="RUNFOLD_API_KEY"):
        LocalServer(
            tmp_path / "data", runfold_dir=tmp_path / "runfold", arguments=("--host", "0.0.0.0")
        ).start()


def test_a_server_whose_partition_another_takes_stops_and_says_so(tmp_path: Path, postgres_url: str) -> None:
    def serve(name: str) -> tuple[subprocess.Popen[str], Path]:
        ready = tmp_path / f"{name}.json"
        command = [sys.executable, "-m", "runfold_coordinator", "--data", str(tmp_path / name)]
        command += ["--db", postgres_url, "--port", "0", "--ready-file", str(ready)]
        env = os.environ | {"RUNFOLD_DIR": str(tmp_path / "runfold")}
        process = subprocess.Popen(
            command, env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        until(lambda: ready.exists() or process.poll() is not None, 60)
        assert process.poll() is None
        return process, ready

    first, first_ready = serve("first")
    second, _ = serve("second")
    try:
        _, said = first.communicate(timeout=60)
        assert first.returncode == FENCED_STATUS
        assert "taken over by another coordinator" in said.splitlines()[-1]
        assert not first_ready.exists()
        assert second.poll() is None
    finally:
        second.terminate()
        second.communicate(timeout=60)
    assert second.returncode == 0

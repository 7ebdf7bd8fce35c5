"""The agent as a process, between real spools and a real Redis, through everything that may happen to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import redis

from runfold.node import lock
from runfold.node.start import ensure_agent
from runfold.protocol import streams
from runfold.spool import SpoolReader
from support.agent_stage import Stage
from support.processes import until
from support.small_coordinator import SmallCoordinator

ROWS = 4000


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(tmp_path)
    yield found
    found.close()


def test_everything_arrives_once_and_the_agent_ends_when_idle(stage: Stage):
    stage.register()
    with SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(ROWS, 0.0, "8", "--close")
        ensure_agent(stage.settings)
        coordinator.wait(writer, ROWS + 1)
        coordinator.check(writer, ROWS + 1)
        assert coordinator.points[writer] == ROWS * 8
        assert coordinator.duplicates == coordinator.refused == 0
        until(lambda: not stage.agents())
    reader = SpoolReader(stage.settings.target_dir / writer.hex())
    assert (reader.header.acked_seq, reader.header.server_id) == (ROWS + 1, coordinator.server_id)
    reader.close()
    log = (stage.settings.target_dir / "agent.log").read_text()
    assert "Traceback" not in log, log


def test_the_agent_is_nobodys_child_and_only_one(stage: Stage):
    stage.register()
    stage.settings = replace(stage.settings, idle_exit_s=30.0)
    for _ in range(6):
        stage.respawn()
    until(lambda: lock.is_held(stage.settings.target_dir))
    [pid] = until(lambda: len(found := stage.agents()) == 1 and found)
    agent = psutil.Process(pid)
    assert agent.ppid() != os.getpid()
    assert not psutil.Process().children(recursive=False) or agent.pid not in {
        child.pid for child in psutil.Process().children(recursive=True)
    }
    assert os.getsid(agent.pid) != os.getsid(0)
    took_s = []
    for _ in range(100):
        began_s = time.perf_counter()
        ensure_agent(stage.settings)
        took_s.append(time.perf_counter() - began_s)
    assert min(took_s) < 1e-3


def test_a_terminal_signal_is_for_the_trainer_and_sigterm_drains(stage: Stage):
    stage.register()
    with SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(ROWS, 4000.0, "8", "--stay")
        ensure_agent(stage.settings)
        [pid] = until(stage.agents)
        coordinator.wait(writer, 100)
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGHUP)
        coordinator.wait(writer, ROWS + 1)
        os.kill(pid, signal.SIGTERM)
        until(lambda: not stage.agents())


@pytest.mark.parametrize(
    "failpoint",
    [
        "after_discover",
        "after_read:3",
        "after_encode:5",
        "before_send:4",
        "after_send:3",
        "after_exchange:4",
        "before_ack_write:2",
        "after_ack_write:2",
    ],
)
def test_an_agent_killed_between_two_steps_loses_and_doubles_nothing(stage: Stage, failpoint: str):
    stage.register()
    with SmallCoordinator(stage.redis.url) as coordinator:
        env = {**os.environ, **stage.settings.to_env(), "RUNFOLD_FAILPOINT": f"agent.{failpoint}"}
        stage.settings.target_dir.mkdir(parents=True)
        first = subprocess.Popen(
            [sys.executable, "-m", "runfold.node", "--target-dir", str(stage.settings.target_dir)], env=env
        )
        _, writer = stage.train(ROWS, 2000.0, "8", "--close")
        assert first.wait(60) == -signal.SIGKILL
        ensure_agent(stage.settings)
        coordinator.wait(writer, ROWS + 1)
        coordinator.check(writer, ROWS + 1)


def test_agents_killed_again_and_again(stage: Stage):
    stage.register()
    with SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(8000, 3000.0, "8", "--close")
        for _ in range(8):
            stage.respawn()
            time.sleep(0.25)
            stage.kill_agents()
        stage.respawn()
        coordinator.wait(writer, 8001)
        coordinator.check(writer, 8001)


def test_flushall_restart_and_a_dead_coordinator_lose_nothing(stage: Stage):
    stage.register()
    with SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(12_000, 3000.0, "8", "--close")
        ensure_agent(stage.settings)
        client = stage.client()
        for _ in range(4):
            time.sleep(0.2)
            coordinator.pause()
            time.sleep(0.2)
            client.flushall()
            coordinator.resume()
        client.close()
        coordinator.pause()
        stage.redis.stop()
        time.sleep(0.3)
        stage.redis.start()
        coordinator.resume()
        coordinator.wait(writer, 12_001, 60.0)
        coordinator.check(writer, 12_001)


def test_a_full_redis_means_wait_and_not_loss(stage: Stage):
    stage.register()
    client = stage.client()
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_500_000)
    with SmallCoordinator(stage.redis.url) as coordinator:
        coordinator.pause()
        _, writer = stage.train(100_000, 0.0, "8", "--close")
        ensure_agent(stage.settings)
        until(lambda: _errors(client, "OOM"))
        assert client.xlen(streams.data_stream(0)) > 0
        coordinator.resume()
        coordinator.wait(writer, 100_001, 60.0)
        coordinator.check(writer, 100_001)
        assert coordinator.frames_bytes < 2.5 * 100_001 * 90
    client.close()


def test_a_dead_coordinator_leaves_a_bounded_window_in_redis(stage: Stage):
    stage.settings = replace(stage.settings, window_bytes=2_000_000)
    stage.register()
    client = stage.client()
    with SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(200_000, 0.0, "8", "--close")
        coordinator.wait(writer, 0)
        coordinator.pause()
        ensure_agent(stage.settings)
        until(lambda: client.xlen(streams.data_stream(0)) > 1)
        time.sleep(2.0)
        assert client.memory_usage(streams.data_stream(0), samples=0) < 4_000_000
        coordinator.resume()
        coordinator.wait(writer, 200_001, 60.0)
        coordinator.check(writer, 200_001)
        assert coordinator.duplicates == 0
    client.close()


def test_a_death_is_told_at_once_and_the_rest_is_delivered(stage: Stage):
    stage.register()
    stage.settings = replace(stage.settings, heartbeat_interval_s=30.0)
    with SmallCoordinator(stage.redis.url) as coordinator:
        trainer, writer = stage.train(1_000_000, 5000.0)
        ensure_agent(stage.settings)
        coordinator.wait(writer, 500)
        until(lambda: coordinator.beats[writer])
        assert coordinator.beats[writer][-1][2] is True
        killed_s = time.monotonic()
        trainer.kill()
        until(lambda: coordinator.beats[writer][-1][2] is False, every_s=0.01)
        assert coordinator.beats[writer][-1][0] - killed_s < 15.0, "before the next heartbeat is due"
        head = coordinator.beats[writer][-1][1]
        coordinator.wait(writer, head)
        coordinator.check(writer, head)


def test_a_server_that_comes_later_gets_everything(stage: Stage):
    _, writer = stage.train(ROWS, 0.0, "8", "--close")
    ensure_agent(stage.settings)
    until(stage.agents)
    time.sleep(1.5)
    assert stage.agents(), "with something undelivered the agent stays, though its idle time is 1 s"
    with SmallCoordinator(stage.redis.url) as coordinator:
        stage.register()
        coordinator.wait(writer, ROWS + 1)
        coordinator.check(writer, ROWS + 1)


def test_another_server_gets_all_that_is_held(stage: Stage):
    stage.register()
    stage.settings = replace(stage.settings, idle_exit_s=30.0)
    _, writer = stage.train(ROWS, 0.0, "8", "--close")
    ensure_agent(stage.settings)
    with SmallCoordinator(stage.redis.url) as first:
        first.wait(writer, ROWS + 1)
    with SmallCoordinator(stage.redis.url, server_id=b"T" * 16) as second:
        second.wait(writer, ROWS + 1)
        second.check(writer, ROWS + 1)


def test_a_server_restored_from_a_backup_gets_what_it_lost(stage: Stage):
    stage.register()
    with SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(ROWS, 0.0, "8", "--close")
        stage.settings = replace(stage.settings, idle_exit_s=30.0)
        ensure_agent(stage.settings)
        coordinator.wait(writer, ROWS + 1)
        coordinator.pause()
        coordinator.last[writer] = 1000
        for seq in range(1001, ROWS + 2):
            del coordinator.stored[writer][seq]
        coordinator.resume()
        coordinator.wait(writer, ROWS + 1)
        coordinator.check(writer, ROWS + 1)


def _errors(client: redis.Redis, word: str) -> int:
    return int(client.info("errorstats").get(f"errorstat_{word}", {}).get("count", 0))

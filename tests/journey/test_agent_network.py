"""The agent behind bad lines: cut, half cut, refused, slow; a stopped Redis; and the same over a thread and a sync."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from runfold.node import lock
from runfold.node.deliver import DeliveryProgress, deliver_all
from runfold.node.failures import LinkError
from runfold.node.start import RESPAWN_S, ensure_agent
from runfold.spool import SpoolReader
from support.agent_stage import Stage
from support.processes import environment, until
from support.proxy import Proxy
from support.small_coordinator import SmallCoordinator

ROWS = 4000


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(tmp_path, listen="port")
    yield found
    found.close()


@contextlib.contextmanager
def line(stage: Stage, kind: type[Proxy] = Proxy) -> Iterator[Proxy]:
    """Put a proxy before Redis, for the agent only."""
    parts = urlsplit(stage.redis.url)
    assert parts.hostname and parts.port
    with kind(parts.hostname, parts.port) as proxy:
        stage.register(stage.redis.url.replace(f":{parts.port}", f":{proxy.port}"))
        yield proxy


@pytest.mark.parametrize("what", ["both", "replies", "refuse"])
def test_a_cut_line_loses_nothing_and_heals_within_seconds(stage: Stage, what: str):
    with line(stage) as proxy, SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(12_000, 4000.0, "8", "--close")
        ensure_agent(stage.settings)
        coordinator.wait(writer, 500)
        for _ in range(2):
            if what == "refuse":
                proxy.refuse()
            else:
                proxy.cut(what)
            time.sleep(1.0)
            proxy.heal()
            time.sleep(0.3)
        healed_s = time.monotonic()
        coordinator.wait(writer, 12_001)
        coordinator.check(writer, 12_001)
        assert time.monotonic() - healed_s < 30.0


class SlowLine(Proxy):
    """About 60 kB/s towards the server, and little memory on the way."""

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(3000 if way == "requests" else 65536):
                if way == "requests":
                    await asyncio.sleep(0.05)
                    self.forwarded_bytes += len(part)
                writer.write(part)
                await writer.drain()


def test_a_slow_line_is_used_and_not_given_up(stage: Stage):
    with line(stage, SlowLine) as proxy, SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(ROWS, 0.0, "8", "--close")
        ensure_agent(stage.settings)
        coordinator.wait(writer, ROWS + 1, 90.0)
        coordinator.check(writer, ROWS + 1)
        assert proxy.forwarded_bytes < 6 * coordinator.frames_bytes


def test_a_stopped_redis_is_waited_for(stage: Stage):
    stage.register()
    with SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(8000, 3000.0, "8", "--close")
        ensure_agent(stage.settings)
        coordinator.wait(writer, 500)
        assert stage.redis.pid
        os.kill(stage.redis.pid, signal.SIGSTOP)
        time.sleep(3.0)
        os.kill(stage.redis.pid, signal.SIGCONT)
        coordinator.wait(writer, 8001)
        coordinator.check(writer, 8001)


THREAD = """
import os, sys, threading
from pathlib import Path
from runfold.node.settings import NodeSettings
from runfold.node.start import ensure_agent, stop_thread
from support.spooler import open_writer, schema
settings = NodeSettings.from_env(os.environ)
writer = open_writer(settings.spool_root, "local")
ensure_agent(settings)
ensure_agent(settings)
assert sum(thread.name == "runfold-agent" for thread in threading.enumerate()) == 1
for step in range(4000):
    writer.append_row(schema(2), 0, step, [1.0, 2.0])
writer.close()
print(writer.writer_id.hex(), flush=True)
sys.stdin.readline()
stop_thread(settings, timeout_s=10.0)
"""


def test_where_children_are_forbidden_a_thread_ships(stage: Stage):
    stage.register()
    settings = replace(stage.settings, mode="thread")
    with SmallCoordinator(stage.redis.url) as coordinator:
        trainers = [
            subprocess.Popen(
                [sys.executable, "-c", THREAD],
                env=environment(settings.to_env()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        writers = [bytes.fromhex(trainer.stdout.readline()) for trainer in trainers if trainer.stdout]
        for writer in writers:
            coordinator.wait(writer, ROWS + 1)
            coordinator.check(writer, ROWS + 1)
        assert not psutil.Process(trainers[0].pid).children()
        for trainer in trainers:
            trainer.communicate("\n", timeout=60)
            assert trainer.returncode == 0
    assert not stage.agents()


def test_the_thread_of_another_process_takes_over(stage: Stage):
    stage.register()
    settings = replace(stage.settings, mode="thread")
    with SmallCoordinator(stage.redis.url) as coordinator:
        trainers = []
        for _ in range(2):
            trainer = subprocess.Popen(
                [sys.executable, "-c", THREAD],
                env=environment(settings.to_env()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert trainer.stdout is not None
            coordinator.wait(bytes.fromhex(trainer.stdout.readline()), ROWS + 1)
            trainers.append(trainer)
        trainers[0].kill()
        _, late = stage.train(ROWS, 0.0, "8", "--close")
        coordinator.wait(late, ROWS + 1)
        for trainer in trainers:
            trainer.communicate("\n", timeout=60)


def test_sync_delivers_once_however_often_and_tells_progress(stage: Stage):
    stage.register()
    with SmallCoordinator(stage.redis.url) as coordinator:
        writers = [stage.train(ROWS, 0.0, "8", "--close")[1] for _ in range(2)]
        for trainer in stage.trainers:
            trainer.wait(60)
        (stage.settings.target_dir / ("0" * 32)).mkdir()
        seen: list[DeliveryProgress] = []
        report = deliver_all([stage.settings.target_dir], stage.settings, seen.append, timeout_s=60.0)
        assert (report.spools, report.records, report.pending) == (2, 2 * (ROWS + 1), 0)
        assert report.delivered == report.acked == report.records
        assert [path.name for path in report.unreadable] == ["0" * 32]
        assert seen[-1].acked == seen[-1].records == report.records
        for writer in writers:
            coordinator.check(writer, ROWS + 1)
            until(lambda writer=writer: coordinator.beats[writer][-1][2] is False)  # how it ended is told too
        again = deliver_all([stage.settings.target_dir], stage.settings, timeout_s=60.0)
        assert (again.delivered, again.pending) == (0, 0)
        for writer in writers:
            coordinator.check(writer, ROWS + 1)
    with SmallCoordinator(stage.redis.url, server_id=b"T" * 16) as another:
        elsewhere = deliver_all(
            [stage.settings.target_dir / writers[0].hex()], stage.settings, timeout_s=20.0
        )
        assert elsewhere.acked == ROWS + 1
        another.check(writers[0], ROWS + 1)


def test_sync_without_a_server_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runfold.node.deliver.CONNECT_PATIENCE_S", 0.3)
    stage.train(10, 0.0, "8", "--close")[0].wait(60)
    with pytest.raises(LinkError, match="runfold up"):
        deliver_all([stage.settings.target_dir], stage.settings)


def test_what_was_freed_is_declared_to_another_server(stage: Stage):
    stage.register()
    rows = 200_000
    with SmallCoordinator(stage.redis.url) as first:
        trainer, writer = stage.train(rows, 0.0, "8", "--close")
        trainer.wait(60)
        deliver_all([stage.settings.target_dir], stage.settings, timeout_s=60.0)
        first.check(writer, rows + 1)
    reader = SpoolReader(stage.settings.target_dir / writer.hex())
    freed = reader.remove_acked(1e9, 10_000_000)
    held = reader.first_held_seq()
    reader.close()
    assert freed and 1 < held < rows
    with SmallCoordinator(stage.redis.url, server_id=b"T" * 16) as second:
        deliver_all([stage.settings.target_dir], stage.settings, timeout_s=60.0)
        assert second.last[writer] == rows + 1
        [(lo, hi, why)] = second.gaps[writer]
        assert (lo, hi) == (2, held - 1), "who the writer is is never lost"
        assert "released" in why
        assert sorted(second.stored[writer]) == [1, *range(held, rows + 2)]


def limited_user(stage: Stage) -> str:
    """Make a Redis user with the rights that an agent needs and no more; return its address."""
    parts = urlsplit(stage.redis.url)
    client = stage.client()
    client.execute_command(
        *"ACL SETUSER node on >right resetkeys ~rf:* resetchannels -@all +xadd +hget +hmget +ping +hello +info".split()
    )
    client.close()
    return f"redis://node:right@127.0.0.1:{parts.port}"


def test_an_agent_needs_few_rights(stage: Stage):
    settings = replace(stage.settings, redis_url=limited_user(stage))
    with SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(12_000, 4000.0, "8", "--close")
        ensure_agent(settings)
        coordinator.wait(writer, 500)
        coordinator.pause()
        client = stage.client()
        client.delete("rf:{0}:in", "rf:{0}:ctl", "rf:{0}:down")  # without XLEN only the timer sees it
        client.close()
        coordinator.resume()
        coordinator.wait(writer, 12_001, 60.0)
        coordinator.check(writer, 12_001)


def test_an_agent_with_refused_credentials_gives_way_to_better_ones(stage: Stage):
    right = limited_user(stage)
    with SmallCoordinator(stage.redis.url) as coordinator:
        _, writer = stage.train(ROWS, 0.0, "8", "--close")
        wrong = replace(stage.settings, redis_url=right.replace("right", "wrong"))
        ensure_agent(wrong)
        until(lambda: "refused" in lock.read_note(stage.settings.target_dir))
        [first] = stage.agents()
        time.sleep(RESPAWN_S)
        ensure_agent(wrong)
        time.sleep(0.3)
        assert stage.agents() == [first], "the same credentials do no better"
        until(lambda: (ensure_agent(replace(wrong, redis_url=right)), coordinator.last[writer] > ROWS)[1])
        coordinator.check(writer, ROWS + 1)
        until(lambda: first not in stage.agents())

"""A run is stopped: from the API and the command line to its processes, by every way and through every trouble."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold.api.errors import RunEndedError
from runfold_coordinator.testing import LocalServer
from support.processes import environment, until

pytestmark = pytest.mark.journey

TERM, KILL = int(signal.SIGTERM), int(signal.SIGKILL)


class Job:
    """One run of processes that are to be stopped."""

    def __init__(self, server: LocalServer, base: Path, run_id: str, **env: str) -> None:
        self.server = server
        self.base = base
        self.run_id = run_id
        self.env = environment({**server.env, "STOP_DIR": str(base), "RUNFOLD_RUN_ID": run_id, **env})
        self.api = runfold.Api(url=server.url)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, way: str, *, launcher: tuple[str, ...] = (), ranks: int = 1, **env: str) -> None:
        """Start a program and return when the server knows its processes."""
        words = [*launcher, "-m", "support.stoppable", way]
        log = (self.base / "output").open("ab")
        with log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, *words], env={**self.env, **env}, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log,
                )
            )  # fmt: skip
        before = len(self.pids())
        until(lambda: len(self.pids()) >= before + ranks, 60)
        until(self.knows_all, 60)

    def knows_all(self) -> bool:
        try:
            return len(self.run.writers()) >= len(self.pids())
        except runfold.errors.CommError:
            return False

    @property
    def run(self) -> Any:
        return self.api.run(f"stops/{self.run_id}")

    def pids(self) -> dict[int, int]:
        """Process id by rank, or by number where there are no ranks."""
        names = [path.name.split("-") for path in sorted(self.base.glob("pid-*"))]
        return {int(pid): int(rank) for _, rank, pid in names}

    def status(self, limit_s: float = 60.0) -> int:
        return self.processes[0].wait(limit_s)

    def ended(self, state: str = "killed") -> Any:
        run = self.run
        run.wait_until_finished(timeout_s=60, poll_interval_s=0.05)
        assert run.state == state, (run.state, run.reason, (self.base / "output").read_text())
        return run

    def signals(self) -> list[tuple[int, str]]:
        """What agents sent, in order."""
        found = [signal for request in self.run.stop_requests() for writer in request["writers"]
                 for signal in writer["signals"]]  # fmt: skip
        return [(each["signum"], each["to"]) for each in sorted(found, key=lambda each: each["unix_s"])]

    def close(self) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for process in self.processes:
            process.kill()
            process.wait()
        self.api.close()


@pytest.fixture
def job(server: LocalServer, tmp_path: Path, name: str) -> Iterator[Job]:
    made = Job(server, tmp_path, name)
    yield made
    made.close()


def test_a_process_ends_with_sigterm_and_the_run_says_who_stopped_it(job: Job) -> None:
    job.start("plain")
    began = time.monotonic()
    said = job.run.stop(grace_s=90)
    assert job.status() == -TERM
    assert time.monotonic() - began < 60, "well before the grace is over"
    run = job.ended()
    assert said["by"] in run.reason
    assert "stopped by" in run.reason
    until(lambda: job.signals() == [(TERM, "process")])
    assert [writer["state"] for writer in run.writers()] == ["killed"]


def test_a_handler_has_the_grace_to_save(job: Job) -> None:
    job.start("graceful", SAVE_S="0.5")
    job.run.stop(grace_s=60)
    assert job.status() == 0
    assert (job.base / "saved-0").read_text() == "1", "one signal"
    run = job.ended()
    assert "stopped by" in run.reason
    assert run.history_line_count > 0


@pytest.mark.parametrize("is_frozen", [False, True])
def test_who_does_not_want_to_end_is_killed_after_the_grace(job: Job, is_frozen: bool) -> None:
    job.start("stubborn")
    if is_frozen:
        os.kill(next(iter(job.pids())), signal.SIGSTOP)
    began = time.monotonic()
    job.run.stop(grace_s=1)
    assert job.status() == -KILL
    assert time.monotonic() - began >= 1
    assert "stopped by" in job.ended().reason
    until(lambda: job.signals() == [(TERM, "process"), (KILL, "process")])


def test_under_runfold_run_the_program_is_stopped_and_its_parent_ends_with_it(job: Job) -> None:
    job.start("plain", launcher=("-m", "runfold", "run", "--", sys.executable))
    job.run.stop(grace_s=60)
    assert job.status() in (-TERM, 128 + TERM)
    assert "stopped by" in job.ended().reason


TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=3")


@pytest.mark.parametrize(
    ("way", "grace_s", "signals"),
    [
        ("plain", 25, {(TERM, "launcher")}),
        ("stubborn", 2, {(TERM, "launcher"), (TERM, "process"), (KILL, "process")}),
    ],
)
def test_torchrun_does_not_start_again_what_was_stopped(
    job: Job, way: str, grace_s: float, signals: set[tuple[int, str]]
) -> None:
    job.start(way, launcher=TORCHRUN, ranks=2, USE_GLOO="1")
    job.run.stop(grace_s=grace_s)
    assert job.status() != 0
    run = job.ended()
    assert "stopped by" in run.reason
    until(lambda: [writer["state"] for writer in run.writers()] == ["killed", "killed"])
    assert len(job.pids()) == 2, "no rank was started again"
    until(lambda: set(job.signals()) == signals)


def test_a_single_rank_is_stopped_and_the_others_go_on(job: Job) -> None:
    for rank in range(2):
        job.start("plain", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", RUNFOLD_MODE="shared")
    said = job.run.stop(grace_s=60, ranks=[1])
    assert [writer["rank"] for writer in said["writers"]] == [1]
    assert job.processes[1].wait(60) == -TERM
    until(lambda: {w["rank"]: w["state"] for w in job.run.writers()} == {0: "running", 1: "killed"})
    assert job.processes[0].poll() is None
    with pytest.raises(RunEndedError, match="rank 1"):
        job.run.stop(ranks=[1])
    with pytest.raises(runfold.api.RequestError, match="no rank 5"):
        job.run.stop(ranks=[5])


def test_a_request_outlives_the_coordinator_and_all_of_redis(tmp_path: Path) -> None:
    """Asked, and nothing delivered yet, when the coordinator dies and Redis loses everything."""
    with LocalServer() as server:
        job = Job(server, tmp_path, "r1")
        try:
            job.start("plain")
            server.stop("agent")
            said = job.run.stop(grace_s=60)
            server.kill("coordinator")
            server.restart("redis")
            server.restart("coordinator")
            assert job.processes[0].poll() is None
            server.cont("agent")
            assert job.status(60) == -TERM
            assert said["by"] in job.ended().reason
        finally:
            job.close()


def test_an_agent_that_was_killed_in_the_grace_has_a_successor_that_goes_on(tmp_path: Path) -> None:
    with LocalServer() as server:
        job = Job(server, tmp_path, "r1")
        try:
            job.start("stubborn")
            job.run.stop(grace_s=4)
            until(lambda: job.signals()[:1] == [(TERM, "process")])
            server.kill("agent")
            server.restart("agent")
            assert job.status(60) == -KILL
            assert "stopped by" in job.ended().reason
            until(lambda: job.signals() == [(TERM, "process"), (KILL, "process")])
        finally:
            job.close()


@pytest.fixture(scope="module")
def http_only() -> Iterator[LocalServer]:
    with LocalServer(worker_redis_url="redis://127.0.0.1:1") as started:
        yield started


@pytest.mark.parametrize("way", ["plain", "stubborn"])
def test_requests_travel_by_http_where_redis_is_not_reached(
    http_only: LocalServer, tmp_path: Path, way: str
) -> None:
    job = Job(http_only, tmp_path, f"by-http-{way}")
    try:
        job.start(way)
        job.run.stop(grace_s=60 if way == "plain" else 1)
        assert job.status() == (-TERM if way == "plain" else -KILL)
        assert "stopped by" in job.ended().reason
    finally:
        job.close()


def test_a_node_that_allows_no_stops_says_so(tmp_path: Path) -> None:
    with LocalServer() as server:
        job = Job(server, tmp_path, "r1", RUNFOLD_ALLOW_STOP="0")
        try:
            job.start("plain")
            words = ["stop", "stops/r1", "--grace", "0", "--yes", "--wait", "--json", "--url", server.url]
            done = subprocess.run(
                [sys.executable, "-m", "runfold", *words], env=job.env, capture_output=True, text=True,
                timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 1
            assert "RUNFOLD_ALLOW_STOP=0" in done.stderr
            assert json.loads(done.stdout)["going_on"][0]["refused"]
            assert job.processes[0].poll() is None
            assert job.run.state == "running"
        finally:
            job.close()


def test_the_command_asks_waits_and_tells_what_has_ended(job: Job) -> None:
    def stop(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runfold", "stop", f"stops/{job.run_id}", *words]
        return subprocess.run(
            [*command, "--url", job.server.url], env=job.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    job.start("plain")
    unasked = stop()
    assert (unasked.returncode, job.processes[0].poll()) == (1, None)
    assert "--yes" in unasked.stderr
    done = stop("--yes", "--wait", "--grace", "60")
    assert done.returncode == 0, done.stderr
    assert "asked to stop: 1 process, grace 60 s" in done.stdout
    assert "the run: killed (stopped by" in done.stdout
    assert job.status() == -TERM
    again = stop("--yes")
    assert again.returncode == 1
    assert "has ended already: killed" in again.stderr
    with pytest.raises(RunEndedError, match="ended already"):
        job.run.stop()

"""A process that is told, or says, that it will be taken away: the run reads preempting, then preempted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.processes import environment, until


@pytest.fixture
def trainers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def train(server: LocalServer, base: Path, run_id: str, way: str, **env: str) -> subprocess.Popen[bytes]:
    """Start a trainer; return when the server knows it."""
    said = {**server.env, "STOP_DIR": str(base), "RUNFOLD_RUN_ID": run_id, **env}
    process = subprocess.Popen(
        [sys.executable, "-m", "support.stoppable", way], env=environment(said), stdin=subprocess.DEVNULL
    )
    api = runfold.Api(url=server.url)
    until(lambda: _is_known(api, run_id), 60)
    return process


def _is_known(api: runfold.Api, run_id: str) -> bool:
    try:
        return bool(api.run(f"stops/{run_id}").writers())
    except runfold.errors.CommError:
        return False


def state_of(server: LocalServer, run_id: str) -> tuple[str, str]:
    run = runfold.Api(url=server.url).run(f"stops/{run_id}")
    return run.state, run.reason


def test_a_script_that_says_so_reads_preempting_at_once_and_then_preempted(
    server: LocalServer, tmp_path: Path, name: str, trainers: list[subprocess.Popen[bytes]]
) -> None:
    trainer = train(server, tmp_path, name, "preempted")
    trainers.append(trainer)
    trainer.send_signal(signal.SIGTERM)
    until(lambda: state_of(server, name)[0] == "preempting", every_s=0.02)
    trainer.kill()
    until(lambda: state_of(server, name)[0] == "preempted")


class Metadata(BaseHTTPRequestHandler):
    """Compute Engine's metadata server, of a machine that is preempted when `server.preempted` says so."""

    def do_GET(self) -> None:
        server: Any = self.server
        body = b"NONE" if self.path.endswith("maintenance-event") else server.preempted
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_clouds_notice_makes_the_run_preempting_and_its_death_preempted(
    tmp_path: Path, trainers: list[subprocess.Popen[bytes]]
) -> None:
    metadata: Any = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    metadata.preempted = b"FALSE"
    thread = threading.Thread(target=lambda: metadata.serve_forever(0.01), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{metadata.server_port}"
    with LocalServer() as server:
        trainer = train(server, tmp_path, "r1", "plain", RUNFOLD_NOTICES="gcp", RUNFOLD_METADATA_URL=url)
        trainers.append(trainer)
        assert state_of(server, "r1")[0] == "running"
        metadata.preempted = b"TRUE"
        until(lambda: state_of(server, "r1")[0] == "preempting")
        trainer.kill()
        until(lambda: state_of(server, "r1")[0] == "preempted")
        assert "Compute Engine" in state_of(server, "r1")[1]
    metadata.shutdown()
    metadata.server_close()
    thread.join()


def test_what_slurm_says_of_a_killed_job_is_its_reason(
    tmp_path: Path, trainers: list[subprocess.Popen[bytes]]
) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(
        "#!/bin/sh\necho JobId=$5 JobState=PREEMPTED Reason=None Restarts=0 PreemptTime=None\n"
    )
    scontrol.chmod(0o755)
    path = f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}"
    with LocalServer() as server:
        trainer = train(server, tmp_path, "r1", "stubborn", SLURM_JOB_ID="4711", SLURM_PROCID="0", PATH=path)
        trainers.append(trainer)
        trainer.kill()
        until(lambda: state_of(server, "r1")[0] == "preempted")
        assert "PREEMPTED" in state_of(server, "r1")[1]

"""The node agent dies while a run goes on: another one comes by itself, and sees how the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.processes import until

pytestmark = pytest.mark.journey

#: Logs one row and then nothing: no segment of it will ever call for an agent.
QUIET = """
import runfold, time
run = runfold.init(project="again", id="quiet")
run.log({"loss": 1.0})
print("ready", flush=True)
time.sleep(120)
"""


def test_a_quiet_process_has_an_agent_again_which_tells_its_end() -> None:
    with LocalServer() as server:
        environment = {**os.environ, **server.env, "RUNFOLD_CONSOLE": "off"}
        trainer = subprocess.Popen([sys.executable, "-c", QUIET], env=environment, stdout=subprocess.PIPE)
        try:
            assert trainer.stdout is not None
            assert trainer.stdout.readline() == b"ready\n"
            until(lambda: server.pids("agent"))
            killed = server.kill("agent")
            until(lambda: set(server.pids("agent")) - set(killed))
            api = runfold.Api(server.url)
            run = until(lambda: api.runs("again")[0] if len(api.runs("again")) else None)
            until(lambda: run.load(force=True)["last_step"] == 0)
            trainer.send_signal(signal.SIGKILL)
            until(lambda: run.load(force=True)["state"] == "killed")
            assert "SIGKILL" in run.reason
        finally:
            trainer.kill()
            trainer.wait()
            trainer.stdout.close()  # type: ignore[union-attr]

"""The embedded Redis is its user's alone: others are told where it is, may not open it, and lose nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.checks import check_accounting
from support.processes import environment

pytestmark = pytest.mark.journey

PROGRAM = """
import socket, sys, runfold
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    sys.exit("the socket is open to everybody")
except PermissionError:
    pass
run = runfold.init(project="reach", id="other-user")
for step in range(200):
    run.log({"loss": step})
run.finish()
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="gives a folder to another user, so needs root",
)
def test_a_trainer_of_another_user_delivers_over_http(tmp_path: Path) -> None:
    with LocalServer(tmp_path / "data", redis="own", runfold_dir=tmp_path / "runfold") as server:
        folder = server.data_dir / "redis"
        told = httpx.get(server.url + "/api/v1/connect").json()["redis_url"]
        assert told == server.redis_url
        assert told.startswith("unix://")
        try:
            for place in (folder, folder / "redis.sock"):
                os.chown(place, 65534, 65534)
            # Root that has given up its right to open everything is an ordinary other user.
            powers = "-dac_override,-dac_read_search"
            done = subprocess.run(
                ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}",
                 sys.executable, "-c", PROGRAM, str(folder / "redis.sock")],
                env=environment(server.env), capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
        finally:
            os.chown(folder, 0, 0)
        assert done.returncode == 0, done.stderr
        run = runfold.Api(url=server.url).run("reach/other-user")
        assert (run.state, run.history_line_count) == ("finished", 200)
        check_accounting(run)

"""Trainers that can't reach Redis deliver the same frames over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.checks import check_accounting, check_rows, rows_by_writer
from support.oracle import Oracle
from support.processes import environment


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace, so root")
def test_rows_arrive_where_the_socket_of_redis_is_out_of_reach(name: str, tmp_path: Path) -> None:
    oracle = Oracle(tmp_path / "oracle")
    with LocalServer(tmp_path / "data", redis="own") as server:
        assert server.redis_url.startswith("unix://"), "the embedded Redis listens on a private socket"
        hidden = tmp_path / "data" / "redis"
        # In a mount namespace of its own the trainer and its agent see an empty folder in place of the socket's.
        command = f"mount -t tmpfs tmpfs {hidden} && exec {sys.executable} -m support.trainer --run-id {name} --rows 3000 --ragged --oracle {oracle.path}"
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", command],
            env=environment(server.env),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        run = runfold.Api(url=server.url).run(f"chaos/{name}")
        assert check_rows(rows_by_writer(run)[0], 0, acked=oracle.acked, attempted=oracle.attempted) == []
        check_accounting(run)
        assert run.state == "finished"

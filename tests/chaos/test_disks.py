"""Full disks, step by step: training goes on, what is missing is declared, what is freed is used again."""

from __future__ import annotations

from pathlib import Path

import pytest

import runfold
from chaos.disks import SmallDisk, can_mount
from runfold_coordinator.testing import LocalServer
from support.checks import check_accounting, check_rows, rows_by_writer
from support.oracle import Oracle
from support.processes import finish, start, until

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not can_mount(), reason="filling a disk needs root, to mount a small one"),
]


def delivered(server: LocalServer, run_id: str, oracle: Oracle) -> tuple[dict[str, int], list[int]]:
    """Wait until nothing is pending; return the accounting and the acked rows that are missing."""

    def settled() -> tuple[dict[str, int], list[int]]:
        try:
            run = runfold.Api(url=server.url, timeout=10).run(f"chaos/{run_id}")
        except Exception as error:
            raise AssertionError(repr(error)) from error
        counts = check_accounting(run, complete=False)
        assert counts["pending"] == 0, counts
        rows = rows_by_writer(run)[0]
        return counts, check_rows(rows, 0, acked=oracle.acked, attempted=oracle.attempted)

    return until(settled, 60)


def test_a_full_spool_disk_costs_rows_that_are_declared_and_nothing_else(tmp_path: Path) -> None:
    oracle = Oracle(tmp_path / "oracle")
    with (
        SmallDisk(tmp_path / "runfold", 6_000_000) as disk,
        LocalServer(tmp_path / "data", runfold_dir=disk.path) as server,
    ):
        server.kill("coordinator")
        env = {**server.env, "RUNFOLD_FINISH_TIMEOUT": "1"}
        trainer = start(
            "support.trainer", "--run-id", "full", "--rows", 60_000, "--oracle", oracle.path, env=env
        )
        finish([trainer], 60)
        assert oracle.acked == 60_000, "log() went on"
        server.restart("coordinator")
        counts, missing = delivered(server, "full", oracle)
        assert 1000 < len(missing) < 60_000
        assert counts["declared_gaps"] == len(missing)
        assert runfold.Api(url=server.url).run("chaos/full").state == "finished"


def test_a_full_database_disk_delays_and_loses_nothing(tmp_path: Path) -> None:
    oracle = Oracle(tmp_path / "oracle")
    with SmallDisk(tmp_path / "data", 64_000_000) as disk:
        with LocalServer(
            disk.path, runfold_dir=tmp_path / "runfold", env={"RUNFOLD_BALLAST": "4000000"}
        ) as server:
            disk.fill()
            env = {**server.env, "RUNFOLD_FINISH_TIMEOUT": "1"}
            trainer = start(
                "support.trainer", "--run-id", "full", "--rows", 30_000, "--oracle", oracle.path, env=env
            )
            finish([trainer], 60)
            assert oracle.acked == 30_000
            disk.free()
            counts, missing = delivered(server, "full", oracle)
            assert missing == []
            assert counts["declared_gaps"] == 0


def test_a_server_starts_on_a_disk_that_is_full(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "data", 64_000_000) as disk:
        env = {"RUNFOLD_BALLAST": "4000000"}
        with LocalServer(disk.path, runfold_dir=tmp_path / "runfold", env=env) as server:
            server.kill("coordinator")
            disk.fill()
            server.restart("coordinator")
            assert list(runfold.Api(url=server.url).runs("chaos")) == []


def test_a_disk_that_is_full_when_training_starts_costs_the_rows_until_there_is_space(tmp_path: Path) -> None:
    oracle = Oracle(tmp_path / "oracle")
    with (
        SmallDisk(tmp_path / "runfold", 6_000_000) as disk,
        LocalServer(tmp_path / "data", runfold_dir=disk.path) as server,
    ):
        disk.fill()
        arguments = ["--run-id", "full", "--rows", 400, "--pause-s", 0.01, "--oracle", oracle.path]
        trainer = start("support.trainer", *arguments, env={**server.env, "RUNFOLD_FINISH_TIMEOUT": "10"})
        until(lambda: oracle.acked > 50)
        disk.free()
        finish([trainer], 60)
        counts, missing = delivered(server, "full", oracle)
        assert 50 <= len(missing) < 400
        # Metric definitions and the like count as records too; only rows are in the oracle.
        assert counts["declared_gaps"] >= len(missing)
        assert missing == list(range(1, len(missing) + 1))
        assert runfold.Api(url=server.url).run("chaos/full").state == "finished"

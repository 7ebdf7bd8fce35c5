"""Runs that are resumed, rewound and forked, by real processes: on this machine, on another one, offline."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import runfold
import runfold.api
from journey.test_offline import sync
from runfold_coordinator.testing import LocalServer
from support.checks import check_accounting
from support.processes import finish, start, until

pytestmark = pytest.mark.timeout(180)


class Stage:
    """Starts processes and reads their runs back."""

    def __init__(self, server: LocalServer, tmp_path: Path) -> None:
        self.server = server
        self.tmp_path = tmp_path
        self._count = 0

    def begin(self, init: dict[str, Any], *, env: Mapping[str, str] | None = None, **said: Any) -> Process:
        """Start a process; `env` over the server's."""
        self._count += 1
        out = self.tmp_path / f"told-{self._count}.json"
        said = {"init": init, "out": str(out), **said}
        process = start("support.resumed", json.dumps(said), env={**self.server.env, **(env or {})})
        return Process(process, out)

    def play(
        self, init: dict[str, Any], *, env: Mapping[str, str] | None = None, **said: Any
    ) -> dict[str, Any]:
        """Run a process to its end; return what it found."""
        process = self.begin(init, env=env, **said)
        if said.get("then") == "kill":
            process.process.communicate(timeout=60)
        else:
            finish([process.process])
        return process.told()

    def elsewhere(self) -> dict[str, str]:
        """An environment like that of another machine: other spools, another agent."""
        self._count += 1
        folder = self.tmp_path / f"node-{self._count}"
        folder.mkdir()
        return {"RUNFOLD_DIR": str(folder), "RUNFOLD_AGENT_IDLE_S": "1"}

    def run(self, name: str) -> runfold.api.Run:
        return runfold.Api(url=self.server.url).run(f"journey/{name}")

    def knows(self, name: str) -> bool:
        """Whether the server has heard of a run."""
        return bool(runfold.Api(url=self.server.url).runs("journey", filters={"name": name}))


class Process:
    """A process of the stage."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self.process = process
        self.out = out

    def told(self) -> dict[str, Any]:
        """What it found in its run, once it has one."""
        return until(lambda: json.loads(self.out.read_text()) if self.out.exists() else None)


@pytest.fixture
def stage(server: LocalServer, tmp_path: Path) -> Stage:
    return Stage(server, tmp_path)


def rows(run: runfold.api.Run, **more: Any) -> dict[int, float]:
    return {row["_step"]: row["loss"] for row in run.scan_history(**more)}


def test_a_killed_run_is_resumed_on_another_machine(stage: Stage, name: str) -> None:
    first = {"id": name, "config": {"lr": 0.1, "seed": 7}, "tags": ["a"], "notes": "n", "name": "mine"}
    told = stage.play(
        {**first, "resume": "allow", "group": "g"}, rows=[0.0, 1.0, 2.0], summary={"best": 5}, then="kill"
    )
    assert (told["resumed"], told["starting_step"]) == (False, 0)
    # How it died is known exactly where its agent had begun to watch it.
    until(lambda: stage.knows(name) and stage.run(name).state in {"crashed", "killed"})
    until(lambda: rows(stage.run(name)).keys() == {0, 1, 2})
    told = stage.play(
        {"id": name, "resume": "must", "config": {"lr": 0.2}}, rows=[3.0, 4.0], env=stage.elsewhere()
    )
    assert told["resumed"] and (told["starting_step"], told["step"]) == (3, 3)
    assert told["config"] == {"lr": 0.2, "seed": 7}
    assert (told["tags"], told["notes"], told["name"], told["group"]) == (["a"], "n", "mine", "g")
    assert (told["summary"]["loss"], told["summary"]["best"]) == (2.0, 5)
    run = stage.run(name)
    assert run.state == "finished"
    assert rows(run) == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}
    assert run.config == {"lr": 0.2, "seed": 7} and run.tags == ["a"]
    assert (run.name, run.notes, run.group) == ("mine", "n", "g")
    assert (run.summary["loss"], run.summary["best"], run.summary["_step"]) == (4.0, 5, 4)
    runtimes = [row["_runtime"] for row in run.scan_history()]
    assert runtimes == sorted(runtimes)
    # The wait in between does not count: by the wall clock it took longer.
    stamps = [row["_timestamp"] for row in run.scan_history()]
    assert runtimes[3] - runtimes[2] < stamps[3] - stamps[2]
    assert [point["kind"] for point in run.branch_points] == ["resume"]
    assert [(a["first_step"], a["last_step"]) for a in run.attempts()] == [(0, 2), (3, 4)]
    assert [a["state"] for a in run.attempts()] in (["crashed", "finished"], ["killed", "finished"])
    check_accounting(run)


def test_must_and_never_tell_what_is_wrong_and_allow_goes_on(stage: Stage, name: str) -> None:
    told = stage.play({"id": name, "resume": "must"})
    assert told["error"] == "UsageError" and "resume='allow'" in told["message"]
    assert stage.play({"id": name, "resume": "never"}, rows=[1.0])["resumed"] is False
    told = stage.play({"id": name, "resume": "never"})
    assert told["error"] == "UsageError" and "exists already" in told["message"]
    away = {"RUNFOLD_URL": "http://127.0.0.1:9", "RUNFOLD_FINISH_TIMEOUT": "0.2", **stage.elsewhere()}
    away["RUNFOLD_AGENT"] = "none"  # an agent would look for that server for an hour
    told = stage.play({"id": name, "resume": "must"}, env=away)
    assert told["error"] == "CommError" and "resume='allow'" in told["message"]
    assert told["took_s"] < 15
    told = stage.play({"id": name, "resume": "allow"}, rows=[2.0, 3.0], env=away)
    assert (told["resumed"], told["starting_step"]) == (False, 0) and told["took_s"] < 15
    # It did not know of step 0; on delivery its own steps follow, and hide nothing.
    done = sync(stage.server, Path(away["RUNFOLD_DIR"]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(stage.run(name)) == {0: 1.0, 1: 2.0, 2: 3.0}


def test_a_run_whose_old_process_still_lives_keeps_both(stage: Stage, name: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    old = stage.begin({"id": name}, rows=[0.0, 1.0], then=str(go), late=[-1.0, -2.0, -3.0])
    old.told()
    until(lambda: stage.knows(name) and rows(stage.run(name)).keys() == {0, 1})
    process = stage.begin(
        {"id": name, "resume": "allow"},
        rows=[2.0, 3.0],
        env={**stage.elsewhere(), "RUNFOLD_SILENT": "0"},
    )
    [output] = finish([process.process])
    assert "still written by" in output and f":{old.process.pid}" in output
    assert (process.told()["resumed"], process.told()["starting_step"]) == (True, 2)
    go.touch()
    finish([old.process])
    run = stage.run(name)
    until(lambda: {w["state"] for w in run.writers()} == {"finished"})
    assert rows(run) == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}
    logged = list(run.scan_history(per_writer=True, superseded=True))
    assert sorted(row["loss"] for row in logged) == [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    assert {row["loss"] for row in logged if row.get("_superseded")} == {-3.0, -2.0, -1.0}
    assert (run.attempts()[0]["cut_step"], run.attempts()[0]["lost_steps"]) == (2, 3)
    check_accounting(run)


def test_ranks_that_resume_at_once_go_on_together(stage: Stage, name: str) -> None:
    def ranks(attempt: int, values: list[float]) -> list[dict[str, Any]]:
        """As torchrun sets it; the run's id comes from the environment, so that all ranks share it."""
        started = [
            stage.begin(
                {"resume": "allow"},
                rows=[value + 10 * rank for value in values],
                env={
                    "RANK": str(rank),
                    "WORLD_SIZE": "2",
                    "LOCAL_RANK": str(rank),
                    "LOCAL_WORLD_SIZE": "2",
                    "TORCHELASTIC_RUN_ID": "none",
                    "TORCHELASTIC_RESTART_COUNT": str(attempt),
                    "RUNFOLD_RUN_ID": name,
                },
            )
            for rank in range(2)
        ]
        finish([one.process for one in started])
        return [one.told() for one in started]

    assert [told["resumed"] for told in ranks(0, [0.0, 1.0, 2.0])] == [False, False]
    assert [(told["resumed"], told["starting_step"]) for told in ranks(1, [3.0, 4.0])] == [(True, 3)] * 2
    run = stage.run(name)
    assert rows(run) == {step: step + 5.0 for step in range(5)}
    assert [attempt["writers"] for attempt in run.attempts()] == [2, 2]
    assert run.state == "finished" and run.mode == "shared"


def test_rewinds_keep_the_old_branches(stage: Stage, name: str) -> None:
    stage.play({"id": name, "config": {"lr": 1}}, rows=[0.0, 1.0, 2.0, 3.0, 4.0], summary={"note": "old"})
    told = stage.play({"resume_from": f"{name}?_step=2"}, rows=[30.0])
    assert told["resumed"] and told["starting_step"] == 3 and told["config"] == {"lr": 1}
    assert told["summary"] == {"loss": 2.0}
    run = stage.run(name)
    assert rows(run) == {0: 0.0, 1: 1.0, 2: 2.0, 3: 30.0}
    assert (run.summary["loss"], run.summary["_step"], "note" in run.summary.keys()) == (30.0, 3, False)
    assert run.to_dict()["last_step"] == 3
    assert rows(run, attempt=1) == {0: 0.0, 1: 1.0, 2: 2.0}
    assert rows(run, attempt=1, superseded=True) == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}
    stage.play({"resume_from": f"{name}?_step=0"}, rows=[10.0, 20.0], env=stage.elsewhere())
    run = stage.run(name)
    assert rows(run) == {0: 0.0, 1: 10.0, 2: 20.0}
    assert [attempt["cut_step"] for attempt in run.attempts()] == [1, 1, None]
    assert [(p["kind"], p["step"]) for p in run.branch_points] == [("rewind", 2), ("rewind", 0)]
    assert rawconfig(run)["branch_point"] == {"run_id": name, "step": 0}
    check_accounting(run)


def rawconfig(run: runfold.api.Run) -> dict[str, Any]:
    return run.rawconfig["_wandb"]


def test_forks_begin_with_their_bases_rows_whenever_these_come(stage: Stage, name: str) -> None:
    spooled = stage.elsewhere()
    stage.play(
        {"id": name}, rows=[float(step) for step in range(6)], env={**spooled, "RUNFOLD_MODE": "offline"}
    )
    fork, twice = f"{name}f", f"{name}t"
    told = stage.play({"id": fork, "fork_from": f"{name}?_step=3"}, rows=[40.0, 50.0])
    assert (told["resumed"], told["starting_step"], told["step"]) == (False, 4, 0)
    run = stage.run(fork)
    assert rows(run) == {4: 40.0, 5: 50.0}  # its base is not known yet
    assert run.summary["_step"] == 5
    assert run.forked_from == {"run_id": name, "step": 3}
    stage.play({"id": twice, "fork_from": f"{fork}?_step=4"}, rows=[55.0, 66.0], env=stage.elsewhere())
    done = sync(stage.server, Path(spooled["RUNFOLD_DIR"]))
    assert done.returncode == 0, done.stdout + done.stderr
    expected = {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 40.0, 5: 50.0}
    assert rows(stage.run(fork)) == expected
    assert rows(stage.run(twice)) == {**expected, 5: 55.0, 6: 66.0}
    series = stage.run(twice).history(keys=["loss"], pandas=False)
    assert [row["loss"] for row in series] == [0.0, 1.0, 2.0, 3.0, 40.0, 55.0, 66.0]
    assert set(stage.run(twice).history_keys["keys"]) >= {"loss"}
    # The base goes its own way: what it takes back stays its fork's.
    stage.play({"resume_from": f"{name}?_step=0"}, rows=[-1.0])
    assert rows(stage.run(name)) == {0: 0.0, 1: -1.0}
    assert rows(stage.run(fork)) == expected
    check_accounting(stage.run(fork))


def test_runs_go_on_offline_as_far_as_the_spools_know_them(stage: Stage, name: str) -> None:
    folder = stage.elsewhere()
    env = {**folder, "RUNFOLD_MODE": "offline"}
    told = stage.play(
        {"id": name, "resume": "must", "config": {"lr": 1}, "tags": ["x"]}, rows=[0.0, 1.0], env=env
    )
    assert told["resumed"] is False  # nobody can tell that it does not exist elsewhere
    told = stage.play({"id": name, "resume": "allow"}, rows=[2.0], env=env)
    assert told["resumed"] and (told["starting_step"], told["step"]) == (2, 2)
    assert (told["config"], told["tags"], told["summary"]["loss"]) == ({"lr": 1}, ["x"], 1.0)
    assert stage.play({"id": name, "resume": "never"}, env=env)["error"] == "UsageError"
    told = stage.play({"resume_from": f"{name}?_step=0"}, rows=[10.0], env=env)
    assert told["resumed"] and told["starting_step"] == 1
    done = sync(stage.server, Path(folder["RUNFOLD_DIR"]))
    assert done.returncode == 0, done.stdout + done.stderr
    run = stage.run(name)
    assert rows(run) == {0: 0.0, 1: 10.0}
    assert sorted(row["loss"] for row in run.scan_history(per_writer=True, superseded=True)) == [
        0.0,
        1.0,
        2.0,
        10.0,
    ]
    assert run.config == {"lr": 1} and run.tags == ["x"]


def test_a_deleted_runs_id_is_refused_and_what_comes_late_is_told_of(
    stage: Stage, name: str, tmp_path: Path
) -> None:
    stage.play({"id": name}, rows=[0.0])
    api = runfold.Api(url=stage.server.url)
    stage.run(name).delete()
    for how in ({}, {"resume": "never"}, {"resume": "allow"}):
        told = stage.play({"id": name, **how}, rows=[9.0])
        assert told["error"] == "CommError"
        assert f"runfold undelete local/journey/{name}" in told["message"]
    away = stage.elsewhere()
    told = stage.play({"id": name, "mode": "offline"}, env=away, rows=[1.0])
    assert "error" not in told
    done = sync(stage.server, Path(away["RUNFOLD_DIR"]))
    assert done.returncode == 0, done.stderr
    assert f"local/journey/{name} was deleted" in done.stdout
    api.undelete(f"journey/{name}")
    assert sorted(rows(stage.run(name)).values()) == [0.0, 1.0]
    assert "deleted" not in sync(stage.server, Path(away["RUNFOLD_DIR"])).stdout


def test_the_documents_example_runs_as_written(stage: Stage) -> None:
    text = (Path(__file__).parents[2] / "docs" / "resume.md").read_text()
    program = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    finish([start("support.program", program, env=stage.server.env)])
    api = runfold.Api(url=stage.server.url)
    run, fork = api.run("vision/job-18"), api.run("vision/job-18-b")
    assert [row["_step"] for row in run.scan_history()] == [0, 1, 2, 3, 4, 5]
    assert run.config["lr"] == 0.05
    assert [row["loss"] for row in fork.scan_history()] == [1.0, 0.5, 1 / 3, 0.3]
    assert len(list(run.scan_history(superseded=True, per_writer=True))) == 12
    assert [row["_step"] for row in run.scan_history(attempt=1, superseded=True)] == list(range(10))

"""Runs are changed, made and deleted from outside while their processes live, over the whole path."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

import runfold
from runfold.api import RequestError, RunNotFoundError
from runfold_coordinator.testing import LocalServer
from support.processes import environment, until

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("edits")]

#: A trainer that does what it is told, a line of Python at a time, and answers when it has.
TRAINER = """
import os, sys, runfold
run = runfold.init(project="edits", id=sys.argv[1], config={"lr": 0.1, "batch": 8}, name="made", tags=["t"])
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
run.finish()
"""


class Trainer:
    """A live process of a run."""

    def __init__(
        self, env: Mapping[str, str], run_id: str, *arguments: str, folder: Path | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", TRAINER, run_id, *arguments],
            env=environment(env),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, line: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def end(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(timeout=60)

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer(env={"RUNFOLD_DELETED_KEEP_S": "3600"}) as started:
        yield started


@pytest.fixture(scope="module")
def api(server: LocalServer) -> Iterator[runfold.Api]:
    opened = runfold.Api(url=server.url)
    yield opened
    opened.close()


def until_run(api: runfold.Api, path: str, holds: Any) -> runfold.api.Run:
    def look() -> Any:
        try:
            run = api.run(path)
        except RunNotFoundError:
            return None
        return run if holds(run) else None

    found: runfold.api.Run = until(look, limit_s=40)
    return found


def test_a_live_run_is_edited_and_nothing_of_either_side_is_lost(
    server: LocalServer, api: runfold.Api
) -> None:
    with Trainer(server.env, "live") as trainer:
        trainer.do("run.log({'loss': 1.0, 'acc': 0.5})")
        run = until_run(api, "edits/live", lambda run: run.summary.get("loss") == 1.0)
        run.name, run.notes = "edited", "**seen**"
        run.tags.append("best")
        run.config["lr"], run.config["more"] = 0.2, {"deep": [1, None]}
        run.summary["acc"], run.summary["by_hand"] = 0.99, 1
        run.update()
        seen = api.run("edits/live")
        assert (seen.name, seen.notes, seen.tags) == ("edited", "**seen**", ["t", "best"])
        assert seen.config == {"lr": 0.2, "batch": 8, "more": {"deep": [1, None]}}
        assert [found.id for found in api.runs("edits", {"config.lr": 0.2, "summary_metrics.acc": 0.99})] == [
            "live"
        ]
        trainer.do(
            "run.log({'loss': 0.5, 'acc': 0.6}); run.config.update({'batch': 16}, allow_val_change=True); run.summary['own'] = 2"
        )
        seen = until_run(
            api, "edits/live", lambda run: run.summary.get("own") == 2 and run.config["batch"] == 16
        )
        assert seen.config == {"lr": 0.2, "batch": 16, "more": {"deep": [1, None]}}
        assert (seen.name, seen.summary["acc"], seen.summary["by_hand"]) == ("edited", 0.99, 1)
        trainer.do(
            "run.name = 'mine'; run.tags = ['x']; run.config.update({'lr': 0.3}, allow_val_change=True)"
        )
        trainer.do("run.summary['acc'] = 0.7")
        seen = until_run(api, "edits/live", lambda run: run.summary["acc"] == 0.7 and run.name == "mine")
        assert (seen.tags, seen.config["lr"], seen.notes) == (["x"], 0.3, "**seen**")
        assert trainer.end() == 0
    run.wait_until_finished(timeout_s=40, poll_interval_s=0.1)
    assert (run.state, run.summary["loss"], run.summary["by_hand"], run.name) == ("finished", 0.5, 1, "mine")
    assert [row["loss"] for row in run.scan_history(keys=["loss"])] == [1.0, 0.5]


def test_a_run_is_deleted_while_it_lives_and_comes_back_whole(
    server: LocalServer, api: runfold.Api, tmp_path: Path
) -> None:
    with Trainer(server.env, "gone", folder=tmp_path) as trainer:
        trainer.do("run.log({'loss': 1.0})")
        run = until_run(api, "edits/gone", lambda run: run.history_line_count == 1)
        deleted = command(server, "delete", "edits/gone", "--yes", "--json")
        assert json.loads(deleted.stdout) == {"deleted": ["local/edits/gone"]}
        with pytest.raises(RunNotFoundError, match="undelete"):
            api.run("edits/gone")
        assert "gone" not in [found.id for found in api.runs("edits")]
        trainer.do(
            "open('kept.txt', 'w').write('hello'); run.log({'loss': 0.5}); run.save('kept.txt', policy='now')"
        )
        assert trainer.end() == 0  # finish() waits until all of it is stored
    listed = json.loads(command(server, "undelete", "--json").stdout)["runs"]
    assert [(found["id"], found["row_count"]) for found in listed] == [("gone", 2)]
    assert command(server, "undelete", "edits/gone").stdout.startswith("local/edits/gone is back")
    run = until_run(api, "edits/gone", lambda run: run.state == "finished")
    assert [row["loss"] for row in run.scan_history()] == [1.0, 0.5]
    assert run.file("kept.txt").size == 5


def test_a_run_that_waits_is_joined_and_set_to_wait_again(server: LocalServer, api: runfold.Api) -> None:
    from runfold.api import Run

    waiting = Run.create(api, "queued", "edits", state="pending")
    assert waiting.state == "pending"
    waiting.config["queue"] = "fast"
    waiting.update()
    code = "import runfold; run = runfold.init(project='edits', id='queued', name='x'); run.log({'a': 1}); run.finish(3)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(server.env), timeout=60, check=False)
    assert done.returncode == 0
    run = until_run(api, "edits/queued", lambda run: run.state == "failed")
    assert (run.config, run.summary["a"]) == ({"queue": "fast"}, 1)
    assert run.update_state("pending")
    assert run.update_state("pending")  # as after an answer that was lost
    assert api.run("edits/queued").state == "pending"
    made = api.create_run(project="edits")
    with pytest.raises(RequestError, match="invalid state transition from running to pending"):
        made.update_state("pending")


def test_runs_of_a_sweep_are_found_together_and_say_what_they_were_started_from(
    server: LocalServer, api: runfold.Api, tmp_path: Path
) -> None:
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        subprocess.run(git, cwd=tmp_path, check=True, timeout=30)
    remote = ["git", "remote", "add", "origin", "https://ann:secret@example.org/r.git"]
    subprocess.run(remote, cwd=tmp_path, check=True, timeout=30)
    commit = subprocess.check_output(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, text=True, timeout=30
    ).strip()
    for number, name in enumerate(("WANDB_SWEEP_ID", "RUNFOLD_SWEEP_ID")):
        env = {**server.env, name: "s1", "USER": "ann", "LOGNAME": "ann"}
        with Trainer(
            env, f"trial{number}", "--lr", "0.1", "--api-key", "hunter22", folder=tmp_path
        ) as trainer:
            trainer.do(f"run.log({{'acc': {number}}}); assert run.sweep_id == 's1'")
            trainer.do("assert run.sweep_url == run.get_sweep_url() == run.project_url + '/sweeps/s1'")
            assert trainer.end() == 0
    sweep = until(
        lambda: (found := api.sweep("edits/s1")).run_count == 2 and found.state == "FINISHED" and found
    )
    assert sweep.path == ["local", "edits", "s1"]
    assert [run.id for run in sweep.runs] == [run.id for run in api.runs("edits", {"sweep": "s1"})]
    best = sweep.best_run("-summary_metrics.acc")
    assert best is not None
    assert (best.id, best.sweep_id, best.sweep and best.sweep.id) == ("trial1", "s1", "s1")
    assert [found.id for found in api.project("edits").sweeps()] == ["s1"]
    assert httpx.get(sweep.url, timeout=10).status_code == 200
    assert best.metadata is not None
    assert best.metadata["args"] == ["trial1", "--lr", "0.1", "--api-key", "[redacted]"]
    assert best.metadata["git"] == {
        "commit": commit,
        "branch": best.metadata["git"]["branch"],
        "remote": "https://[redacted]@example.org/r.git",
        "root": str(tmp_path),
    }
    assert (best.commit, best.user, best.user and best.user.username) == (commit, "ann", "ann")
    assert {"python", "os", "executable", "host", "startedAt"} <= set(best.metadata)
    until(lambda: {"cpu_count", "memory"} <= set(api.run("edits/trial1").metadata or {}))
    with pytest.raises(ValueError, match="no run of"):
        api.sweep("edits/other")
    runs = api.runs("edits", {"sweep": "s1"}, order="+created_at")
    rows = runs.histories(keys=["acc"])
    assert [(row["run_id"], row["acc"]) for row in rows] == [("trial0", 0), ("trial1", 1)]
    frame = runs.histories(keys=["acc"], format="pandas")
    assert list(frame.columns) == ["_step", "acc", "run_id"]
    assert (len(runs), runs.length, runs.order, runs.more) == (2, 2, "+created_at", False)
    with pytest.raises(ValueError, match="Invalid format"):
        runs.histories(format="csv")


def command(server: LocalServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runfold", *arguments], env=environment(server.env), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

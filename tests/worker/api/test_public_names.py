"""Every public name of `Api`, `Run` and `Group` answers over real runs, and the documents' examples run as written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

import runfold
import runfold.api
from runfold_coordinator.testing import LocalServer
from support.processes import environment

pytestmark = pytest.mark.journey

ROOT = Path(__file__).parents[3]
PARTS = ["productive_s", "lost_s", "startup_s", "stalled_s", "restart_s", "other_s"]
STATISTICS = ["mean", "std", "min", "max", "count", "argmin", "argmax"]

#: The runs that README.md and docs/api.md speak of: a shared run of two ranks, one that failed, groups of folds.
PROGRAM = """
import runfold
for rank in range(2):
    run = runfold.init(project="digits", id="job-17",
                       settings=runfold.Settings(mode="shared", x_label=f"rank-{rank}", x_primary=rank == 0))
    run.define_metric("loss", summary="min,last", reduce="mean")
    run.define_metric("tokens", reduce="sum")
    for step in range(10):
        run.log({"loss": 1 / (step + 1 + rank), "tokens": 8, "nested": {"a": step}}, step=step)
    run.finish()
for project, group in (("digits", "cv-3"), ("vision", "cv")):
    for fold in range(3):
        run = runfold.init(project=project, group=group, job_type="fold", fold=fold, config={"lr": 0.05})
        run.log({"loss": 1.0 + fold, "accuracy": 0.5})
        run.log({"loss": 0.5 + fold, "accuracy": 0.75})
        run.finish()
run = runfold.init(project="vision", id="abc12345", config={"lr": 0.1}, name="calm", tags=["a"], notes="n")
run.log({"loss": 1.0})
raise ValueError("diverged")
"""


def says_that_it_has_ended(run: Any) -> bool:
    with pytest.raises(runfold.api.RunEndedError, match="ended already: finished"):
        run.stop(grace_s=30)
    return run.stop_requests() == []


RUN: dict[str, Callable[[Any], bool]] = {
    "state": lambda run: run.state == "finished",
    "reason": lambda run: run.reason == "exit code 0",
    "first_failure": lambda run: run.first_failure is None,
    "scan_history": lambda run: (
        [row["_step"] for row in run.scan_history(keys=None, page_size=3, min_step=2, max_step=9)]
        == list(range(2, 9))
        and next(run.scan_history())["nested"] == {"a": 0}
        and next(run.scan_history(keys=["tokens"])) == {"tokens": 16}
    ),
    "scan_history(per_writer=True)": lambda run: (
        len(rows := list(run.scan_history(per_writer=True))) == 20
        and {"_label", "_rank", "_attempt", "_writer", "_seq"} <= set(rows[0])
        and {row["_label"] for row in rows} == {"rank-0", "rank-1"}
    ),
    "console_logs": lambda run: (
        len(list(run.console_logs(per_page=10))) == 0 and len(list(run.console_logs(last=5, rank=1))) == 0
    ),
    "history": lambda run: (
        isinstance(frame := run.history(), pandas.DataFrame)
        and list(frame["_step"]) == list(range(10))
        and run.history(samples=500, keys=["loss"], x_axis="_step", pandas=False, stream="default")[0]
        == {"_step": 0, "loss": 0.75}
        and {"_timestamp", "_runtime"} <= set(run.history(stream="system"))
    ),
    "system_metrics": lambda run: all(
        name.startswith("system.") and isinstance(value, float) for name, value in run.system_metrics.items()
    ),
    "history(stats=True)": lambda run: (
        set(run.history(keys=["loss"], stats=True)) == {"_step", "loss", *(f"loss:{name}" for name in STATISTICS)}
    ),
    "writers": lambda run: all(
        {"label", "rank", "local_rank", "attempt", "host", "pid", "state", "reason", "unreachable", "stalled",
         "last_step", "last_seen"} <= set(writer) and writer["state"] == "finished"
        for writer in run.writers()
    ) and len(run.writers()) == 2,
    "accounting": lambda run: (
        set(counts := run.accounting()) == {"acknowledged", "stored", "declared_gaps", "dead_letters", "pending"}
        and counts["acknowledged"] == counts["stored"] > 20
    ),
    "attempts": lambda run: len(run.attempts()) == 1,
    "stop": says_that_it_has_ended,
    "alerts": lambda run: run.alerts() == [],
    "goodput": lambda run: (
        (report := run.goodput())["failures"] == 0
        and 0 < report["ratio"] <= 1
        and abs(sum(report[name] for name in PARTS) - report["wall_s"]) < 1e-6
    ),
}  # fmt: skip

GROUP: dict[str, Callable[[Any], bool]] = {
    "history": lambda group: (
        list(group.history(keys=None, samples=500, x_axis="_step", pandas=True, stats=False)["loss"])
        == [2.0, 1.5]
    ),
    "history(stats=True)": lambda group: (
        {f"loss:{name}" for name in STATISTICS} <= set(frame := group.history(keys=["loss"], stats=True))
        and list(frame["loss:std"]) == [1.0, 1.0]
        and frame["loss:argmin"][0] == group.runs()[0].id
    ),
    "summary": lambda group: len(group.summary(pandas=True)) == len(group.summary(pandas=False)) == 3,
    "table": lambda group: (
        {"mean", "std", "min", "max", "median", "n", "ci95_low", "ci95_high"} <= set(group.table(by=None))
        and set(group.table(by="lr")["lr"]) == {0.05}
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as started:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment(started.env), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert "diverged" in done.stderr, done.stderr
        api = runfold.Api(url=started.url)
        for path in ("digits/job-17", "vision/abc12345"):
            api.run(path).wait_until_finished(timeout_s=30, poll_interval_s=0.05)
        yield started


@pytest.fixture
def api(server: LocalServer) -> Iterator[runfold.Api]:
    opened = runfold.Api(url=server.url, api_key=None, timeout=None)
    yield opened
    opened.close()


def test_runs_and_groups_are_found_with_and_without_an_entity(api: runfold.Api) -> None:
    for path in ("local/digits/job-17", "digits/job-17"):
        assert isinstance(api.run(path), runfold.api.Run)
    found = api.runs("local/vision", filters={"state": "failed"}, order="-created_at")
    assert [run.id for run in found] == ["abc12345"]
    for path in ("local/digits/cv-3", "digits/cv-3"):
        assert len(api.group(path)) == 3


@pytest.mark.parametrize("name", RUN)
def test_a_name_of_a_run_answers(api: runfold.Api, name: str) -> None:
    assert RUN[name](api.run("local/digits/job-17"))


@pytest.mark.parametrize("name", GROUP)
def test_a_name_of_a_group_answers(api: runfold.Api, name: str) -> None:
    assert GROUP[name](api.group("local/digits/cv-3"))


def test_a_failure_is_told_with_its_traceback(api: runfold.Api) -> None:
    run = api.run("vision/abc12345")
    assert run.state == "failed"
    assert "ValueError" in run.reason
    assert {"rank", "host", "reason", "traceback"} <= set(run.first_failure or {})


@pytest.mark.parametrize(
    ("document", "after"), [("README.md", "### Read it back"), ("docs/api.md", "## Python")]
)
def test_the_examples_of_the_documents_run_as_written(server: LocalServer, document: str, after: str) -> None:
    text = (ROOT / document).read_text().split(after, 1)[1]
    match = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert match is not None
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import runfold\n" + match[1]],
        env=environment(server.env), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")

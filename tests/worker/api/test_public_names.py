"""Every public name answers over real runs: of `Api`, its `Run` and `Group`, and of the `Run` of a training process.

checklist.py has the names that the source pages list: each exists, has a docstring, is named in the documents, and is called by
a check here or in sdk_checks.py. The documents' examples run as written.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, reduce
from pathlib import Path
from typing import Any

import pandas
import pytest

import runfold
import runfold.api
from runfold_coordinator.testing import LocalServer
from support.processes import environment, until
from worker.api import checklist, sdk_checks

#: Its server and the runs on it are for all; were they spread, each worker would make them.
pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("names")]

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


def edits_it(run: Any) -> bool:
    """Change all that can be changed, and find it again."""
    run.tags.append("edited")
    run.notes, run.name, run.config["edited"] = "seen", "job", True
    run.summary["edited"] = 1
    run.update()
    run.summary.update({"more": 2})
    run.save()
    found = runfold.Api(url=run.url.split("/local/")[0]).run("digits/job-17")
    return (found.tags, found.notes, found.name, found.config, found.summary["more"]) == (
        ["edited"],
        "seen",
        "job",
        {"edited": True},
        2,
    )


def uploads_and_reads(run: Any, folder: Path) -> bool:
    (folder / "deep").mkdir()
    (folder / "deep" / "file.txt").write_text("hello")
    run.upload_file(str(folder / "deep" / "file.txt"), root=str(folder))
    with run.file("deep/file.txt").download(root=str(folder / "got"), replace=True) as opened:
        return bool(opened.read() == "hello") and "deep/file.txt" in [file.name for file in run.files()]


def makes_and_deletes(run: Any) -> bool:
    api = runfold.Api(url=run.url.split("/local/")[0])
    made = type(run).create(api, run_id="made", project="digits", entity="local", state="pending")
    is_there = api.run("digits/made").state == made.state == "pending"
    made.delete(delete_artifacts=False)
    with pytest.raises(runfold.api.RunNotFoundError):
        api.run("digits/made")
    return is_there


#: Names of section B that are called with a stored run, and what they are called with elsewhere.
PUBLIC: dict[str, Callable[[Any, Path], Any]] = {
    "tags": lambda run, _: isinstance(run.tags, list),
    "url": lambda run, _: run.url.endswith("/local/digits/runs/job-17"),
    "id": lambda run, _: run.id == "job-17",
    "name": lambda run, _: isinstance(run.name, str),
    "config": lambda run, _: isinstance(run.config, dict),
    "created_at": lambda run, _: run.created_at.endswith("Z"),
    "summary": lambda run, _: run.summary["loss"]["min"] > 0,
    "project": lambda run, _: run.project == "digits",
    "entity": lambda run, _: run.entity == "local",
    "user": lambda run, _: run.user is None or run.user.username == run.user,
    "path": lambda run, _: run.path == ["local", "digits", "job-17"],
    "notes": lambda run, _: run.notes in (None, "seen"),
    "read_only": lambda run, _: run.read_only is False,
    "history_keys": lambda run, _: {"loss", "tokens"} <= set(run.history_keys["keys"]),
    "load": lambda run, _: run.load(force=True)["id"] == "job-17",
    "update": lambda run, _: edits_it(run),
    "save": lambda run, _: run.save() is None,
    "create": lambda run, _: makes_and_deletes(run),
    "delete": lambda run, _: run.delete.__doc__,  # called with `create`
    "file": uploads_and_reads,
    "files": lambda run, _: len(run.files(names=["deep/file.txt"], per_page=10)) <= 1,
    "upload_file": lambda run, _: run.upload_file.__doc__,  # called with `file`
    "logged_artifacts": lambda run, _: list(run.logged_artifacts(per_page=10)) == [],
    "used_artifacts": lambda run, _: isinstance(list(run.used_artifacts(per_page=10)), list),
    "wait_until_finished": lambda run, _: run.wait_until_finished(timeout_s=10) is None,
    "display": lambda run, _: run.display(height=100, hidden=False) is False,
    "to_html": lambda run, _: "digits/runs/job-17" in run.to_html(height=100, hidden=False),
    "snake_to_camel": lambda run, _: run.snake_to_camel("display_name") == "displayName",
}

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


@pytest.fixture(scope="module")
def trained(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What was wrong with each name of the `Run` of a training process: "" for nothing."""
    folder = tmp_path_factory.mktemp("checks")
    done = subprocess.run(
        [sys.executable, "-m", "worker.api.sdk_checks", str(folder)], env=environment(server.env), cwd=folder,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    api = runfold.Api(url=server.url)
    api.run(f"digits/{sdk_checks.RUN_ID}").wait_until_finished(timeout_s=60, poll_interval_s=0.1)
    return found


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


@pytest.mark.parametrize("name", [*PUBLIC, "log_artifact", "use_artifact"])
def test_a_name_of_the_source_pages_answers(
    api: runfold.Api, request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    run = api.run("local/digits/job-17")
    if name in PUBLIC:
        assert PUBLIC[name](run, tmp_path)
    else:
        request.getfixturevalue("trained")
        artifact = api.artifact("local/digits/data:v0")
        assert getattr(run, name)(artifact).name == "data:v0"


@pytest.mark.parametrize("name", checklist.API)
def test_a_name_of_api_answers(api: runfold.Api, request: pytest.FixtureRequest, name: str) -> None:
    if name in ("artifact", "sweep"):
        request.getfixturevalue("trained")
    answers: dict[str, Callable[[], Any]] = {
        "run": lambda: api.run("digits/job-17").id == "job-17",
        "runs": lambda: (
            len(api.runs("digits", filters={"group": "cv-3"}, order="-created_at", per_page=2)) == 3
        ),
        "artifact": lambda: api.artifact("digits/data:best").version == "v0",
        "projects": lambda: {"digits", "vision"} <= {project.name for project in api.projects()},
        "project": lambda: api.project("digits").run_count >= 4,
        "group": lambda: len(api.group("digits/cv-3")) == 3,
        "create_run": lambda: api.create_run(project="made").state == "running",
        "create_project": lambda: api.create_project("empty") is None and api.project("empty").run_count == 0,
        "sweep": lambda: [run.id for run in api.sweep("digits/s7").runs] == [sdk_checks.RUN_ID],
    }
    assert answers[name]()


SDK_NAMES = [*checklist.RUN_PROPERTIES, *checklist.RUN_METHODS, *checklist.MEDIA]
SDK_NAMES += [*(f"plot.{name}" for name in checklist.PLOTS), "plots.precision_recall", "runfold.plot_table"]


@pytest.mark.parametrize("name", SDK_NAMES)
def test_a_name_of_a_training_process_works(trained: dict[str, str], api: runfold.Api, name: str) -> None:
    assert trained.get(name, "is not called by any check") == ""
    stored = sdk_checks.all_stored().get(name)
    if stored is None:
        return
    path = f"digits/{sdk_checks.RUN_ID}"

    def is_stored() -> Any:
        with contextlib.suppress(LookupError):
            return stored(api.run(path))

    until(is_stored, limit_s=30)


#: (where it is, name) of every name of the checklist.
LISTED = [
    *(("Run", name) for name in (*checklist.RUN_PROPERTIES, *checklist.RUN_METHODS)),
    *(("runfold", name) for name in (*checklist.MEDIA, *checklist.MODULE)),
    *(("runfold", f"plot.{name}") for name in checklist.PLOTS),
    *(("api.Run", name) for name in (*checklist.PUBLIC_ATTRIBUTES, *checklist.PUBLIC_METHODS)),
    *(("Api", name) for name in checklist.API),
]


@pytest.mark.parametrize(("place", "name"), LISTED)
def test_a_name_of_the_source_pages_exists_and_is_documented(place: str, name: str) -> None:
    from runfold.run import Run

    places = {"Run": Run, "runfold": runfold, "api.Run": runfold.api.Run, "Api": runfold.Api}
    found = (
        Run.__init__
        if (place, name) == ("Run", "summary")
        else reduce(getattr, name.split("."), places[place])
    )
    assert (found.__doc__ or "").strip(), "it has no docstring"
    shown = {"__enter__": "with"}.get(name, name)
    assert re.search(rf"\b{re.escape(shown)}\b", all_documents()), "no document names it"


@cache
def all_documents() -> str:
    return "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))


def test_every_name_of_section_b_is_called() -> None:
    called = {*PUBLIC, *RUN, "log_artifact", "use_artifact"}
    assert {*checklist.PUBLIC_ATTRIBUTES, *checklist.PUBLIC_METHODS} - called == set()


def test_a_failure_is_told_with_its_traceback(api: runfold.Api) -> None:
    run = api.run("vision/abc12345")
    assert run.state == "failed"
    assert "ValueError" in run.reason
    assert {"rank", "host", "reason", "traceback"} <= set(run.first_failure or {})


@pytest.mark.parametrize(
    ("document", "after"),
    [
        ("README.md", "### Read it back"),
        ("docs/api.md", "## Python"),
        ("docs/run.md", "# The run"),
        ("docs/edits.md", "# Changing runs"),
    ],
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

"""Tables and charts, from log() to a fresh reader: rows, files, artifacts with their media, and the page."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.processes import finish, start, until

#: One job is read by all; were they spread, each worker would run it.
pytestmark = pytest.mark.xdist_group("tables")

TRAINER = """
import datetime, sys
import numpy as np, pandas as pd
import runfold

run = runfold.init(project="tables", id=sys.argv[2], name=EVIL, config={EVIL: EVIL})
picture = runfold.Image(np.arange(48, dtype=np.uint8).reshape(4, 4, 3), caption="small")
table = runfold.Table(columns=["image", "when", "array", "score"])
table.add_data(picture, datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), np.array([1.5, 2.5]), 0.5)
table.add_data(picture, None, np.array([0.0, float("nan")]), None)
run.log({"mixed": table, "loss": 1.0})
run.log({"frame": pd.DataFrame({"a": [1, 2], "b": ["x", None]}), "image": picture})
one = runfold.Table(columns=["id", "v"], data=[["k", 1]])
two = runfold.Table(columns=["id", "w"], data=[["k", 2]])
run.log({"joined": runfold.JoinedTable(one, two, "id")})
run.log({"roc": runfold.plot.roc_curve([0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])})
growing = runfold.Table(columns=["a"], data=[[1]], log_mode="INCREMENTAL")
run.log({"growing": growing})
growing.add_data(2)
run.log({"growing": growing})
parts = runfold.Artifact("parts-" + sys.argv[2], "dataset")
for part in range(2):
    parts.add(runfold.Table(columns=["n"], data=[[part], [part + 10]]), f"rows/{part}")
parts.add(runfold.data_types.PartitionedTable("rows"), "all")
run.log_artifact(parts)
run.finish()
"""
EVIL = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def stored(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("trainer")
    name = uuid.uuid4().hex[:8]
    env = {**server.env, "RUNFOLD_DIR": str(folder / "home")}
    finish([start("support.program", f"EVIL = {EVIL!r}\n{TRAINER}", name, env=env)])
    run = runfold.Api(url=server.url).run(f"tables/{name}")
    run.wait_until_finished(timeout_s=60, poll_interval_s=0.1)
    until(lambda: not list(run.files(state="pending")))
    until(lambda: len(run.logged_artifacts()) == 7)
    run.load(force=True)
    return run


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFOLD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNFOLD_ARTIFACT_DIR", str(tmp_path / "artifacts"))


def artifact(run: Any, name: str) -> Any:
    return next(each for each in run.logged_artifacts() if each.name.split(":")[0] == name)


def text_of(run: Any, key: str, folder: Path) -> Any:
    with run.file(run.summary_metrics[key]["path"]).download(root=folder, exist_ok=True) as file:
        return json.load(file)


def test_a_tables_file_holds_what_pages_show(stored: Any, tmp_path: Path) -> None:
    told = text_of(stored, "mixed", tmp_path)
    assert told["columns"] == ["image", "when", "array", "score"]
    assert told["data"][0] == ["Image", "2020-01-02T00:00:00Z", [1.5, 2.5], 0.5]
    frame = text_of(stored, "frame", tmp_path)
    assert frame["columns"] == ["a", "b"]
    assert frame["data"][0] == [1, "x"]
    assert [row["loss"] for row in stored.scan_history() if "loss" in row] == [1.0]


def test_a_tables_artifact_gives_it_back_with_its_media(stored: Any) -> None:
    found = artifact(stored, f"run-{stored.id}-mixed").get("mixed")
    assert found.columns == ["image", "when", "array", "score"]
    (image, when, array, score), (_, no_time, _, no_score) = found.data
    assert isinstance(image, runfold.Image)
    assert image.caption == "small"
    assert image.image.size == (4, 4)
    assert when == datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
    assert list(array) == [1.5, 2.5]
    assert (score, no_time, no_score) == (0.5, None, None)


def test_tables_that_are_made_of_others_are_read_whole(stored: Any) -> None:
    joined = artifact(stored, f"run-{stored.id}-joined").get("joined")
    assert joined == runfold.JoinedTable(
        runfold.Table(columns=["id", "v"], data=[["k", 1]]),
        runfold.Table(columns=["id", "w"], data=[["k", 2]]),
        "id",
    )
    parts = artifact(stored, f"parts-{stored.id}").get("all")
    assert list(parts.iterrows()) == [(0, [0]), (1, [10]), (2, [1]), (3, [11])]
    assert artifact(stored, f"parts-{stored.id}").get("nothing") is None


def test_increments_are_versions_of_one_artifact(stored: Any) -> None:
    summary = stored.summary_metrics["growing"]
    assert (summary["increment_num"], summary["nrows"]) == (1, 2)
    name = f"run-{stored.id}-incr-growing"
    versions = sorted(each.version for each in stored.logged_artifacts() if each.name.startswith(f"{name}:"))
    assert versions == ["v0", "v1"]


def test_a_chart_is_stored_so_that_it_can_be_drawn(stored: Any, tmp_path: Path) -> None:
    from runfold.protocol.charts import CustomChartSpec

    told = stored.rawconfig["_wandb"]["visualize"]["roc"]
    spec = CustomChartSpec.from_config("roc", told)
    assert spec is not None
    table = text_of(stored, spec.table_key, tmp_path)
    drawn = spec.vega_lite(table["columns"], table["data"])
    assert drawn is not None
    assert drawn["data"]["values"][0] == {"class": 0, "fpr": 0.0, "tpr": 0.0}


CHROMIUM = next(
    filter(
        None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))
    ),
    None,
)


def page(url: str, profile: Path) -> str:
    """Return the page's elements as a browser has them after some seconds of its time."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=9000"]
    done = subprocess.run(
        [*command, f"--user-data-dir={profile}", "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_run_and_runs_nothing_of_it(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    shown = until(lambda: _when_loaded(page(stored.url, tmp_path / "profile")), every_s=1.0)
    assert "<title>taken" not in shown
    assert "<script>document.title" not in shown
    assert "&lt;script&gt;document.title" in shown
    thumbnails = shown.partition('id="thumbnails"')[2].partition("</div>")[0]
    assert thumbnails.count("<img") == 1
    assert "media%2Fimages%2Fimage_" in thumbnails
    assert f"run-{stored.id}-mixed:v0" in shown


def _when_loaded(text: str) -> str | None:
    return text if "run_table" in text and "<img" in text.partition('id="thumbnails"')[2] else None

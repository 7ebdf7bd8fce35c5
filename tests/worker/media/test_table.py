"""Tables: what columns take, what is refused and why, what is logged of them."""

from __future__ import annotations

import datetime
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runfold
from runfold.media.cell_types import DictOf, type_of
from runfold.media.run_table import collection_name, file_name
from runfold.media.table_cells import captured_rows, milliseconds
from runfold.protocol.artifact_names import check_name
from runfold.protocol.file_names import check_file_name
from runfold.uploads.jobs import ArtifactJob, FileJob
from runfold.uploads.outbox import Outbox
from support.processes import until

WHY = """Data row contained incompatible types:
{'a': 'x', 'b': 2} of type {'a': String, 'b': Number} is not assignable to {'a': None or Number, 'b': None or Number}
Key 'a':
\tString not assignable to None or Number
\t\tString not assignable to None
\tand
\t\tString not assignable to Number"""

cells = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)


def test_a_cell_that_does_not_fit_is_refused_with_the_reason() -> None:
    table = runfold.Table(columns=["a", "b"], data=[[1, 2]])
    with pytest.raises(TypeError) as refusal:
        table.add_data("x", 2)
    assert str(refusal.value) == WHY
    assert table.data == [[1, 2]]


@given(st.lists(cells, max_size=6))
def test_mixed_columns_take_anything_and_other_columns_what_their_type_takes(values: list[Any]) -> None:
    mixed = runfold.Table(columns=["a"], allow_mixed_types=True)
    typed = runfold.Table(columns=["a"])
    for value in values:
        mixed.add_data(value)
        whole = typed._column_types
        if whole.taking({"a": value}) is None:
            with pytest.raises(TypeError, match="Data row contained incompatible types:\n"):
                typed.add_data(value)
        else:
            typed.add_data(value)
            now = typed._column_types
            assert "Invalid" in repr(now) or now.taking({"a": value}) is not None
    assert len(mixed.data) == len(values)


@given(cells)
def test_a_value_fits_the_type_that_it_has(value: Any) -> None:
    own = type_of({"a": value})
    assert isinstance(own, DictOf)
    assert "Invalid" in repr(own) or own.taking({"a": value}) is not None


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=4))
def test_every_cell_has_a_form_in_json_and_shares_nothing(rows: list[list[Any]]) -> None:
    captured = captured_rows(rows)
    text = json.dumps(captured, default=str)
    for row in rows:
        for cell in row:
            if isinstance(cell, list):
                cell.append("later")
            elif isinstance(cell, dict):
                cell["later"] = 1
    assert json.dumps(captured, default=str) == text


def test_what_pandas_calls_missing_is_none() -> None:
    frame = pd.DataFrame({"i": pd.array([1, None], dtype="Int64"), "d": [pd.Timestamp("2020-01-01"), pd.NaT]})
    rows = captured_rows(runfold.Table(dataframe=frame).data)
    assert rows[1][0] is None
    assert rows[1][1] is None
    assert rows[0][1] == datetime.datetime(2020, 1, 1)


def test_dates_finer_than_pythons_are_dates() -> None:
    (row,) = captured_rows([[np.datetime64("2020-01-02T03:04:05.123456789")]])
    assert row == [datetime.datetime(2020, 1, 2, 3, 4, 5, 123456)]
    assert milliseconds(row[0]) == 1577934245123


def test_a_cell_that_contains_itself_is_refused(run: Any) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises((ValueError, RecursionError)):
        run.log({"t": runfold.Table(columns=["a"], data=[[endless]], allow_mixed_types=True), "x": 1})
    assert run.step == 0


def test_a_refused_table_stores_nothing_of_its_row(run: Any) -> None:
    with pytest.raises(TypeError, match="Object of type object is not JSON serializable"):
        run.log({"t": runfold.Table(columns=["a"], data=[[object()]]), "x": 1})
    run.log({"x": 2})
    assert [row["x"] for row in run.history] == [2]
    assert run.history[0]["_step"] == 0


def test_rows_beyond_the_limits_are_told(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Small(runfold.Table):
        MAX_ROWS, MAX_ARTIFACT_ROWS = 2, 3

    run.log({"some": Small(columns=["a"], data=[[1], [2], [3]])})
    assert "pages show the first 2; its artifact keeps all" in capsys.readouterr().err
    run.log({"most": Small(columns=["a"], data=[[1], [2], [3], [4]])})
    assert "its artifact keeps the first 3, pages show the first 2" in capsys.readouterr().err
    assert run.summary["most"]["nrows"] == 4
    run.finish()
    files, artifacts = _stored(run)
    assert files["most"]["data"] == [[1], [2]]
    assert artifacts["most"]["data"] == [[1], [2], [3]]


def test_the_row_does_not_wait_for_the_artifact(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from runfold.media import run_table

    may_write, write = threading.Event(), run_table.write_table

    def write_later(*arguments: Any, **options: Any) -> None:
        may_write.wait(20)
        write(*arguments, **options)

    monkeypatch.setattr(run_table, "write_table", write_later)
    run.log({"t": runfold.Table(columns=["a"], data=[[1]])})
    spool = run._spool.directory
    _until_said(spool, b"artifact_path")
    assert not [job for job in run._outbox.waiting() if isinstance(job, ArtifactJob)]
    may_write.set()
    run.finish()
    assert [job.about["type"] for job in run._outbox.waiting() if isinstance(job, ArtifactJob)] == [
        "run_table"
    ]


def test_a_table_that_changes_after_log_was_logged_as_it_was(run: Any) -> None:
    inner = [1]
    table = runfold.Table(columns=["a"], data=[[inner]], log_mode="MUTABLE")
    run.log({"t": table})
    inner.append(2)
    table.add_data([3])
    run.log({"u": table})
    run.finish()
    files, artifacts = _stored(run)
    assert files["t"]["data"] == artifacts["t"]["data"] == [[[1]]]
    assert files["u"]["data"] == artifacts["u"]["data"] == [[[1, 2]], [[3]]]


def test_one_table_under_many_keys_is_one_file_and_one_artifact(run: Any) -> None:
    table = runfold.Table(columns=["x", "y"], data=[[1, 2]])
    run.log({"a": table, "b": table, "c": runfold.plot.line(table, "x", "y")})
    run.finish()
    assert len(run._outbox.waiting()) == 2


def test_an_image_and_a_histogram_are_cells(run: Any) -> None:
    table = runfold.Table(columns=["i", "h", "l"])
    picture = runfold.Image(np.zeros((2, 3, 3), np.uint8), caption="c")
    table.add_data(picture, runfold.Histogram([1, 2, 3], num_bins=2), [picture, picture])
    run.log({"t": table})
    run.finish()
    files, artifacts = _stored(run)
    histogram = {"_type": "histogram", "values": [1, 2], "bins": [1.0, 2.0, 3.0]}
    assert files["t"]["data"] == [["Image", histogram, ["Image", "Image"]]]
    told = artifacts["t"]["data"][0][0]
    assert (told["_type"], told["width"], told["caption"]) == ("image-file", 3, "c")
    assert told["path"].startswith("media/images/")


def test_an_artifacts_table_keeps_dates_and_missing_numbers() -> None:
    moment = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    artifact = runfold.Artifact("a", "dataset")
    artifact.add(runfold.Table(columns=["d", "n"], data=[[moment, 1.5], [None, float("nan")]]), "t")
    told = json.loads(Path(str(artifact.manifest.entries["t.table.json"].local_path)).read_text())
    assert told["data"] == [[1577836800000, 1.5], [None, None]]
    kinds = told["column_types"]["params"]["type_map"]["d"]["params"]["allowed_types"]
    assert kinds == [{"wb_type": "none"}, {"wb_type": "timestamp"}]


def test_what_is_added_to_an_artifact_stays(capsys: pytest.CaptureFixture[str]) -> None:
    artifact = runfold.Artifact("a", "dataset")
    table = runfold.Table(columns=["d"])
    first = artifact.add(table, "t").digest
    assert artifact.add(table, "t.table.json").digest == first
    assert "stays" not in capsys.readouterr().err
    assert artifact.add(runfold.Table(columns=["other"]), "t").digest == first
    assert "has a t.table.json already, which stays" in capsys.readouterr().err
    assert artifact.add(runfold.Table(columns=["other"]), "t", overwrite=True).digest != first
    assert artifact.add(runfold.Classes([{"id": 1, "name": "x"}]), "c").path == "c.classes.json"
    assert sorted(artifact.manifest.entries) == ["c.classes.json", "t.table.json"]
    for thing in ("text", 1, None, {}, runfold.Histogram([1, 2])):
        with pytest.raises(TypeError, match=r"^Found object of type <class"):
            artifact.add(thing, "x")


def test_links_between_tables_go_by_names_in_the_artifact() -> None:
    people = runfold.Table(columns=["id"], data=[["ada"]])
    people.set_pk("id")
    texts = runfold.Table(columns=["by"], data=[["ada"]])
    texts.set_fk("by", people, "id")
    artifact = runfold.Artifact("a", "dataset")
    artifact["people"] = people
    artifact["texts"] = texts
    told = json.loads(Path(str(artifact.manifest.entries["texts.table.json"].local_path)).read_text())
    params = told["column_types"]["params"]["type_map"]["by"]["params"]
    assert params == {"col_name": "id", "table": "people.table.json"}
    assert texts.get_column("by")[0]._table is people


def test_an_incremental_table_keeps_what_was_added_since(run: Any) -> None:
    table = runfold.Table(columns=["a"], data=[[1]], log_mode="INCREMENTAL")
    run.log({"t": table})
    first = dict(run.summary["t"])
    table.add_data(2)
    run.log({"t": table})
    run.log({"t": table})
    second = dict(run.summary["t"])
    assert (second["increment_num"], second["nrows"]) == (1, 2)
    assert second["previous_increments_paths"] == [first["artifact_path"]]
    run.finish()
    parts = sorted(job.about["type"] for job in run._outbox.waiting() if isinstance(job, ArtifactJob))
    assert parts == ["wandb-run-incremental-table"] * 2
    assert _stored(run)[0]["t"]["data"] == [[2]]


@given(st.text(max_size=300))
def test_every_key_gives_names_that_are_allowed(key: str) -> None:
    assert check_name(collection_name(f"run-x-{key}"))
    assert check_file_name(file_name(f"{key}.table.json")).endswith(".table.json")


def _stored(run: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the JSON of the files and of the artifacts that wait in the outbox, by key; the last of each."""
    jobs = Outbox(run._outbox.directory.parent).waiting()
    files = {
        Path(job.name).name.rpartition("_")[0].rpartition("_")[0]: json.loads(Path(job.source).read_text())
        for job in jobs
        if isinstance(job, FileJob) and job.name.endswith(".table.json")
    }
    artifacts = {}
    for job in jobs:
        if isinstance(job, ArtifactJob):
            sources = json.loads(Path(job.sources).read_text())
            for name, entry in json.loads(Path(job.manifest).read_text())["entries"].items():
                if name.endswith(".table.json"):
                    artifacts[name.removesuffix(".table.json")] = json.loads(_text(sources, entry))
    return files, artifacts


def _text(sources: dict[str, str], entry: dict[str, Any]) -> str:
    return next(Path(path).read_text() for digest, path in sources.items() if digest in entry.values())


def _until_said(spool: Path, text: bytes) -> None:
    until(lambda: any(text in part.read_bytes() for part in spool.glob("*.seg")))


def test_an_artifact_that_cannot_be_written_is_told_and_the_row_stays(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from runfold.media import run_table

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(run_table, "write_table", refuse)
    run.log({"t": runfold.Table(columns=["a"], data=[[1]])})
    assert run.summary["t"]["nrows"] == 1
    run.finish()
    assert f"artifact run-{run.id}-t could not be kept: OSError: no space left" in capsys.readouterr().err


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"columns": ["a"]},
        {"columns": "a", "data": []},
        {"columns": ["a"], "data": [1]},
        {"columns": ["a"], "data": [[1, 2]]},
        {"columns": [1.5], "data": []},
        {"columns": ["a"], "data": [], "column_types": []},
        {"columns": ["a"], "data": [], "column_types": {"params": {"type_map": {"a": 3}}}},
        {"columns": ["a"], "data": [], "log_mode": "no such mode"},
    ],
)
def test_what_is_no_table_in_an_artifact_is_refused(told: dict[str, Any]) -> None:
    from runfold.media.table_artifact import table_of

    with pytest.raises(ValueError, match="no table"):
        table_of(told, None)


def test_one_text_beyond_the_limit_is_refused_and_nothing_of_its_row_is_stored(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runfold.media import content

    monkeypatch.setattr(content, "MAX_CAPTURED_BYTES", 1000)
    with pytest.raises(ValueError, match="Write it to a file"):
        run.log({"t": runfold.Table(columns=["a"], data=[["x" * 2000]]), "x": 1})
    assert run.step == 0

"""Run: properties, what may be set, alerts, status, the end."""

from __future__ import annotations

import collections
import copy
import datetime
import decimal
import pickle
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold.errors import ValidationError
from runfold.protocol.records import RecordKind
from support.spooled import Spooled

Read = Callable[[], Spooled]


def test_properties() -> None:
    run = runfold.init(
        project="proj",
        entity="ent",
        id="abc123",
        name="nm",
        notes="nt",
        tags=["a", "b"],
        group="g",
        job_type="jt",
        fold=3,
    )
    assert (run.id, run.entity, run.project, run.path) == ("abc123", "ent", "proj", "ent/proj/abc123")
    assert (run.name, run.notes, run.tags, run.group, run.job_type) == ("nm", "nt", ("a", "b"), "g", "jt")
    assert (run.fold, run.offline, run.disabled, run.resumed, run.sweep_id) == (3, True, False, False, None)
    assert (run.step, run.starting_step, run.url, run.project_url, run.sweep_url) == (0, 0, None, None, None)
    assert isinstance(run.start_time, float)
    assert Path(run.dir).is_dir()
    assert Path(run.dir).name == "files"
    assert run.settings.run_name == "nm"
    assert repr(run) == "<Run ent/proj/abc123>"


def test_files_go_where_dir_says(tmp_path: Path) -> None:
    run = runfold.init(project="p", dir=tmp_path / "out")
    assert Path(run.dir).is_relative_to(tmp_path / "out")
    assert Path(run.sync_dir) == Path(run.dir).parent


def test_what_may_be_set_is_stored(run: runfold.Run, spool: Read) -> None:
    run.name = "n2"
    run.notes = "o2"
    run.tags = ("t1",)
    run.tags += ("t2",)
    said = spool().payloads(RecordKind.RUN)
    assert [(s.name, s.notes, s.tags) for s in said] == [
        ("n2", None, None),
        (None, "o2", None),
        (None, None, ("t1",)),
        (None, None, ("t1", "t2")),
    ]


def test_a_name_and_notes_may_be_taken_back(run: runfold.Run, spool: Read) -> None:
    made_up = run.name
    run.name, run.notes = "mine", "n"
    run.name = run.notes = None
    assert (run.name, run.notes) == (made_up, None)
    said = spool().payloads(RecordKind.RUN)
    assert [(each.name, each.notes) for each in said] == [
        *(("mine", None), (None, "n")),
        *((made_up, None), (None, "")),
    ]
    for field in ("name", "notes"):
        with pytest.raises(ValidationError, match=f"run_{field}\n.*valid string"):
            setattr(run, field, 3)


def test_summary_takes_what_log_takes(run: runfold.Run) -> None:
    run.summary.update(
        {"wait": datetime.timedelta(seconds=90), "share": decimal.Decimal("1.10"), "z": 1 + 2j}
    )
    run.summary["last"] = collections.deque([1, 2])
    assert [run.summary[key] for key in ("wait", "share", "z", "last")] == ["PT1M30S", "1.10", "1+2j", [1, 2]]
    table = runfold.Table(columns=["a", "b"], data=[[1, 2]])
    chart = runfold.plot.line(table, "a", "b")
    for value in (object(), range(3), types.MappingProxyType({"a": 1}), {"deep": object()}, chart):
        with pytest.raises(TypeError, match="is not JSON serializable"):
            run.summary["odd"] = value


@pytest.mark.parametrize("tags", [[""], ["x" * 65], [5]])
def test_wrong_tags_change_nothing_and_warn(
    run: runfold.Run, tags: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run.tags = ("ok",)
    run.tags = tags
    assert run.tags == ("ok",)
    assert "tags were not changed" in capsys.readouterr().err


def test_other_attributes_can_not_be_set(run: runfold.Run) -> None:
    for name in ("id", "group", "config", "settings"):
        with pytest.raises(AttributeError):
            setattr(run, name, "x")
    with pytest.raises(Exception, match="Attribute zzz is not supported on Run object") as caught:
        run.zzz = 1
    assert type(caught.value) is Exception


def test_alerts(run: runfold.Run, spool: Read, capsys: pytest.CaptureFixture[str]) -> None:
    run.alert("x" * 100, "text")
    run.alert("t", "x", level=runfold.AlertLevel.ERROR, wait_duration=datetime.timedelta(minutes=2))
    run.alert("t", "x", level="WARN", wait_duration=0)
    run.alert("t", "x", level="", wait_duration=True)
    said = spool().payloads(RecordKind.ALERT)
    assert [(len(s.title), s.level, s.wait_duration_s) for s in said] == [
        (64, "INFO", 60.0),
        (1, "ERROR", 120.0),
        (1, "WARN", 0.0),
        (1, "INFO", 1.0),
    ]
    assert "cut to 64" in capsys.readouterr().err
    with pytest.raises(ValueError, match="level must be one of"):
        run.alert("t", "x", level="warn")
    with pytest.raises(TypeError):
        run.alert("t", "x", wait_duration="1")  # type: ignore[arg-type]  # as the test says


def test_preempting_and_console_lines(run: runfold.Run, spool: Read) -> None:
    run.mark_preempting()
    run.write_logs("one\ntwo redis://u:p@h\n")
    run.write_logs("three")
    found = spool()
    assert len(found.payloads(RecordKind.PREEMPTING)) == 1
    lines = found.payloads(RecordKind.CONSOLE)
    assert [(line.first_line, line.lines) for line in lines] == [
        (0, ("one", "two redis://[redacted]@h")),
        (2, ("three",)),
    ]


def test_status_tells_the_truth(run: runfold.Run) -> None:
    for number in range(5):
        run.log({"a": number})
    status = run.status()
    assert (status.rows, status.sync_items_total, status.sync_items_pending) == (5, 6, 6)
    assert (status.acknowledged, status.dropped, status.sync_time) == (0, 0, None)


def test_after_finish(run: runfold.Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.log({"a": 1})
    run.finish()
    run.finish()
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("log", lambda: run.log({"a": 1})),
        ("define_metric", lambda: run.define_metric("x")),
        ("alert", lambda: run.alert("t", "x")),
        ("status", run.status),
        ("mark_preempting", run.mark_preempting),
        ("save", lambda: run.save("x")),
        ("name", lambda: setattr(run, "name", "n")),
        ("tags", lambda: setattr(run, "tags", ("n",))),
        ("notes", lambda: setattr(run, "notes", "n")),
        ("_config_callback", lambda: run.config.update({"a": 1})),
        ("_summary_update_callback", lambda: run.summary.update({"a": 1})),
    ]
    for name, call in calls:
        with pytest.raises(runfold.UsageError, match=rf"Run \({run.id}\) is finished. The call to `{name}`"):
            call()
    run.write_logs("ignored")
    assert dict(run.summary) == {}
    assert "Summary data not available" in capsys.readouterr().err
    assert run.path.endswith(run.id)
    assert runfold.run is None


def test_exit_codes(spools: Callable[[], list[Spooled]]) -> None:
    runfold.init(project="p").finish()
    runfold.init(project="p").finish(exit_code=7)
    with runfold.init(project="p"):
        pass
    for error in (ValueError("x"), KeyboardInterrupt(), SystemExit(0), SystemExit(3), SystemExit("text")):
        with pytest.raises(type(error)), runfold.init(project="p"):
            raise error
    exits = [spooled.exit for spooled in spools()]
    assert [found and (found.code, found.how, found.exception) for found in exits] == [
        (0, "finish", None),
        (7, "finish", None),
        (0, "context", None),
        (1, "context", "ValueError"),
        (1, "context", "KeyboardInterrupt"),
        (0, "context", None),
        (3, "context", None),
        (1, "context", None),
    ]
    assert all(spooled.is_closed for spooled in spools())


def test_tracebacks_hold_no_secrets(spool: Read) -> None:
    with pytest.raises(ValueError, match="redis"), runfold.init(project="p"):
        raise ValueError("can't reach redis://me:sekrit@host")
    found = spool().exit
    assert found is not None
    assert found.traceback is not None
    assert "sekrit" not in found.traceback
    assert "test_tracebacks_hold_no_secrets" in found.traceback


def test_copies_are_the_run_itself(run: runfold.Run) -> None:
    assert copy.deepcopy(run) is run
    assert copy.copy(run) is run
    with pytest.raises(RuntimeError):
        pickle.loads(pickle.dumps(run))


def test_old_names_warn_once(run: runfold.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.project_name() == run.project
    assert run.project_name() == run.project
    assert (run.get_url(), run.get_project_url(), run.get_sweep_url(), run.mode) == (
        None,
        None,
        None,
        "offline",
    )
    assert run.save() == []
    assert capsys.readouterr().err.count("project_name() is deprecated") == 1
    run.join()
    with pytest.raises(runfold.UsageError):
        run.log({})


def test_a_branched_run_begins_after_its_moment(spool: Read) -> None:
    run = runfold.init(project="p", fork_from="orig?_step=5", id="forked")
    assert (run.starting_step, run.step) == (6, 0)
    run.log({"a": 1})
    assert run.step == 7
    found = spool()
    assert found.steps == [6]
    assert found.identity.start_step == 6
    assert found.identity.config["_wandb"]["branch_point"] == {"run_id": "orig", "step": 5}


@pytest.mark.parametrize("code", ["1", 1.0])
def test_an_exit_code_is_an_integer(run: runfold.Run, code: Any) -> None:
    with pytest.raises(TypeError, match="as an integer"):
        run.finish(code)
    run.log({"a": 1})  # it goes on


def test_summary_values_set_by_hand_are_stored(run: runfold.Run, spool: Read) -> None:
    run.summary["best"] = 5
    assert run.summary["best"] == 5
    assert spool().payloads(RecordKind.SUMMARY)[0].changes == (("set", ("best",), 5),)


def test_a_folder_that_can_not_be_written_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RUNFOLD_DIR", str(tmp_path / "file"))
    run = runfold.init(project="p")
    for number in range(3):
        run.log({"a": number})
    status = run.status()
    assert (status.rows, status.dropped) == (3, 3)
    run.finish()
    err = capsys.readouterr().err
    assert "nothing of it can be kept" in err
    assert err.count("could not be kept (") == 1


def test_finished_runs_leave_no_threads_and_files_open() -> None:
    def count() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    runfold.init(project="p").finish()
    before = count()
    held = []  # a script may keep its runs: their files go all the same
    for _ in range(20):
        with runfold.init(project="p") as run:
            run.log({"a": 1})
            assert run.summary.get("a") == 1
        held.append(run)
    for thread in threading.enumerate():
        if thread.name.startswith("runfold"):
            thread.join(10)
    assert count() <= before

"""Media in log(): the row at once, its media after it, and nothing lost unsaid."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runfold
from runfold.media.content import Content
from runfold.media.encoder import encoder
from runfold.protocol.records import RecordKind
from runfold.uploads.outbox import Outbox
from support.spooled import read_spools

PIXELS = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def stopped() -> Iterator[threading.Event]:
    """The encoder does nothing until the event is set."""
    gate, began = threading.Event(), threading.Event()
    encoder.put(lambda: (began.set(), gate.wait(30)))
    assert began.wait(30)
    yield gate
    gate.set()


def rows(run: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key[0] != "_"} for row in run.history]


def jobs(tmp_path: Path) -> list[Any]:
    return Outbox(tmp_path / "home" / "spool" / "offline").waiting()


def test_the_row_is_said_at_once_and_its_media_follow(
    run: Any, stopped: threading.Event, tmp_path: Path
) -> None:
    run.log({"loss": 1.0, "img": runfold.Image(PIXELS), "n": {"l": [runfold.Image(PIXELS)]}})
    assert run.step == 1
    ((_, step, _, cells),) = read_spools(tmp_path / "home")[0].rows
    assert step == 0
    assert cells == {
        ("loss",): 1.0,
        ("img", "_type"): "image-file",
        ("n", "l", "_type"): "images/separated",
    }
    stopped.set()
    (row,) = rows(run)
    assert row["loss"] == 1.0
    assert row["img"]["path"].startswith("media/images/img_0_")
    assert row["n"]["l"]["count"] == 1
    assert run.summary["img"]["width"] == 6
    assert run.status().rows == 1


def test_media_that_are_there_in_time_come_late_to_no_row(run: Any) -> None:
    for step in range(3):
        run.log({"img": runfold.Image(PIXELS), "x": step})
        run._await_media(30)
    run.log({"x": 3})
    assert run.summary["x"] == 3
    assert not run._live._fold.is_late
    assert [row["x"] for row in rows(run)] == [0, 1, 2, 3]


def test_media_that_come_late_merge_into_their_rows(run: Any, stopped: threading.Event) -> None:
    for step in range(3):
        run.log({"img": runfold.Html(str(step)), "x": step})
    run.log({"x": 9}, step=7)
    stopped.set()
    found = run.history
    assert [row["_step"] for row in found] == [0, 1, 2]
    assert [row["img"]["path"].split("_")[1] for row in found] == ["0", "1", "2"]
    assert run.summary["x"] == 2
    run.log({}, step=8)
    assert run.summary["x"] == 9
    assert run.summary["img"]["path"].startswith("media/html/img_2_")


@pytest.mark.parametrize("later", [{"img": 4}, {"img": {"path": "mine"}}, {"img": [1, 2]}])
def test_what_is_said_later_for_the_same_row_stands(
    run: Any, stopped: threading.Event, later: dict[str, Any]
) -> None:
    run.log({"img": runfold.Image(PIXELS), "other": runfold.Html("o")}, commit=False)
    run.log({**later, "x": 1})
    run.log({"x": 2})
    stopped.set()
    first, second = rows(run)
    assert first["img"] == later["img"] or first["img"] == {"_type": "image-file", **later["img"]}
    assert first["other"]["_type"] == "html-file"
    assert "path" in first["other"]
    assert second == {"x": 2}


def test_rows_go_the_quick_way_again_once_media_are_there(run: Any) -> None:
    run.log({"x": 1})
    run.log({"img": runfold.Html("a")})
    run._await_media(30)
    assert run._recorder._append_row == run._recorder._spool.append_row


def test_a_file_is_uploaded_once_as_it_was(run: Any, tmp_path: Path) -> None:
    Path("a.html").write_text("then")
    page = runfold.Html("a.html", inject=False)
    run.log({"a": page})
    Path("a.html").write_text("now")
    run.log({"a": page, "b": page})
    first, second = rows(run)
    assert first["a"] == second["a"] == second["b"]
    (job,) = jobs(tmp_path)
    assert (job.name, job.is_ours, job.sha256) == (first["a"]["path"], True, first["a"]["sha256"])
    assert Path(job.source).read_text() == "then"


def test_a_value_may_go_to_two_runs(run: Any, tmp_path: Path) -> None:
    page = runfold.Html("x")
    other = runfold.init(project="p", reinit="create_new")
    run.log({"a": page})
    other.log({"b": page})
    assert rows(run)[0]["a"]["path"].startswith("media/html/a_0_")
    assert rows(other)[0]["b"]["path"].startswith("media/html/b_0_")
    assert {job.run.split("/")[-1] for job in jobs(tmp_path)} == {run.id, other.id}


def test_of_a_long_list_the_first_108_are_kept_and_that_is_said(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [runfold.Image(np.full((1, 1), each, np.uint8)) for each in range(110)]
    run.log({"many": images})
    assert rows(run)[0]["many"]["count"] == 108
    assert "Only 108 Image will be uploaded" in capsys.readouterr().err


def test_a_call_that_is_refused_stores_nothing(run: Any, tmp_path: Path) -> None:
    Path("a.png").write_bytes(b"")
    for data, error in (
        ({"x": 1, "ref": runfold.Image("https://example.com/a.png")}, ValueError),
        ({"x": 1, "ok": runfold.Html("o"), "odd": object()}, TypeError),
        ({"x": [1, runfold.Html("o")]}, TypeError),
        ({"x": [[runfold.Html("o")]]}, TypeError),
    ):
        with pytest.raises(error):
            run.log(data)
    assert (run.step, rows(run), jobs(tmp_path)) == (0, [], [])


def test_what_can_not_be_encoded_is_declared_and_costs_nothing_else(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    broken = runfold.Html("broken")
    broken._content = Content.captured(".html", refuse, 1)
    run.log({"x": 1, "ok": runfold.Html("ok"), "broken": broken})
    run.log({"x": 2})
    first, second = rows(run)
    assert first["x"] == 1
    assert "path" in first["ok"]
    assert first["broken"] == {"_type": "html-file"}
    assert second == {"x": 2}
    run.finish()
    (spooled,) = read_spools(tmp_path / "home")
    (alert,) = spooled.payloads(RecordKind.ALERT)
    assert (alert.level, alert.title) == ("WARN", "Media lost")
    assert "broken of step 0" in (alert.text or "")
    assert "No space left" in capsys.readouterr().err


def test_media_not_encoded_in_time_are_declared(
    run: Any, stopped: threading.Event, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runfold.run_media._LEAST_DRAIN_S", 0.05)
    object.__setattr__(run._settings, "finish_timeout", 0.05)
    run.log({"x": 1, "img": runfold.Html("a")})
    run.finish()
    assert "the media of 1 rows" in capsys.readouterr().err
    assert encoder.count(run) == 0


def test_the_summary_holds_media(run: Any) -> None:
    run.summary["page"] = runfold.Html("s")
    run.summary.update({"deep": {"list": [runfold.Html("a"), runfold.Html("b")]}})
    assert run.summary["page"]["path"].startswith("media/html/page_summary_")
    assert run.summary["deep"]["list"]["count"] == 2
    with pytest.raises(TypeError):
        run.config["page"] = runfold.Html("c")


def test_what_is_deleted_from_the_summary_stays_deleted(run: Any, stopped: threading.Event) -> None:
    run.log({"x": 1, "img": runfold.Html("a")})
    threading.Timer(0.1, stopped.set).start()
    del run.summary["x"]
    assert "x" not in run.summary.keys()


def test_names_of_classes_go_to_the_config_once(run: Any, tmp_path: Path) -> None:
    def image() -> runfold.Image:
        return runfold.Image(PIXELS, masks={"m": {"mask_data": PIXELS[:, :, 0], "class_labels": {0: "sky"}}})

    run.log({"a": image()})
    run.log({"a": image()})
    run._await_media(30)
    entry = run.config["_wandb"]["mask/class_labels"]["a_wandb_delimeter_m"]
    assert entry["value"] == {"0": "sky"}
    run.finish()
    (spooled,) = read_spools(tmp_path / "home")
    assert len(spooled.payloads(RecordKind.CONFIG)) == 1


def test_a_value_tells_its_json(run: Any) -> None:
    assert runfold.Html("x").to_json(run)["path"].startswith("media/html/media_summary_")


def test_a_disabled_run_takes_media() -> None:
    run = runfold.init(mode="disabled")
    image = runfold.Image(PIXELS)
    run.log({"img": image})
    assert run.summary["img"] is image
    run.finish()


def test_a_call_from_a_fork_s_child_is_encoded_there(run: Any, tmp_path: Path) -> None:
    before = runfold.Html("made before")
    before.content.encoded()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run.log({"own": runfold.Html("child"), "before": before, "raw": runfold.Image(PIXELS)})
            run.finish(quiet=True)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    run.log({"parent": before})
    run.finish()
    names = sorted(job.name.rsplit("_", 2)[0] for job in jobs(tmp_path))
    assert names == ["media/html/before", "media/html/own", "media/html/parent", "media/images/raw"]
    for job in jobs(tmp_path):
        assert Path(job.source).stat().st_size > 0


def test_secrets_in_reasons_are_masked(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run._tell_lost_media("k", 0, ValueError("https://user:hunter2@host/x"))
    assert "hunter2" not in capsys.readouterr().err
    assert json.dumps(run.summary._as_dict())


def test_an_interrupt_while_media_are_awaited_does_not_hide_the_end(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(timeout_s: float) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(run), "_await_media", lambda self, timeout_s: interrupt(timeout_s))
    with pytest.raises(KeyboardInterrupt):
        run.finish()
    (spooled,) = read_spools(tmp_path / "home")
    assert len(spooled.payloads(RecordKind.EXIT)) == 1
    assert spooled.is_closed

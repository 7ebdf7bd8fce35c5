"""What lies in the way of save(), media and artifacts costs them, and never the training."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runfold
from runfold.artifacts.staging import process_drafts
from runfold.media.temporary import TemporaryFolder, temporary
from runfold.parallel import in_parallel
from runfold.protocol.records import RecordKind
from runfold.redact import redact_text
from runfold.uploads.jobs import FileJob
from runfold.uploads.outbox import Outbox
from support.spooled import Spooled

PIXELS = np.zeros((4, 4, 3), dtype="uint8")


def in_time(call: Callable[[], Any]) -> Any:
    """Return what a call returns; it may not hang."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(20.0)
    assert found, "it hangs, or raised"
    return found[0]


def full(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_pipes_sockets_and_strange_names_are_saved_without_waiting(run: runfold.Run, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "sock"))
    (folder / "loop").symlink_to("..")
    (folder / "new\nline").write_text("x")
    Path(os.fsdecode(b"d/\xff")).write_text("x")
    (folder / "plain").write_text("x")
    saved = in_time(lambda: run.save("d/*", policy="now"))
    assert Path(run.dir, "d/plain").as_posix() in saved
    assert in_time(lambda: run.save(b"d/\xff")), "bytes are a path as the system has it"
    outbox = Outbox(tmp_path / "home/spool/offline")
    jobs = [job for job in outbox.waiting() if isinstance(job, FileJob)]
    assert {job.name for job in jobs} == {"d/fifo", "d/sock", "d/plain"}


@pytest.mark.parametrize("glob", ["d**", "d/a**", "d/**.pt", "d/[", "d/a**b/*"])
def test_any_glob_is_one(run: runfold.Run, tmp_path: Path, glob: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.pt").write_text("x")
    for _ in range(2):
        assert isinstance(run.save(glob), list)


def test_a_home_that_can_not_be_written_costs_the_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in the way").write_text("x")
    monkeypatch.setenv("RUNFOLD_DIR", str(tmp_path / "in the way/home"))
    run = runfold.init(project="p")
    assert run.dir == os.path.join(run.sync_dir, "files")
    assert run.save("in the way") == []
    run.summary.update({"picture": runfold.Image(PIXELS)})
    run.log({"picture": runfold.Image(PIXELS)})
    run.finish()
    assert "folder can't be made" in capsys.readouterr().err


def test_without_space_a_row_stays_and_the_loss_of_its_media_is_told(
    run: runfold.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spool: Callable[[], Spooled]
) -> None:
    path = tmp_path / "page.png"
    runfold.Image(PIXELS).image.save(path)
    shown = runfold.Image(str(path))
    monkeypatch.setattr(TemporaryFolder, "new_path", full)
    run.log({"loss": 0.5, "picture": shown})
    run.summary["last"] = shown
    run.log({"loss": 0.25})
    run.finish()
    assert [alert.title for alert in spool().payloads(RecordKind.ALERT)] == ["Media lost"] * 2


def test_a_file_that_vanished_before_log_is_a_wrong_argument(
    run: runfold.Run, tmp_path: Path, spool: Callable[[], Spooled]
) -> None:
    path = tmp_path / "page.png"
    runfold.Image(PIXELS).image.save(path)
    shown = runfold.Image(str(path))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        run.log({"loss": 0.5, "picture": shown})
    assert run.step == 0
    run.finish()
    assert list(spool().payloads(RecordKind.ALERT)) == []


def test_a_signal_handler_may_save_in_the_middle_of_saving(run: runfold.Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")

    def interrupted() -> bool:
        with run._jobs_lock, process_drafts._guard, temporary._lock:
            run.save("a", policy="now")
            run.log_artifact("a", name="a", type="t")
            run.log({"picture": runfold.Image(PIXELS)})
        return True

    assert in_time(interrupted)


def test_what_could_not_be_left_leaves_nothing_on_a_full_disk(
    run: runfold.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("x")
    run.save("a", policy="now")
    outbox = Outbox(tmp_path / "home/spool/offline")
    before = sorted(outbox.directory.rglob("*"))
    monkeypatch.setattr(Path, "rename", full)
    run.log({"picture": runfold.Image(PIXELS)})
    run.save("a", policy="now")
    run._await_media(20.0)
    monkeypatch.undo()
    assert [path for path in outbox.directory.rglob("*") if path not in before and path.is_file()] == []
    assert list((outbox.directory / "staging").glob("*")) == []


def test_where_no_thread_can_be_started_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "runfold-transfer":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[int] = []
    in_parallel(done.append, range(5))
    assert done == list(range(5))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("https://u:pass@h/x", "https://[redacted]@h/x"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Date=20260101T000000Z&X-Amz-Signature=0123456789abcdef",
            "https://b.s3.amazonaws.com/k?X-Amz-Date=20260101T000000Z&X-Amz-Signature=[redacted]",
        ),
        ("https://a.blob/x?sv=2026&sig=ab%2Bcdefgh&se=1", "https://a.blob/x?sv=2026&sig=[redacted]&se=1"),
        ("https://h/x?token=abcdefghijk#part", "https://h/x?token=[redacted]#part"),
        ("pad token=0 & signature=none", "pad token=0 & signature=none"),
    ],
)
def test_addresses_lose_what_they_were_signed_with(said: str, kept: str) -> None:
    assert redact_text(said) == kept

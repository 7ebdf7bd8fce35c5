"""Planner and Carrier: what becomes of each kind of job, step by step, against a server with faults."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runfold.batches import SMALL_BYTES
from runfold.uploads.artifact_upload import upload_artifact
from runfold.uploads.carrier import MOST_CHANGES, Carrier
from runfold.uploads.jobs import AnyJob, FileJob, FolderJob
from runfold.uploads.outbox import Outbox
from runfold.uploads.planner import ASK_AGAIN_S, Planner
from runfold.uploads.shared_board import SharedBoard
from runfold.uploads.transfer import BlobClient
from support.faulty_blobs import FaultyBlobs, answer, answers, cut_off, passes

LIVE_S = 10.0


class Stage:
    """An outbox, a server, and one thread that does in turn what an uploader's threads do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_s = 100.0
        self.server = FaultyBlobs()
        self.outbox = Outbox(folder / "target")
        self.strangers: set[str] = set()
        self.shared = SharedBoard(most_artifacts=1, clock=lambda: self.now_s)
        self.planner = Planner(self.shared, self.outbox, lambda job: job.id not in self.strangers)
        self.client = BlobClient(
            "http://server", None, transport=self.server, patience_s=0.0, stop=threading.Event()
        )
        self.carrier = Carrier(
            self.shared, self.outbox, lambda: self.client, upload_artifact, live_interval_s=LIVE_S
        )
        self.count = 0

    def write(self, name: str, content: bytes | str, *, age_s: float = 60.0) -> Path:
        path = self.folder / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        about = path.stat()
        os.utime(path, (about.st_atime, about.st_mtime - age_s))
        return path

    def put(self, name: str, **said: object) -> AnyJob:
        self.count += 1
        about: dict[str, object] = {"name": name, "source": str(self.folder / "work" / name)}
        about |= {"writer": "a" * 32, "run": "e/p/r", "created_unix_s": float(self.count), **said}
        job = FileJob(**about)  # type: ignore[arg-type]
        self.outbox.put(job)
        return job

    def go(self, seconds: float = 0.0) -> None:
        """Let time pass, then do all that can be done."""
        self.now_s += seconds
        self.planner.look()
        for _ in range(100):
            with self.shared.turn:
                is_held = self.shared._held_until_s > self.now_s
                work = [] if is_held else self.shared.board.take()
            if not work:
                return
            self.carrier.carry(work)
        raise AssertionError("it never comes to rest")

    def end(self) -> None:
        self.planner.tell_ended(["a" * 32])
        self.go()

    @property
    def stored(self) -> dict[str, str]:
        """What the server has under each name."""
        return {name: self.server.blobs[row["sha256"]].decode() for name, row in self.server.rows.items()}

    @property
    def commits(self) -> int:
        return sum(method == "PUT" and path.endswith("/files") for method, path in self.server.requests)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(tmp_path)
    yield found
    found.client.close()


def test_files_are_uploaded_once_and_their_jobs_are_gone(stage: Stage) -> None:
    stage.write("a.txt", "a")
    stage.write("large", "l" * (SMALL_BYTES + 1))
    stage.put("a.txt")
    stage.put("large", what="media", sha256=hashlib.sha256(b"l" * (SMALL_BYTES + 1)).hexdigest())
    stage.go()
    assert stage.stored == {"a.txt": "a", "large": "l" * (SMALL_BYTES + 1)}
    assert stage.outbox.ids() == set()
    assert list(stage.outbox.directory.iterdir()) == []
    row = stage.server.rows["a.txt"]
    assert (row["mimetype"], row["policy"], row["what"], row["writer"]) == (
        "text/plain",
        "now",
        "file",
        "a" * 32,
    )
    assert stage.server.rows["large"]["what"] == "media"
    assert stage.shared.done_count == 2


def test_what_was_fixed_when_it_was_saved_is_as_old_as_that_however_late_it_comes(stage: Stage) -> None:
    for name in ("copy", "media", "seen"):
        stage.write(name, name)
    copy = stage.put("copy", is_ours=True, created_unix_s=7.0)
    media = stage.put("media", sha256=hashlib.sha256(b"media").hexdigest(), created_unix_s=8.0)
    began_unix_s = time.time()
    stage.put("seen", created_unix_s=9.0)
    stage.go()
    taken = {name: row["taken_unix_s"] for name, row in stage.server.rows.items()}
    assert (taken["copy"], taken["media"]) == (copy.created_unix_s, media.created_unix_s)
    assert taken["seen"] >= began_unix_s, "what may have changed meanwhile is as it was when it was read"


def test_the_server_is_told_what_will_never_come_and_why(stage: Stage) -> None:
    stage.write("there", "there")
    lost = stage.put("gone", created_unix_s=7.0)
    stage.put("there")
    stage.server.faults = [passes, passes, passes, *answers(404)]  # the run is not known yet
    stage.go()
    assert stage.stored == {"there": "there"}
    assert stage.outbox.ids() == {lost.id}, "not before the server knows"
    assert stage.outbox.result(lost.id) is None
    stage.go(60.0)
    assert stage.outbox.ids() == set()
    told, result = stage.server.lost["gone"], stage.outbox.result(lost.id)
    assert result is not None
    assert told["error"] == result.error == f"{lost.source} is not there"  # type: ignore[union-attr]
    assert (told["writer"], told["taken_unix_s"]) == ("a" * 32, 7.0)
    assert told["failed_unix_s"] > 1e9
    stage.server.faults = answers(400)
    refused = stage.put("no more")
    stage.go()
    assert stage.outbox.ids() == set(), "a server that will not hear of it is told once"
    assert stage.outbox.result(refused.id) is not None


def test_a_path_that_is_no_unicode_is_told_with_a_question_mark(stage: Stage) -> None:
    gone = stage.put("a", source=os.fsdecode(b"/none/\xff"))
    stage.go()
    assert stage.outbox.ids() == set(), "it is no fault that comes again for ever"
    assert stage.server.lost["a"]["error"] == "/none/? is not there"
    assert stage.outbox.result(gone.id) is not None


def test_a_watched_file_is_uploaded_when_it_changed_and_at_the_end(stage: Stage) -> None:
    stage.write("a", "1", age_s=100)
    stage.put("a", policy="live")
    stage.go()
    assert stage.stored == {"a": "1"}
    stage.write("a", "2", age_s=50)
    stage.go(LIVE_S / 2)
    assert stage.stored == {"a": "1"}, "it rests"
    stage.go(LIVE_S / 2)
    assert stage.stored == {"a": "2"}
    stage.write("a", "2", age_s=20)
    stage.go(LIVE_S)
    assert stage.commits == 2, "it was touched only"
    for _ in range(3):
        stage.go(LIVE_S)
    asked = len(stage.server.requests)
    stage.go(LIVE_S)
    assert len(stage.server.requests) == asked, "nothing is asked for what did not change"
    assert len(stage.outbox.ids()) == 1
    stage.write("a", "3")
    stage.end()
    assert stage.stored == {"a": "3"}
    assert stage.outbox.ids() == set()


def test_a_watched_file_may_come_late_and_go_early(stage: Stage) -> None:
    stage.put("a", policy="live")
    stage.go()
    assert stage.stored == {}
    path = stage.write("a", "1")
    stage.go(LIVE_S)
    assert stage.stored == {"a": "1"}
    path.unlink()
    stage.go(LIVE_S)
    stage.end()
    assert stage.stored == {"a": "1"}
    assert list(stage.outbox.directory.iterdir()) == []


def test_a_change_after_the_last_reading_began_is_not_missed(stage: Stage) -> None:
    """The process ends while its file is on its way: what it wrote last comes too."""
    stage.write("a", "1")
    stage.put("a", policy="live")

    def ends(request: httpx.Request) -> httpx.Response | None:
        stage.write("a", "2")
        stage.planner.tell_ended(["a" * 32])
        return None

    stage.server.faults.append(ends)  # type: ignore[arg-type]
    stage.go()
    assert stage.stored == {"a": "2"}
    assert stage.outbox.ids() == set()


def test_end_means_as_it_is_at_the_end(stage: Stage) -> None:
    stage.write("a", "early")
    stage.put("a", policy="end")
    stage.go(1000.0)
    assert stage.stored == {}
    assert stage.planner.watched_writers() == {"a" * 32}
    stage.write("a", "late")
    stage.end()
    assert stage.stored == {"a": "late"}


@pytest.mark.parametrize("policy", ["now", "end", "live"])
def test_a_file_that_is_not_there_is_given_up_with_the_reason(stage: Stage, policy: str) -> None:
    job = stage.put("gone", policy=policy)
    stage.write("b", "b")
    stage.put("b")
    stage.go()
    stage.end()
    result = stage.outbox.result(job.id)
    assert result is not None
    assert result.error is not None
    assert result.error.endswith("gone is not there")
    assert result.document == {"name": "gone"}
    assert stage.stored == {"b": "b"}
    assert stage.shared.failed_count == 1


def test_other_content_than_was_meant_is_refused(stage: Stage) -> None:
    stage.write("a", "other")
    job = stage.put("a", sha256="0" * 64)
    stage.go()
    result = stage.outbox.result(job.id)
    assert result is not None
    assert "is not what was meant" in str(result.error)
    assert stage.server.blobs == {}


def test_a_file_that_changes_all_the_time_is_given_up_after_a_while(stage: Stage) -> None:
    path = stage.write("a", "x" * (SMALL_BYTES + 1))
    job = stage.put("a")

    def rewritten(_: httpx.Request) -> None:
        path.write_bytes(os.urandom(SMALL_BYTES + 1))

    stage.server.faults += [rewritten] * 100
    tries = 0
    while stage.outbox.ids():
        tries += 1
        stage.go(60.0)
    assert tries == MOST_CHANGES
    result = stage.outbox.result(job.id)
    assert result is not None
    assert "changed while it was uploaded" in str(result.error)


def test_a_run_that_is_not_known_yet_waits_and_holds_nobody_up(stage: Stage) -> None:
    stage.write("a", "a")
    stage.write("b", "b")
    stage.put("a", run="e/p/unknown")
    stage.put("b")
    stage.server.faults += [lambda _: None, lambda _: None, lambda _: answer(404)]
    stage.go()
    assert stage.stored == {"b": "b"}
    assert not stage.shared.is_held
    assert "HTTP 404" in str(stage.shared.trouble) or stage.shared.trouble is None
    stage.go(1.0)
    assert stage.stored == {"a": "a", "b": "b"}
    assert stage.outbox.ids() == set()


def test_while_the_server_is_away_all_wait(stage: Stage) -> None:
    stage.write("a", "a")
    stage.put("a")
    stage.server.faults += [cut_off] * 3
    stage.go()
    assert stage.shared.is_held
    assert "connection reset" in str(stage.shared.trouble)
    stage.go(0.01)
    assert len(stage.server.faults) == 2, "nobody asks before the wait is over"
    for _ in range(3):
        stage.go(5.0)
    assert stage.stored == {"a": "a"}
    assert not stage.shared.is_held
    assert stage.shared.trouble is None


def test_one_that_is_refused_does_not_take_the_others_along(stage: Stage) -> None:
    jobs = {name: stage.put(name) for name in "abc"}
    for name in jobs:
        stage.write(name, name)

    def refuses_b(request: httpx.Request) -> httpx.Response | None:
        if request.method == "PUT" and b'"b"' in request.read():
            return answer(400, "b is no name")
        return None

    stage.server.faults += [refuses_b] * 30
    stage.go()
    assert stage.stored == {"a": "a", "c": "c"}
    result = stage.outbox.result(jobs["b"].id)
    assert result is not None
    assert "b is no name" in str(result.error)


def test_the_same_name_again_replaces_what_did_not_begin(stage: Stage) -> None:
    stage.write("a", "last")
    for _ in range(5):
        stage.put("a")
    stage.go()
    assert stage.stored == {"a": "last"}
    assert stage.commits == 1
    assert stage.outbox.ids() == set()


def test_a_folder_is_uploaded_but_for_what_was_saved(stage: Stage) -> None:
    for name in ("f/mine", "f/sub/mine too", "f/once", "f/bad\\name"):
        stage.write(name, name)
    (stage.folder / "work/f/link").symlink_to(stage.folder / "work/f/mine")
    stage.write("elsewhere", "once, as it was")
    stage.put("once", source=str(stage.folder / "work/elsewhere"))
    folder = FolderJob(writer="a" * 32, run="e/p/r", created_unix_s=0.0, source=str(stage.folder / "work/f"))
    stage.outbox.put(folder)
    stage.go()
    assert stage.stored == {"once": "once, as it was"}
    stage.end()
    assert stage.outbox.ids() >= {folder.id}, "it is done when its files are"
    stage.go(1.0)
    stage.go(1.0)
    assert stage.stored == {"mine": "f/mine", "sub/mine too": "f/sub/mine too", "once": "once, as it was"}
    assert stage.outbox.ids() == set()


def test_what_is_another_agents_is_left_and_asked_about_again(stage: Stage) -> None:
    stage.write("a", "a")
    job = stage.put("a")
    stage.strangers.add(job.id)
    stage.go()
    stage.strangers.clear()
    stage.go(ASK_AGAIN_S / 2)
    assert stage.stored == {}
    stage.go(ASK_AGAIN_S / 2)
    assert stage.stored == {"a": "a"}


def test_what_somebody_else_did_is_forgotten(stage: Stage) -> None:
    stage.write("a", "a")
    job = stage.put("a", policy="end")
    stage.go()
    assert len(stage.shared.board) == 1
    stage.outbox.forget(job)
    stage.go()
    assert len(stage.shared.board) == 0


def test_a_fault_of_ours_costs_a_wait(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.write("a", "a")
    stage.put("a")
    stage.server.faults.append(lambda _: ZeroDivisionError("a bug"))
    stage.go()
    assert "a fault in an upload" in caplog.text
    stage.go(60.0)
    assert stage.stored == {"a": "a"}


def test_an_answer_that_the_credentials_are_wrong_waits(stage: Stage) -> None:
    stage.write("a", "a")
    stage.put("a")
    stage.server.faults += answers(401)
    stage.go()
    assert stage.shared.is_held
    stage.go(60.0)
    assert stage.stored == {"a": "a"}

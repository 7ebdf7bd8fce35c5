"""Uploads: which jobs are this agent's, whose processes have ended, and how long the agent stays for them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runfold.node import lock
from runfold.node.processes import ProcessWatch, boot_id, pid_namespace, start_of
from runfold.node.settings import NodeSettings
from runfold.node.shipper import Shipper
from runfold.node.writers import Writers
from runfold.protocol.identity import Identity
from runfold.spool.writer import SpoolWriter
from runfold.uploads.duty import STAND_IN_S, STUCK_S, Uploads
from runfold.uploads.jobs import FileJob
from runfold.uploads.outbox import Outbox
from support.processes import until

HERE = lock.place_of(boot_id(), pid_namespace())


class Stage:
    """A duty over a target directory, driven as the agent's loop does."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1000.0
        self.settings = NodeSettings(runfold_dir=folder, target="local")
        self.settings.target_dir.mkdir(parents=True)
        self.outbox = Outbox(self.settings.target_dir)
        self.watch = ProcessWatch()
        self.writers = Writers(
            self.settings.target_dir, watch=self.watch, shipper=Shipper(), clock=lambda: self.now_s
        )
        self.duty = Uploads(self.settings, self.writers, clock=lambda: self.now_s)

    def put(self, **said: object) -> FileJob:
        about: dict[str, object] = {"writer": "a" * 32, "run": "e/p/r", "created_unix_s": 0.0, "name": "a"}
        job = FileJob(**{**about, "source": "/none", "place": HERE, **said})  # type: ignore[arg-type]
        self.outbox.put(job)
        return job

    def register(self, url: str | None) -> None:
        said = {"url": url, "redis_url": "redis://nobody"}
        self.settings.registration.write_text(json.dumps(said))

    def write_spool(self) -> SpoolWriter:
        who = Identity(
            entity="e",
            project="p",
            run_id="r",
            pid=os.getpid(),
            pid_start=start_of(os.getpid()),
            boot_id=boot_id(),
            pid_namespace=pid_namespace(),
        )
        return SpoolWriter.create(self.settings.spool_root, "local", {**who.to_map(), "tags": []})

    def step(self, seconds: float = 0.0) -> None:
        self.now_s += seconds
        self.writers.discover(every_s=0.0)
        self.duty.step(self.now_s)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(tmp_path)
    yield found
    found.duty.stop()
    found.writers.close()
    found.watch.close()


def test_without_an_outbox_there_are_no_threads(stage: Stage) -> None:
    stage.step()
    assert stage.duty._uploader is None
    assert not stage.duty.may_get_on()


def test_a_file_is_watched_until_its_writer_closed_its_spool(stage: Stage) -> None:
    """That it is gone is for the server to know, which is away: the job waits."""
    stage.register("http://127.0.0.1:9")
    spool = stage.write_spool()
    job = stage.put(writer=spool.directory.name, policy="end")
    stage.step()
    uploader = stage.duty._uploader
    assert uploader is not None
    until(lambda: uploader.watched_writers() == {spool.directory.name})
    stage.step(1.0)
    assert uploader.watched_writers()
    assert not stage.duty.may_get_on(), "a watch keeps no agent"
    spool.close(final=True)
    stage.step(1.0)
    assert not uploader.watched_writers()
    until(lambda: uploader.shared.trouble is not None)
    assert stage.outbox.ids() == {job.id}


def test_a_writer_whose_spool_was_removed_has_ended(stage: Stage) -> None:
    stage.register("http://127.0.0.1:9")
    job = stage.put(policy="live")
    stage.step()

    def last_look() -> bool:
        stage.duty.close()
        assert stage.duty._uploader is not None
        return stage.duty._uploader.shared.trouble is not None

    until(last_look)
    assert stage.outbox.ids() == {job.id}, "that it is gone is for the server to know, which is away"


def test_another_places_job_is_ours_when_it_has_had_no_agent_for_a_while(stage: Stage) -> None:
    job = stage.put(place="other-1")
    other = lock.AgentLock(stage.settings.target_dir, place="other-1")
    assert other.acquire()
    is_mine = stage.duty._is_mine
    assert not is_mine(job)
    other.release()
    assert not is_mine(job)
    stage.now_s += STAND_IN_S - 1
    assert not is_mine(job)
    stage.now_s += 1
    assert is_mine(job)
    assert other.acquire()
    assert not is_mine(job)
    assert is_mine(stage.put(place=""))
    assert is_mine(stage.put(place="../../elsewhere")), "no path is made of it"
    other.release()


def test_the_agent_stays_while_it_may_get_on(stage: Stage) -> None:
    stage.put(policy="now", source=str(stage.settings.target_dir / "file"))
    (stage.settings.target_dir / "file").write_text("x")
    stage.step()
    assert not stage.duty.may_get_on(), "no HTTP address is known"
    stage.register(None)
    assert not stage.duty.may_get_on(), "Redis alone is no way for files"
    stage.register("http://127.0.0.1:9")
    uploader = stage.duty._uploader
    assert uploader is not None
    until(lambda: uploader.shared.is_held)
    assert stage.duty.may_get_on()
    assert not stage.duty.is_at_work()
    assert "127.0.0.1:9" in str(uploader.shared.trouble) or "HTTP address" in str(uploader.shared.trouble)
    stage.now_s += STUCK_S + stage.settings.unreachable_exit_s
    assert not stage.duty.may_get_on()

"""What a process leaves to be uploaded, as files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runfold.protocol.errors import DecodeError
from runfold.uploads.jobs import ArtifactJob, FileJob, parse_job
from runfold.uploads.outbox import MAX_JOB_BYTES, Outbox


def file_job(number: int, **given: object) -> FileJob:
    said = {"writer": "a" * 32, "run": "e/p/r", "created_unix_s": float(number), "name": f"{number}.txt"}
    return FileJob(**{**said, "source": "/tmp/x", **given})  # type: ignore[arg-type]


ARTIFACT = ArtifactJob(
    writer="a" * 32,
    run="e/p/r",
    created_unix_s=0.5,
    client_id="c" * 32,
    about={"name": "model", "metadata": {"a": [1, None]}},
    manifest="/tmp/m",
    sources="/tmp/s",
)


def test_jobs_come_back_as_they_were_oldest_first(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    assert outbox.waiting() == []
    jobs = [file_job(2), ARTIFACT, file_job(1, policy="live", sha256="0" * 64, is_ours=True)]
    for job in jobs:
        outbox.put(job)
    assert outbox.waiting() == [jobs[1], jobs[2], jobs[0]]
    assert outbox.ids() == {job.id for job in jobs}
    assert outbox.directory.stat().st_mode & 0o777 == 0o700


def test_an_ended_job_leaves_its_result_and_nothing_else(tmp_path: Path) -> None:
    outbox, job = Outbox(tmp_path), file_job(1)
    outbox.put(job)
    outbox.staging(job.id).mkdir(parents=True)
    (outbox.staging(job.id) / "copy").write_bytes(b"x")
    assert outbox.result(job.id) is None
    outbox.end(job, size=3)
    result = outbox.result(job.id)
    assert result is not None
    assert (result.error, result.document, result.kind) == (None, {"size": 3}, "file")
    assert outbox.ids() == set()
    assert not outbox.staging(job.id).exists()
    outbox.tidy(result.ended_unix_s + 86_000)
    assert outbox.result(job.id) is not None
    outbox.tidy(result.ended_unix_s + 87_000)
    assert outbox.result(job.id) is None


def test_what_is_no_job_is_left_alone(tmp_path: Path) -> None:
    outbox, job = Outbox(tmp_path), file_job(1)
    outbox.put(job)
    (outbox.directory / "bad.job").write_text("{")
    (outbox.directory / "large.job").write_bytes(b" " * (MAX_JOB_BYTES + 1))
    (outbox.directory / "link.job").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(outbox.directory / "pipe.job")
    (outbox.directory / ".unfinished.job.1").write_text("{")
    assert outbox.waiting() == [job]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"v": 1, "kind": "file"}', b'{"v": 9, "kind": "file"}']
)
def test_a_text_that_is_no_job_is_refused(text: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_job(text)


def test_a_job_under_another_name_is_none(tmp_path: Path) -> None:
    """Its id names the folder that is removed with it."""
    outbox = Outbox(tmp_path)
    outbox.put(ARTIFACT)
    (outbox.directory / f"{ARTIFACT.id}.job").rename(outbox.directory / "other.job")
    assert outbox.waiting() == []
    assert outbox.ids() == {"other"}


def test_what_became_no_job_goes_after_a_week(tmp_path: Path) -> None:
    outbox, job = Outbox(tmp_path), file_job(1)
    outbox.put(job, is_synced=False)
    outbox.sync([job.id, "gone"])
    for staged in (job.id, "never"):
        outbox.staging(staged).mkdir(parents=True)
    (outbox.directory / ".x.job.1").write_text("{")
    now = outbox.staging("never").stat().st_mtime
    outbox.tidy(now + 6 * 86_400)
    assert outbox.staging("never").exists()
    outbox.tidy(now + 8 * 86_400)
    assert not outbox.staging("never").exists()
    assert not (outbox.directory / ".x.job.1").exists()
    assert outbox.staging(job.id).exists()
    assert outbox.waiting() == [job]
    outbox.forget(job)
    assert not outbox.staging(job.id).exists()

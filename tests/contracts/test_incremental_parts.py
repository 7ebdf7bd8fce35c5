"""Parts that are added to the latest version, over both databases: late ones too, and what can't be added."""

from __future__ import annotations

from pathlib import Path

import pytest

from runfold_coordinator.artifacts import manifest_stream
from runfold_coordinator.artifacts.errors import ArtifactRefusedError
from runfold_coordinator.artifacts.participants import UPLOAD_WAIT_S
from runfold_coordinator.store.store import Store
from support.artifact_desk import DAY_S, Job


@pytest.fixture
def job(store: Store, tmp_path: Path) -> Job:
    return Job(store, tmp_path)


def test_parts_are_added_to_the_latest_version_when_one_says_so(job: Job) -> None:
    (process,) = ranks = job.ranks(1)
    whole = job.log({"old": b"1", "both": b"1"}, "ckpt")
    parts = [
        job.part(process, {"new": b"2"}),
        job.part(process, {"both": b"2"}, finish=True, incremental=True),
    ]
    for draft in parts:
        process.logs(draft)
        job.commit(draft)
    job.catch_up(ranks)
    assert whole["version"] == "v0"
    assert job.files(job.find("ckpt:latest")) == {"old": b"1", "both": b"2", "new": b"2"}


def test_a_part_that_comes_late_is_added_to_what_is_the_latest_version_by_then(job: Job) -> None:
    ranks = job.ranks(2)
    job.log({"old": b"1", "both": b"1"}, "ckpt")
    late = job.part(ranks[1], {"both": b"2"}, incremental=True)
    finish = job.part(ranks[0], {"new": b"2"}, finish=True, incremental=True)
    ranks[1].logs(late)
    ranks[0].logs(finish)
    job.commit(finish)
    job.catch_up(ranks)
    job.settle(UPLOAD_WAIT_S + 20)
    assert job.files(job.version(1)) == {"old": b"1", "both": b"1", "new": b"2"}, "it lacks a part"
    job.log({"old": b"3"}, "ckpt", incremental=True)
    assert job.files(job.find("ckpt:latest")) == {"old": b"3", "both": b"1"}
    job.pass_s(2 * DAY_S)
    job.sweep()
    job.manifest({"both": b"2"})
    job.blobs.put(job.manifest({"both": b"2"}).pack())
    job.commit(late)
    job.settle()
    found = job.find("ckpt:latest")
    assert (found["incomplete"], found["id"]) == (None, job.reader.draft(late.client_id)["id"])
    assert job.files(found) == {"old": b"3", "both": b"2", "new": b"2"}


def test_what_a_late_part_adds_takes_back_nothing_that_was_added_since(job: Job) -> None:
    ranks = job.ranks(2)
    first = [job.part(ranks[1], {"a": b"1"}, incremental=True), job.part(ranks[0], {"b": b"1"}, finish=True)]
    for process, draft in zip(reversed(ranks), first, strict=True):
        process.logs(draft)
        job.commit(draft)
    job.catch_up(ranks)
    job.log({"a": b"2"}, "ckpt", incremental=True)
    one, other = (job.process("job", rank) for rank in (2, 3))  # processes that were not known then
    said_unix_ns = first[0].said_unix_ns
    job.commit(job.part(one, {"c": b"3"}, incremental=True, said_unix_ns=said_unix_ns))
    job.settle()
    found = job.find("ckpt:latest")
    assert (found["version"], job.files(found)) == ("v2", {"a": b"2", "b": b"1", "c": b"3"})
    clashing = [
        job.part(process, {"d": content}, incremental=True, said_unix_ns=said_unix_ns)
        for process, content in ((one, b"4"), (other, b"5"))
    ]
    for draft in clashing:
        job.commit(draft)
    job.settle()
    errors = [job.reader.draft(draft.client_id)["error"] for draft in clashing]
    assert all("'d': those of rank 2 on node2, rank 3 on node3" in error for error in errors)
    assert job.find("ckpt:latest")["id"] == found["id"]


def test_parts_that_make_the_latest_version_too_large_fail_and_hold_up_no_other(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    (process,) = ranks = job.ranks(1)
    job.log({"old": b"1", "older": b"1"}, "ckpt")
    finish = job.part(process, {"new": b"2"}, finish=True, incremental=True)
    process.logs(finish)
    job.commit(finish)
    monkeypatch.setattr(manifest_stream, "MAX_ENTRIES", 2)
    job.catch_up(ranks)
    found = job.reader.draft(finish.client_id)
    assert (found["state"], "too many files" in found["error"]) == ("failed", True)
    with pytest.raises(ArtifactRefusedError, match="too many files"):
        job.log({"new": b"2"}, "ckpt", incremental=True)

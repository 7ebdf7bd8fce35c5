"""Versions that many processes write, over both databases: whole, in any order, or declared not to be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from runfold_coordinator.artifacts import part_merge, versions
from runfold_coordinator.artifacts.drafts import Draft
from runfold_coordinator.artifacts.errors import NoSuchArtifactError
from runfold_coordinator.artifacts.participants import (
    DELIVERY_WAIT_S,
    JOIN_WAIT_S,
    UPLOAD_WAIT_ALIVE_S,
    UPLOAD_WAIT_S,
)
from runfold_coordinator.store.store import Store
from support.artifact_desk import DAY_S, Job, Process


@pytest.fixture
def job(store: Store, tmp_path: Path) -> Job:
    return Job(store, tmp_path)


def test_eight_writers_in_any_order_of_arrival(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_merge, "FAN_IN", 3)
    ranks = job.ranks(8)
    drafts, frames = [], []
    for epoch in range(2):
        for process in ranks:
            drafts.append(job.part(process, {f"{epoch}/{process.host}": process.writer_id.encode()}))
            frames.append((process, process.logs(drafts[-1], feed=False)))
        drafts.append(job.part(ranks[0], {f"{epoch}/index": b"i"}, finish=True, aliases=(f"epoch{epoch}",)))
        frames.append((ranks[0], ranks[0].logs(drafts[-1], feed=False)))
        job.pass_s(5)
    chance = random.Random(job.store.engines.is_sqlite)
    order = list(range(8))
    chance.shuffle(order)
    steps = [lambda draft=draft: job.commit(draft) for draft in drafts]
    # Records of one process come in their order; else anything may come first.
    for rank in order:
        own = [frame for process, frame in frames if process is ranks[rank]]
        steps.insert(chance.randrange(len(steps)), lambda own=own: [job.bench.feed(frame) for frame in own])
    chance.shuffle(steps)
    for step in steps:
        step()
        job.settle(0.1)
    job.catch_up(ranks)
    job.settle()
    for epoch in range(2):
        found = job.find(f"ckpt:epoch{epoch}")
        expected = sorted([f"{epoch}/index", *(f"{epoch}/node{rank}" for rank in range(8))])
        assert (found["version"], found["incomplete"], job.names(found)) == (f"v{epoch}", None, expected)
        assert found["count"] == 9
    assert job.find("ckpt")["aliases"] == ["epoch1", "latest"]
    assert {job.reader.draft(draft.client_id)["state"] for draft in drafts} == {"committed"}
    assert len(job.reader.of_run(ranks[3].run_pk, "logged", limit=9).items) == 2


def test_a_finish_waits_for_what_others_may_have_said_before_it(job: Job) -> None:
    one, two = job.ranks(2)
    part = job.part(two, {"b": b"2"})
    late_record = two.logs(part, feed=False)
    finish = job.part(one, {"a": b"1"}, finish=True)
    one.logs(finish)
    job.commit(finish)
    job.settle()
    found = job.reader.draft(finish.client_id)
    assert (found["state"], "1 processes" in found["waits_for"]) == ("pending", True)
    two.beats()  # it tells of a record that is not here, and was made before the finish came
    job.settle(3.0)
    assert job.reader.draft(finish.client_id)["state"] == "pending"
    two.beats()
    job.settle()
    assert job.reader.draft(finish.client_id)["state"] == "pending"
    job.bench.feed(late_record)
    job.settle()
    assert "rank 1 on node1" in job.reader.draft(finish.client_id)["waits_for"]  # for the upload, now
    job.commit(part)
    job.settle()
    assert job.names(job.version(0)) == ["a", "b"]
    assert job.reader.draft(finish.client_id)["waits_for"] is None


def test_who_says_nothing_is_waited_for_for_a_minute(job: Job) -> None:
    one, two = job.ranks(2)
    finish = job.part(one, {"a": b"1"}, finish=True)
    one.logs(finish)
    job.commit(finish)
    job.settle(DELIVERY_WAIT_S - 1)
    assert job.reader.draft(finish.client_id)["state"] == "pending"
    job.settle(2)
    assert job.names(job.version(0)) == ["a"]
    part = job.part(two, {"b": b"2"})  # it was away, and says its part now
    two.logs(part)
    job.commit(part)
    second = job.part(one, {"c": b"3"}, finish=True)
    one.logs(second)
    job.commit(second)
    job.settle(DELIVERY_WAIT_S + 1)
    assert job.names(job.version(1)) == ["b", "c"]


def test_processes_that_have_ended_are_not_waited_for(job: Job) -> None:
    one, two = job.ranks(2)
    part, finish = job.part(two, {"b": b"2"}), job.part(one, {"a": b"1"}, finish=True)
    two.logs(part)
    one.logs(finish)
    job.commit(part)
    job.commit(finish)
    one.ends()
    two.ends()
    job.settle()
    assert job.names(job.version(0)) == ["a", "b"]


def test_spools_of_an_offline_job_may_come_one_by_one_and_days_apart(job: Job) -> None:
    ranks: list[Process] = []
    drafts: list[Draft] = []

    def sync(rank: int) -> None:
        ranks.append(job.process("job", rank, world_size=3))
        facts = {"said_unix_ns": 1_700_000_000_000_000_000 + (rank == 0)}
        files = {f"{rank}": b"x"}
        drafts.append(job.part(ranks[-1], files, finish=rank == 0, **facts))
        job.commit(drafts[-1])  # its bytes are here before its record, which was written long ago
        ranks[-1].ends()

    sync(0)
    job.settle()
    assert "2 processes" in job.reader.draft(drafts[0].client_id)["waits_for"]
    job.settle(5)
    sync(1)
    job.settle(1)
    assert job.reader.draft(drafts[0].client_id)["state"] == "pending"
    job.settle(JOIN_WAIT_S)
    assert job.names(job.version(0)) == ["0", "1"]
    assert job.find("ckpt")["version"] == "v0"
    job.pass_s(DAY_S)
    sync(2)
    job.settle()
    found = job.find("ckpt")
    assert (found["version"], job.names(found), found["incomplete"]) == ("v1", ["0", "1", "2"], None)
    assert {job.reader.draft(draft.client_id)["version"] for draft in drafts} == {"v1"}
    assert job.artifacts.settler.turn() == 0
    lost = job.process("job", 3)  # one that said a part, and whose node is never seen again
    draft = job.part(lost, {"3": b"x"}, said_unix_ns=1_700_000_000_000_000_000)
    job.clock.now_s -= 3 * DAY_S
    record = lost.logs(draft, feed=False)
    job.clock.now_s += 3 * DAY_S
    job.bench.feed(record)
    job.settle()
    assert "rank 3" in job.reader.draft(drafts[0].client_id)["waits_for"]
    job.settle(UPLOAD_WAIT_S + 1)
    assert job.reader.draft(draft.client_id)["state"] == "failed"
    assert job.reader.draft(drafts[0].client_id)["waits_for"] is None
    assert job.find("ckpt")["version"] == "v1"


def test_ranks_that_are_runs_of_a_group_write_one_version(job: Job) -> None:
    ranks = [job.process(f"run{rank}", rank, group="g") for rank in range(2)]
    part = job.part(ranks[1], {"b": b"2"})
    late_record = ranks[1].logs(part, feed=False)
    finish = job.part(ranks[0], {"a": b"1"}, finish=True)
    ranks[0].logs(finish)
    job.commit(finish)
    job.commit(part)
    job.settle(5)
    assert job.reader.draft(finish.client_id)["state"] == "pending"  # rank 1's run lives, and is behind
    job.bench.feed(late_record)
    job.catch_up(ranks)
    assert job.names(job.version(0)) == ["a", "b"]


def test_two_files_by_one_name_fail_the_version_and_say_whose(job: Job) -> None:
    ranks = job.ranks(3)
    drafts = [
        job.part(ranks[0], {"same": b"1", "a": b"1"}),
        job.part(ranks[1], {"same": b"1", "shard": b"1"}),
        job.part(ranks[2], {"same": b"1", "shard": b"2"}, finish=True),
    ]
    for process, draft in zip(ranks, drafts, strict=True):
        process.logs(draft)
        job.commit(draft)
    job.catch_up(ranks)
    for draft in drafts:
        found = job.reader.draft(draft.client_id)
        assert found["state"] == "failed"
        assert "'shard'" in found["error"]
        assert "rank 1 on node1, rank 2 on node2" in found["error"]
    with pytest.raises(NoSuchArtifactError):
        job.find("ckpt")
    late = job.process("job", 3)  # a process that was not known then
    drafts.append(job.part(late, {"d": b"4"}, said_unix_ns=drafts[0].said_unix_ns))
    job.commit(drafts[-1])
    job.settle()
    assert "'shard'" in job.reader.draft(drafts[-1].client_id)["error"]
    job.commit(drafts[1])  # said again by its agent: it stays as it is
    job.settle()
    assert job.reader.draft(drafts[1].client_id)["state"] == "failed"
    again = job.part(ranks[0], {"shard": b"3"}, finish=True)  # the next version is not hurt
    ranks[0].logs(again)
    job.commit(again)
    job.catch_up([*ranks, late])
    assert job.names(job.version(0)) == ["shard"]


def test_a_part_whose_node_died_is_declared_and_completes_the_version_when_it_comes(job: Job) -> None:
    ranks = job.ranks(2)
    whole = job.log({"old": b"0"}, name="ckpt")
    part = job.part(ranks[1], {"b": b"2"}, aliases=("best",))
    finish = job.part(ranks[0], {"a": b"1"}, finish=True, links=(("model-registry/M", ()),))
    ranks[1].logs(part)
    ranks[0].logs(finish)
    job.commit(finish)
    job.catch_up(ranks)
    job.settle(UPLOAD_WAIT_S - 10)
    assert job.reader.draft(finish.client_id)["state"] == "pending"
    job.settle(20)
    found = job.version(1)
    assert (job.names(found), found["aliases"]) == (["a"], [])
    missing = found["incomplete"]["missing"][0]
    assert (missing["rank"], missing["host"], missing["run"]) == (1, "node1", "e/p/job")
    assert "not heard of" in missing["reason"]
    assert job.find("ckpt")["id"] == whole["id"]  # who asks for the latest gets a whole one
    assert job.reader.draft(part.client_id)["state"] == "failed"
    job.commit(part)  # the node is back, and its agent goes on
    job.settle()
    found = job.version(2)
    assert (job.names(found), found["incomplete"]) == (["a", "b"], None)
    assert found["aliases"] == ["best", "latest"]
    assert {job.reader.draft(each.client_id)["version"] for each in (part, finish)} == {"v2"}
    assert job.find("M", "model-registry")["id"] == found["id"]


def test_a_version_is_completed_long_after_its_other_parts_came(job: Job) -> None:
    ranks = job.ranks(3)
    late = job.part(ranks[2], {"c": b"3"}, aliases=("best",))
    others = [job.part(ranks[1], {"b": b"2"}), job.part(ranks[0], {"a": b"1"}, finish=True)]
    for process, draft in zip((ranks[2], ranks[1], ranks[0]), (late, *others), strict=True):
        process.logs(draft)
    for draft in others:
        job.commit(draft)
    job.catch_up(ranks)
    job.settle(UPLOAD_WAIT_S + 20)
    assert job.names(job.version(0)) == ["a", "b"]
    job.pass_s(2 * DAY_S)
    job.sweep()
    job.manifest({"c": b"3"})  # the node is back, and its agent uploads what is missing
    job.blobs.put(job.manifest({"c": b"3"}).pack())
    job.commit(late)
    job.settle()
    found = job.version(1)
    assert (job.names(found), found["incomplete"], found["aliases"]) == (
        *(["a", "b", "c"], None),
        ["best", "latest"],
    )
    assert {job.reader.draft(draft.client_id)["version"] for draft in (late, *others)} == {"v1"}


def test_a_part_of_a_version_that_was_deleted_says_so(job: Job) -> None:
    ranks = job.ranks(2)
    late, finish = job.part(ranks[1], {"b": b"2"}), job.part(ranks[0], {"a": b"1"}, finish=True)
    ranks[1].logs(late)
    ranks[0].logs(finish)
    job.commit(finish)
    job.catch_up(ranks)
    job.settle(UPLOAD_WAIT_S + 20)
    job.artifacts.deleter.delete_version(job.version(0)["id"], force=True)
    job.pass_s(2 * DAY_S)
    job.artifacts.deleter.purge()
    job.sweep()
    job.manifest({"b": b"2"})
    job.blobs.put(job.manifest({"b": b"2"}).pack())
    job.commit(late)
    job.settle()
    found = job.reader.draft(late.client_id)
    assert (found["state"], found["error"]) == ("failed", "its version has been deleted")
    with pytest.raises(NoSuchArtifactError):
        job.version(1)


def test_an_upload_is_waited_for_as_long_as_its_node_lives(job: Job) -> None:
    ranks = job.ranks(2)
    part, finish = job.part(ranks[1], {"b": b"2"}), job.part(ranks[0], {"a": b"1"}, finish=True)
    ranks[1].logs(part)
    ranks[0].logs(finish)
    job.commit(finish)
    for _ in range(5):
        job.pass_s(UPLOAD_WAIT_S - 60)
        ranks[1].beats()
        job.settle()
    assert job.reader.draft(finish.client_id)["state"] == "pending"
    run = job.store.find_run("e", "p", "job")
    assert run is not None
    job.artifacts.committer.give_up(part.client_id, run, "no space left")
    job.settle()
    assert job.version(0)["incomplete"]["missing"][0]["reason"] == "no space left"
    with pytest.raises(NoSuchArtifactError) as none:  # and no older one is whole
        job.find("ckpt")
    assert none.value.hint == "its newest version is v0, which lacks files of some processes"


def test_nothing_is_waited_for_for_ever(job: Job) -> None:
    ranks = job.ranks(2)
    part, finish = job.part(ranks[1], {"b": b"2"}), job.part(ranks[0], {}, finish=True)
    ranks[1].logs(part)
    ranks[0].logs(finish)
    for _ in range(int(UPLOAD_WAIT_ALIVE_S // 500) + 1):
        job.pass_s(500)
        for process in ranks:
            process.beats()
    job.settle()
    assert job.reader.draft(finish.client_id)["state"] == "failed"
    assert "no part" in job.reader.draft(finish.client_id)["error"]


def test_the_whole_set_says_what_the_version_is(job: Job) -> None:
    ranks = job.ranks(2)
    part = job.part(ranks[1], {"b": b"2"}, aliases=("x",), tags=("t1",), metadata={"k": 1, "both": 1})
    finish = job.part(ranks[0], {"a": b"1"}, finish=True, tags=("t2",), metadata={"both": 2})
    for process, draft in ((ranks[1], part), (ranks[0], finish)):
        process.logs(draft)
        job.commit(draft)
    job.catch_up(ranks)
    found = job.version(0)
    assert (found["aliases"], found["tags"]) == (["latest", "x"], ["t1", "t2"])
    assert (found["metadata"], found["distributed_id"]) == ({"k": 1, "both": 2}, "d")
    wrong = job.part(ranks[0], {"c": b"3"}, finish=True, type="dataset")
    ranks[0].logs(wrong)
    job.commit(wrong)
    job.catch_up(ranks)
    assert "'model'" in job.reader.draft(wrong.client_id)["error"]


@pytest.mark.parametrize("what", ["aliases", "tags"])
def test_of_parts_with_too_many_labels_nothing_is_made(
    job: Job, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "MAX_LABELS_IN_ALL", 3)
    ranks = job.ranks(2)
    drafts = [
        job.part(ranks[1], {"b": b"2"}, **{what: ("one", "two")}),
        job.part(ranks[0], {"a": b"1"}, finish=True, **{what: ("three", "four")}),
    ]
    for process, draft in zip(reversed(ranks), drafts, strict=True):
        process.logs(draft)
        job.commit(draft)
    job.catch_up(ranks)
    found = [job.reader.draft(draft.client_id) for draft in drafts]
    assert [each["state"] for each in found] == ["failed", "failed"]
    assert all("at most 3" in each["error"] for each in found)
    with pytest.raises(NoSuchArtifactError):
        job.find("ckpt:v0")

"""kill -9 between any two steps of a commit, or of closing a distributed version: said again, it is made once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runfold.protocol import failpoints
from runfold_coordinator.artifacts.drafts import Draft
from runfold_coordinator.artifacts.participants import DELIVERY_WAIT_S
from runfold_coordinator.store.store import Store
from support.artifact_desk import Desk


@contextmanager
def opened(folder: Path) -> Iterator[Desk]:
    store = Store.open(f"sqlite:///{folder / 'runfold.db'}")
    try:
        yield Desk(store, folder)
    finally:
        store.close()


def killed_at(name: str, folder: Path, act: Callable[[Desk], object]) -> None:
    """Do it in another process, which dies at the failpoint. Nothing of the store is open here meanwhile."""
    pid = os.fork()
    if pid == 0:
        try:
            failpoints.ARMED, failpoints._name, failpoints._left = True, name, 1
            with opened(folder) as desk:
                desk.pass_s(2 * DELIVERY_WAIT_S)
                act(desk)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"{name} was not hit"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("name", ["after_look", "after_begin", "before_commit", "after_commit"])
def test_a_commit_is_whole_or_not_there_and_is_made_once(name: str, tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        old = desk.log({"a": b"0"})
        process = desk.process()
        draft = process.draft({"a": b"1", "b": b"2"}, aliases=("best",), links=(("model-registry/M", ()),))
        process.logs(draft)
    killed_at(f"artifacts.{name}", tmp_path, lambda desk: desk.commit(draft))
    with opened(tmp_path) as desk:
        state = desk.reader.draft(draft.client_id)["state"]
        assert state == ("committed" if name == "after_commit" else "said")
        assert desk.find("model")["id"] == old["id"] or name == "after_commit"
        desk.commit(draft)
        desk.commit(draft)
        found = desk.find("model:best")
        assert (found["version"], found["aliases"]) == ("v1", ["best", "latest"])
        assert desk.reader.versions(found["collection_id"], limit=9).total == 2
        assert desk.find("M", "model-registry")["version"] == "v0"
        assert all(desk.blobs.size(digest) is not None for digest in desk.artifacts.roots())


@pytest.mark.parametrize("name", ["after_merge", "before_settle", "after_settle"])
def test_a_distributed_version_is_closed_once(name: str, tmp_path: Path) -> None:
    drafts: list[Draft] = []
    with opened(tmp_path) as desk:
        for rank in range(2):
            process = desk.process("job", rank)
            drafts.append(process.draft({f"{rank}": b"x"}, "ckpt", distributed_id="d", finalize=rank == 1))
            process.logs(drafts[-1])
            desk.commit(drafts[-1])
            desk.pass_s(0.01)
    killed_at(f"artifacts.{name}", tmp_path, lambda desk: desk.artifacts.settler.turn())
    with opened(tmp_path) as desk:
        desk.pass_s(2 * DELIVERY_WAIT_S)
        expected = {"committed"} if name == "after_settle" else {"pending"}
        assert {desk.reader.draft(draft.client_id)["state"] for draft in drafts} == expected
        desk.artifacts.settler.turn()
        found = desk.find("ckpt")
        assert desk.reader.versions(found["collection_id"], limit=9).total == 1
        assert [each["name"] for each in desk.reader.files(found["id"], limit=9).items] == ["0", "1"]
        assert desk.blobs.missing(list(desk.artifacts.roots())) == []

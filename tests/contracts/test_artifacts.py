"""Artifacts over both databases: versions, names, links, lineage, deletion, what is kept from the collector."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runfold.protocol.manifest import Entry
from runfold_coordinator.artifacts import versions
from runfold_coordinator.artifacts.deleting import KEEP_DELETED_S
from runfold_coordinator.artifacts.drafts import Ttl
from runfold_coordinator.artifacts.editing import Labels
from runfold_coordinator.artifacts.errors import (
    ArtifactInUseError,
    ArtifactRefusedError,
    BlobsMissingError,
    NoSuchArtifactError,
)
from runfold_coordinator.blobs.errors import BlobMissingError
from runfold_coordinator.edits.deletion import Deletion
from runfold_coordinator.store.store import Store
from support.artifact_desk import DAY_S, Desk, new_id
from support.manifest_entries import entry_of, file_entry


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    return Desk(store, tmp_path)


def labels(document: dict[str, Any]) -> tuple[str, list[str]]:
    return document["version"], document["aliases"]


def test_unchanged_files_make_no_version_and_names_move(desk: Desk) -> None:
    first = desk.log({"a": b"1"}, aliases=("best",), tags=("t1",), metadata={"acc": 1})
    assert labels(first) == ("v0", ["best", "latest"])
    assert labels(desk.log({"a": b"2"})) == ("v1", ["latest"])
    again = desk.log({"a": b"1"}, aliases=("prod", "v7"), tags=("t2",), metadata={"acc": 2})
    assert (again["id"], *labels(again)) == (first["id"], "v0", ["best", "latest", "prod"])
    assert (again["tags"], again["metadata"]) == (["t1", "t2"], {"acc": 1})
    assert labels(desk.log({"a": b"2"}, aliases=("best",))) == ("v1", ["best", "latest"])
    assert labels(desk.find("model:v0")) == ("v0", ["prod"])
    page = desk.reader.versions(first["collection_id"], limit=1)
    assert (page.total, [each["version"] for each in page.items]) == (2, ["v1"])
    rest = desk.reader.versions(first["collection_id"], limit=1, cursor=page.next_cursor)
    assert ([each["version"] for each in rest.items], rest.next_cursor) == (["v0"], None)
    tagged = desk.reader.versions(first["collection_id"], tags=["t1", "t2"], alias="prod", limit=9)
    assert [each["version"] for each in tagged.items] == ["v0"]
    assert desk.reader.versions(first["collection_id"], tags=["t1", "t3"], limit=9).items == []


def test_a_client_id_is_one_version_however_often_it_is_sent(desk: Desk) -> None:
    draft = desk.draft({"a": b"1"})
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(desk.commit, [draft] * 8))
    assert sum(each.made is not None and each.made.is_new for each in done) == 1
    others = [desk.draft({"a": f"{number}".encode()}) for number in range(2, 8)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(desk.commit, others))
    found = desk.reader.versions(desk.find("model")["collection_id"], limit=100)
    assert [each["version"] for each in found.items] == [f"v{number}" for number in range(6, -1, -1)]
    with pytest.raises(ArtifactRefusedError, match="another artifact") as refused:
        desk.commit(replace(desk.draft({"a": b"9"}), client_id=draft.client_id))
    assert refused.value.code == "client_id_reused"
    assert desk.reader.draft(draft.client_id)["state"] == "committed"


def test_a_collection_has_one_type_and_a_refused_draft_says_why(desk: Desk) -> None:
    desk.log({"a": b"1"})
    draft = desk.draft({"a": b"2"}, type="dataset")
    with pytest.raises(ArtifactRefusedError, match="'model'") as refused:
        desk.commit(draft)
    assert (refused.value.code, refused.value.field) == ("type_mismatch", "type")
    found = desk.reader.draft(draft.client_id)
    assert (found["state"], "'model'" in found["error"]) == ("failed", True)
    assert desk.artifacts.collections.types("e", "p") == [{"name": "model", "collection_count": 1}]


def test_nothing_is_kept_before_every_blob_is_here(desk: Desk) -> None:
    absent = entry_of("0" * 64, 5)
    draft = desk.draft({"a": b"1", "b": absent, "c": Entry("etag", 9, "s3://b/k", {"etag": "x"})})
    with pytest.raises(BlobsMissingError) as missing:
        desk.commit(draft)
    assert (missing.value.missing, missing.value.count) == (["0" * 64], 1)
    unknown = replace(draft, manifest="1" * 64)
    with pytest.raises(BlobsMissingError) as missing:
        desk.commit(unknown)
    assert missing.value.missing == ["1" * 64]
    with pytest.raises(NoSuchArtifactError):
        desk.reader.draft(draft.client_id)
    with pytest.raises(ArtifactRefusedError, match="digest"):
        desk.commit(replace(desk.draft({"a": b"1"}), digest="2" * 32))
    with pytest.raises(ArtifactRefusedError, match="version that is known"):
        desk.commit(replace(draft, client_id=new_id(), manifest=desk.blobs.put(b"no manifest")))
    with pytest.raises(NoSuchArtifactError):
        desk.find("model")


def test_references_are_kept_and_need_nothing_here(desk: Desk) -> None:
    extra = {"etag": "x", "versionID": "7"}
    found = desk.log({"ref": Entry("etag", None, "s3://bucket/key", extra), "z": b"1"})
    page = desk.reader.files(found["id"], limit=1)
    assert page.items == [
        {"name": "ref", "digest": "etag", "size": None, "ref": "s3://bucket/key", "extra": extra}
    ]
    rest = desk.reader.files(found["id"], limit=1, cursor=page.next_cursor)
    assert ([each["name"] for each in rest.items], rest.next_cursor) == (["z"], None)
    assert (found["count"], found["size"]) == (2, 1)
    many = desk.log({"a/1": b"", "a/2": b"", "a0": b"", "b": b""}, name="many")
    named = desk.reader.files(many["id"], prefix="a/", limit=9).items
    assert [each["name"] for each in named] == ["a/1", "a/2"]
    named = desk.reader.files(many["id"], names=["b", "no"], limit=9).items
    assert [each["name"] for each in named] == ["b"]


def test_what_was_said_is_seen_before_its_files_are_here(desk: Desk) -> None:
    process = desk.process()
    draft, second, third = (process.draft({"a": text}) for text in (b"1", b"2", b"3"))
    process.logs(draft)
    assert desk.reader.draft(draft.client_id)["state"] == "said"
    page = desk.reader.of_run(process.run_pk, "logged", limit=9, include_pending=True)
    assert (page.total, [each["state"] for each in page.items]) == (1, ["said"])
    desk.commit(draft)
    process.logs(draft)  # sent again by an agent that did not hear the ack: another record of it
    desk.commit(second)
    process.logs(second)  # its record comes after its files
    run = desk.store.find_run("e", "p", "r1")
    assert run is not None
    desk.artifacts.committer.give_up(third.client_id, run, "the file has vanished")
    process.logs(third)
    failed = desk.reader.draft(third.client_id)
    assert (failed["state"], failed["error"], failed["collection"]) == (
        "failed",
        "the file has vanished",
        "model",
    )
    page = desk.reader.of_run(process.run_pk, "logged", limit=9, include_pending=True)
    states = [(each["version"], each["state"]) for each in page.items]
    assert states == [("v0", "committed"), ("v1", "committed"), (None, "failed")]
    assert desk.find("model")["logged_by"] == {"entity": "e", "project": "p", "run_id": "r1", "name": None}
    desk.commit(third)  # it was found after all
    desk.artifacts.committer.give_up(third.client_id, run, "too late")
    assert desk.reader.draft(third.client_id)["state"] == "committed"


def test_what_one_process_said_earlier_takes_no_name_back(desk: Desk) -> None:
    first, second = desk.process("r1"), desk.process("r2", 1)
    early = first.draft({"a": b"1"}, aliases=("best",))
    desk.pass_s(10)
    late = first.draft({"a": b"2"})
    desk.commit(late)
    desk.commit(early)  # its upload took longer
    assert labels(desk.find("model:best")) == ("v1", ["best"])
    assert labels(desk.find("model")) == ("v0", ["latest"])
    other = second.draft({"a": b"3"}, said_unix_ns=early.said_unix_ns - 1)
    desk.commit(other)  # another process, whose run was offline
    assert desk.find("model")["version"] == "v2"


def test_links_number_anew_and_have_names_of_their_own(desk: Desk) -> None:
    one = desk.log(
        {"a": b"1"}, links=(("model-registry/Det", ("staging",)), ("wandb-registry-x/R", ("v1", "ok")))
    )
    two = desk.log({"a": b"2"}, name="other")
    shown = desk.find("Det:staging", "model-registry")
    assert (shown["id"], *labels(shown), shown["is_link"]) == (one["id"], "v0", ["latest", "staging"], True)
    assert shown["source"]["collection"] == "model"
    assert desk.find("R", "wandb-registry-x")["aliases"] == ["latest", "ok"]
    desk.artifacts.editor.link(two["id"], "e/model-registry/Det", ["prod"])
    desk.artifacts.editor.link(two["id"], "model-registry/Det", [])
    assert labels(desk.find("Det", "model-registry")) == ("v1", ["latest", "prod"])
    assert [each["version"] for each in desk.reader.links(one["id"])] == ["v0", "v0"]
    bad = desk.draft({"a": b"3"}, name="set", type="dataset", links=(("model-registry/Det", ()),))
    made = desk.commit(bad).made
    assert made is not None
    assert made.link_errors[0]["target"] == "model-registry/Det"
    shown = desk.reader.draft(bad.client_id)
    assert (shown["state"], "not linked to model-registry/Det" in shown["error"]) == ("committed", True)
    for target, code in (
        ("p/model", "collection_is_logged"),
        ("a/b/c/d", "bad_target"),
        ("x/b ad", "bad_name"),
    ):
        with pytest.raises(ArtifactRefusedError) as refused:
            desk.artifacts.editor.link(one["id"], target, [])
        assert refused.value.code == code
    with pytest.raises(ArtifactRefusedError) as refused:
        desk.commit(replace(desk.draft({"a": b"1"}, name="Det"), project="model-registry"))
    assert refused.value.code == "collection_is_linked"
    registry = desk.find("Det", "model-registry")["collection_id"]
    desk.artifacts.editor.unlink(two["id"], registry)
    assert labels(desk.find("Det", "model-registry")) == ("v0", ["latest", "staging"])
    with pytest.raises(NoSuchArtifactError):
        desk.artifacts.editor.unlink(two["id"], registry)
    with pytest.raises(NoSuchArtifactError):
        desk.artifacts.editor.unlink(one["id"], one["collection_id"])


def test_deletion_asks_about_names_and_links(desk: Desk) -> None:
    delete = desk.artifacts.deleter.delete_version
    one, two, three = (desk.log({"a": text}) for text in (b"1", b"2", b"3"))
    desk.artifacts.editor.link(one["id"], "model-registry/Det", [])
    for version, code in ((three, "artifact_has_aliases"), (one, "artifact_has_aliases")):
        with pytest.raises(ArtifactInUseError) as refused:
            delete(version["id"], force=False)
        assert refused.value.code == code
    desk.artifacts.editor.edit_version(
        one["id"], {}, aliases=Labels([]), collection_id=desk.find("Det", "model-registry")["collection_id"]
    )
    with pytest.raises(ArtifactInUseError) as refused:
        delete(one["id"], force=False)
    assert refused.value.code == "artifact_is_linked"
    delete(two["id"], force=False)
    delete(three["id"], force=True)
    with pytest.raises(NoSuchArtifactError):
        delete(three["id"], force=True)
    assert labels(desk.find("model")) == ("v0", ["latest"])
    assert desk.reader.draft(three["client_id"])["state"] == "deleted"
    assert desk.log({"a": b"3"})["version"] == "v3"  # the number of what is gone is not given again
    delete(one["id"], force=True)
    assert desk.reader.versions(desk.find("model")["collection_id"], limit=9).total == 1
    with pytest.raises(NoSuchArtifactError):
        desk.find("Det", "model-registry")


def test_a_collection_goes_with_its_versions_and_its_name_is_free(desk: Desk) -> None:
    delete = desk.artifacts.deleter.delete_collection
    one = desk.log({"a": b"1"}, links=(("model-registry/Det", ()),))
    registry = desk.find("Det", "model-registry")["collection_id"]
    with pytest.raises(ArtifactInUseError):
        delete(one["collection_id"], force=False)
    delete(registry, force=False)
    assert desk.reader.links(one["id"]) == []
    delete(one["collection_id"], force=False)
    with pytest.raises(NoSuchArtifactError):
        desk.reader.version(one["id"])
    with pytest.raises(NoSuchArtifactError):
        desk.artifacts.collections.collection(one["collection_id"])
    fresh = desk.log({"a": b"1"}, type="dataset")
    assert (fresh["version"], fresh["type"]) == ("v0", "dataset")
    assert fresh["collection_id"] != one["collection_id"]


def test_time_to_live_is_the_versions_or_the_collections(desk: Desk) -> None:
    turn = desk.artifacts.deleter.expire
    short = desk.log({"a": b"1"}, ttl=Ttl(100.0, is_inherited=False))
    ever = desk.log({"a": b"2"}, ttl=Ttl(None, is_inherited=False))
    linked = desk.log({"a": b"3"}, ttl=Ttl(100.0, is_inherited=False), links=(("model-registry/D", ()),))
    inherits = desk.log({"a": b"4"})
    desk.artifacts.editor.edit_collection(short["collection_id"], {"ttl_s": 200})
    assert (short["expires_unix_s"], ever["expires_unix_s"]) == (short["created_unix_s"] + 100, None)
    desk.pass_s(150)
    assert turn() == 1
    desk.pass_s(100)
    assert turn() == 1
    left = [each["id"] for each in desk.reader.versions(short["collection_id"], limit=9).items]
    assert left == [linked["id"], ever["id"]]
    assert desk.find("model")["id"] == linked["id"]
    assert desk.reader.draft(inherits["client_id"])["state"] == "deleted"
    for bad in (0, -1, float("nan"), True, "soon"):
        with pytest.raises(ArtifactRefusedError):
            desk.artifacts.editor.edit_version(ever["id"], {"ttl_s": bad})


def test_a_version_that_is_linked_in_the_moment_it_would_expire_stays(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = desk.log({"a": b"1"}, ttl=Ttl(100.0, is_inherited=False))
    desk.pass_s(150)
    fetch = Store.fetch

    def linked_then(self: Store, statement: Any) -> Any:
        rows = fetch(self, statement)
        monkeypatch.undo()
        desk.artifacts.editor.link(found["id"], "model-registry/D", ["best"])
        return rows

    monkeypatch.setattr(Store, "fetch", linked_then)
    assert desk.artifacts.deleter.expire() == 0
    assert desk.find("D:best", "model-registry")["id"] == found["id"]


def test_the_collector_takes_what_was_deleted_a_day_ago_and_nothing_else(desk: Desk) -> None:
    process = desk.process()
    gone, kept = desk.log({"a": b"gone", "b": b"both"}), desk.log({"c": b"kept", "b": b"both"})
    part = process.draft({"p": b"part"}, name="parts", distributed_id="d", finalize=False)
    process.logs(part)
    desk.commit(part)
    desk.blobs.put(b"an upload that nobody committed")
    desk.artifacts.deleter.delete_version(gone["id"], force=True)
    desk.pass_s(KEEP_DELETED_S / 2)
    desk.artifacts.deleter.purge()
    assert desk.sweep() == 1  # the upload
    desk.pass_s(KEEP_DELETED_S)
    assert desk.artifacts.deleter.purge() == 1
    assert desk.sweep() == 2  # "gone" and its manifest
    assert [each["name"] for each in desk.reader.files(kept["id"], limit=9).items] == ["b", "c"]
    for digest in [*desk.artifacts.roots()]:
        assert desk.blobs.size(digest) is not None
    desk.pass_s(31 * DAY_S)
    assert desk.artifacts.deleter.give_up_unfinished() == 1
    assert desk.sweep() == 2  # the part and its manifest
    assert desk.reader.draft(part.client_id)["error"] == "nobody has finished it"


def test_a_manifest_that_changed_on_its_disk_lets_nothing_be_collected(desk: Desk, tmp_path: Path) -> None:
    version = desk.log({"f": b"content"})
    used = desk.manifest({"f": b"content"}).entries["f"].blob
    desk.blobs.put(b"gone")
    (lying,) = (tmp_path / "blobs").rglob(f"{version['manifest']}-*")
    whole = lying.read_bytes()
    lying.write_bytes(whole.replace(used.encode(), b"0" * 64))  # and still a manifest
    desk.pass_s(DAY_S)
    for _ in range(2):
        with pytest.raises(BlobMissingError, match="damaged"):
            desk.sweep()
    lying.write_bytes(whole)
    assert desk.sweep() == 1
    assert desk.blobs.size(used) == 7


def test_labels_of_one_version_have_a_limit_in_all(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "MAX_LABELS_IN_ALL", 4)
    version = desk.log({"a": b"1"}, aliases=("a1", "a2"), tags=("t1", "t2", "t3"))
    desk.log({"a": b"1"}, aliases=("a2", "a3"), tags=("t3", "t4"))  # with "latest" four each
    for more in ({"aliases": ("a4",)}, {"tags": ("t5",)}):
        with pytest.raises(ArtifactRefusedError, match="at most 4") as refused:
            desk.log({"a": b"1"}, **more)
        assert refused.value.limit == 4
        with pytest.raises(ArtifactRefusedError, match="at most 4"):
            desk.artifacts.editor.edit_version(
                version["id"], {}, **{key: Labels(add=value) for key, value in more.items()}
            )
    found = desk.find("model")
    assert (found["aliases"], found["tags"]) == (["a1", "a2", "a3", "latest"], ["t1", "t2", "t3", "t4"])
    # Instead of others there is room; a link that has none is left out, and its version is made.
    desk.artifacts.editor.edit_version(version["id"], {}, tags=Labels(all=["n1"], add=["n2"]))
    made = desk.commit(desk.draft({"a": b"2"}, links=(("model-registry/M", ("1", "2", "3", "4", "5")),))).made
    assert made is not None and "at most 4" in made.link_errors[0]["error"]
    with pytest.raises(NoSuchArtifactError):
        desk.find("M", "model-registry")


def test_commits_and_the_collector_at_once_leave_no_version_without_its_blobs(desk: Desk) -> None:
    stop = threading.Event()
    swept = []

    def collect() -> None:
        while not stop.is_set():
            swept.append(desk.sweep())

    contents = [f"old {number}".encode() for number in range(25)]
    for content in contents:
        desk.blobs.put(content)
    desk.pass_s(2 * DAY_S)  # nobody refers to them: each may go at any moment
    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for content in contents:
            draft = desk.draft({"f": desk.manifest({"f": content}).entries["f"]})
            desk.commit(draft)
    finally:
        stop.set()
        thread.join(30)
    assert sum(swept) <= len(contents)
    assert all(desk.blobs.size(digest) is not None for digest in desk.artifacts.roots())


def test_lineage_knows_drafts_by_the_id_that_their_process_gave(desk: Desk) -> None:
    maker, user = desk.process("maker"), desk.process("user", 1)
    draft = maker.draft({"a": b"1"})
    user.uses(draft.client_id, "train")
    user.uses("f" * 32)  # nobody's: a record, and no more
    assert desk.reader.of_run(user.run_pk, "used", limit=9).items == []
    desk.commit(draft)
    found = desk.find("model")
    user.uses(found["id"], "train")  # the same, by the id that the server gave
    desk.artifacts.editor.use(user.run_pk, found["id"], None)
    used = desk.reader.of_run(user.run_pk, "used", limit=9).items
    assert {each["use_as"] for each in used} == {"train", None}
    assert len(used) == 2
    first = desk.reader.used_by(found["id"], limit=1)
    rest = desk.reader.used_by(found["id"], limit=9, cursor=first.next_cursor)
    assert [each["run_id"] for each in (*first.items, *rest.items)] == ["user", "user"]
    desk.artifacts.editor.log(user.run_pk, found["id"], ["mine"], ["more"])
    logged = desk.reader.of_run(user.run_pk, "logged", limit=9).items
    assert [(each["id"], each["tags"], each["aliases"]) for each in logged] == [
        (found["id"], ["more"], ["latest", "mine"])
    ]
    same = user.draft({"a": b"1"})
    desk.commit(same)
    assert len(desk.reader.of_run(user.run_pk, "logged", limit=9).items) == 1
    deleted = desk.store.find_run("e", "p", "user")
    assert deleted is not None
    Deletion(desk.store, desk.clock).delete(deleted, by="me")
    assert desk.reader.used_by(found["id"], limit=9).items == []
    assert desk.artifacts.deleter.delete_logged_by(maker.run_pk) == 1
    with pytest.raises(NoSuchArtifactError):
        desk.find("model")


def test_versions_are_found_by_every_name_they_have(desk: Desk) -> None:
    one = desk.log({"a": b"1"}, aliases=("best",))
    desk.log({"a": b"2"})
    for name in ("model:v0", "model:best", f"model:{one['digest']}", one["digest"]):
        assert desk.find(name)["id"] == one["id"], name
    assert desk.find("model:latest")["version"] == desk.find("model")["version"] == "v1"
    for name in ("model:v2", "model:v00", "model:worst", "other", "0" * 32, "model:" + "0" * 32):
        with pytest.raises(NoSuchArtifactError):
            desk.find(name)
    with pytest.raises(NoSuchArtifactError):
        desk.find("model", project="q")


def test_what_people_change_of_versions_and_collections(desk: Desk) -> None:
    edit = desk.artifacts.editor.edit_version
    one, two = desk.log({"a": b"1"}, tags=("x", "y"), aliases=("a1", "a2")), desk.log({"a": b"2"})
    edit(one["id"], {"description": "d\0", "metadata": {"n": 2**70}}, tags=Labels(add=["z"], remove=["x"]))
    found = desk.reader.version(one["id"])
    assert (found["description"], found["metadata"], found["tags"]) == ("d�", {"n": 2**70}, ["y", "z"])
    edit(one["id"], {}, tags=Labels([]), aliases=Labels(add=["latest"], remove=["a1"]))
    assert (labels(desk.find("model")), desk.find("model")["tags"]) == (("v0", ["a2", "latest"]), [])
    edit(two["id"], {}, aliases=Labels(["only", "latest"]))
    edit(one["id"], {"description": None}, aliases=Labels(["a3"]))
    assert (labels(desk.find("model:v0")), labels(desk.find("model"))) == (
        ("v0", ["a3"]),
        ("v1", ["latest", "only"]),
    )
    assert desk.reader.version(one["id"])["description"] is None
    bad: list[tuple[dict[str, Any], Labels]] = [({}, Labels(["v1"])), ({}, Labels(add=["a:b"]))]
    for changes, aliases in bad:
        with pytest.raises(ArtifactRefusedError):
            edit(one["id"], changes, aliases=aliases)
    with pytest.raises(NoSuchArtifactError):
        edit(new_id(), {})
    other = desk.log({"a": b"1"}, name="other")
    collections = desk.artifacts.collections
    desk.artifacts.editor.edit_collection(other["collection_id"], {"name": "renamed"}, tags=Labels(["t"]))
    with pytest.raises(ArtifactInUseError):
        desk.artifacts.editor.edit_collection(other["collection_id"], {"name": "model"})
    with pytest.raises(ArtifactRefusedError):
        desk.artifacts.editor.edit_collection(other["collection_id"], {"name": "a b"})
    page = collections.collections("e", "p", limit=1)
    rest = collections.collections("e", "p", limit=1, cursor=page.next_cursor)
    assert [each["name"] for each in (*page.items, *rest.items)] == ["model", "renamed"]
    assert (page.items[0]["version_count"], page.items[0]["latest"], rest.next_cursor) == (2, "v1", None)
    assert page.items[0]["aliases"] == ["a3", "latest", "only"]
    assert rest.items[0]["tags"] == ["t"]
    assert collections.collections("e", "p", pattern="re%", kind="logged", limit=9).items == rest.items
    assert collections.collections("e", "p", type_name="none", limit=9).items == []


def test_two_contents_with_one_md5_are_two_versions(desk: Desk) -> None:
    # The collision of Wang and others, 2004.
    start, end = "d131dd02c5e6eec4693d9a0698aff95c2fcab5", "5ad340609f4b30283e488832"
    a = bytes.fromhex(
        f"{start}8712467eab4004583eb8fb7f895{end}571415a085125e8f7cdc99fd91dbdf280373c5bd8823e3156348f5bae6dacd4"
        "36c919c6dd53e2b487da03fd02396306d248cda0e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
    )
    b = bytes.fromhex(
        f"{start}0712467eab4004583eb8fb7f895{end}5f1415a085125e8f7cdc99fd91dbd7280373c5bd8823e3156348f5bae6dacd4"
        "36c919c6dd53e23487da03fd02396306d248cda0e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
    )
    one, other = desk.log({"f": a}), desk.log({"f": b})
    assert other["digest"] == one["digest"]
    assert (one["version"], other["version"]) == ("v0", "v1")
    assert desk.log({"f": a})["id"] == one["id"]
    assert desk.files(other) == {"f": b}
    draft = desk.draft({"f": a})
    desk.commit(draft)
    with pytest.raises(ArtifactRefusedError, match="another artifact"):
        desk.commit(replace(draft, manifest=desk.blobs.put(desk.manifest({"f": b}).pack())))


def test_the_digest_of_a_file_is_that_of_its_content(desk: Desk) -> None:
    desk.blobs.put(b"content")
    wrong = replace(file_entry(b"content"), digest=file_entry(b"other").digest)
    for files in ({"f": wrong}, {"a": file_entry(b"content"), "f": wrong}):
        with pytest.raises(ArtifactRefusedError, match="the digest of 'f' is not the MD5 of its content"):
            desk.log(files)
    assert desk.log({"f": file_entry(b"content")})["version"] == "v0"


def test_what_is_incremental_is_added_to_the_latest_version(desk: Desk) -> None:
    added = {"incremental": True}
    first = desk.log({"a": b"1", "b": b"1"}, **added)
    assert desk.files(first) == {"a": b"1", "b": b"1"}, "there was none to be added to"
    second = desk.log({"b": b"2", "c": b"2"}, **added)
    assert desk.files(second) == {"a": b"1", "b": b"2", "c": b"2"}
    assert second["digest"] == desk.manifest({"a": b"1", "b": b"2", "c": b"2"}).digest
    assert (second["size"], second["count"], second["version"]) == (3, 3, "v1")
    same = desk.log({"c": b"2"}, **added)
    assert same["id"] == second["id"], "nothing of it is new"
    desk.log({"z": b"9"})
    assert desk.files(desk.log({"a": b"3"}, **added)) == {"a": b"3", "z": b"9"}
    assert desk.sweep() >= 0
    assert all(desk.blobs.size(digest) is not None for digest in desk.artifacts.roots())


def test_of_a_process_s_additions_that_arrive_late_none_is_lost(desk: Desk) -> None:
    said = [
        desk.draft({name: b"1"}, incremental=True, writer_id="a" * 32, said_unix_ns=at)
        for at, name in enumerate(("a", "b", "c"), 10)
    ]
    for draft in (said[2], said[0], said[1]):
        desk.commit(draft)
    assert desk.files(desk.find("model:latest")) == {"a": b"1", "b": b"1", "c": b"1"}


def test_an_addition_waits_while_the_latest_version_s_manifest_is_damaged(desk: Desk, tmp_path: Path) -> None:
    (lying,) = (tmp_path / "blobs").rglob(f"{desk.log({'a': b'1'})['manifest']}-*")
    whole = lying.read_bytes()
    lying.write_bytes(b"{" + whole)
    draft = desk.draft({"b": b"1"}, incremental=True)
    with pytest.raises(BlobMissingError):
        desk.commit(draft)
    lying.write_bytes(whole)
    desk.commit(draft)
    assert desk.files(desk.find("model:latest")) == {"a": b"1", "b": b"1"}


def test_additions_at_once_are_all_in_the_latest_version(desk: Desk) -> None:
    drafts = [desk.draft({f"{number}": b"1"}, incremental=True) for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(desk.commit, drafts))
    assert set(desk.files(desk.find("model:latest"))) == set("01234567")

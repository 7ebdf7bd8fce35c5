"""Names and manifests of artifacts."""

from __future__ import annotations

import json

import pytest

from runfold.protocol.artifact_names import (
    ArtifactNameError,
    ArtifactPath,
    check_alias,
    check_name,
    check_tag,
    check_type,
    version_index,
)
from runfold.protocol.errors import ProtocolError
from runfold.protocol.manifest import Entry, Manifest

DIGEST = "0f" * 32


def test_versions_as_people_name_them() -> None:
    assert ArtifactPath.parse("e/p/model:v3") == ArtifactPath("e", "p", "model", "v3")
    assert ArtifactPath.parse("p/model:best") == ArtifactPath(None, "p", "model", "best")
    assert ArtifactPath.parse("model") == ArtifactPath(None, None, "model", None)
    assert [version_index(text) for text in ("v0", "v12", "v01", "latest", "v", "v-1")] == [
        0,
        12,
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    "text", ["", ":v1", "model:", "a/b/c/d:v1", "/model", "e//model", "mo del", "a/../b?"]
)
def test_what_names_no_version_is_refused(text: str) -> None:
    with pytest.raises(ArtifactNameError):
        ArtifactPath.parse(text)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (check_name, ["a", "A.b-c_9", "x" * 128], ["", "a/b", "a:v1", "x" * 129, "ä", "a b"]),
        (check_type, ["model", "", "my type", "a/b"], ["job", "wandb-x", "x" * 129]),
        (check_alias, ["latest", "v 1", "ä"], ["", "a/b", "a:b", "x" * 129]),
        (check_tag, ["a", "a b", "a-b_c"], ["", " a", "a/b", "a ", "x" * 129]),
    ],
)
def test_names_types_aliases_tags(check, good, bad) -> None:  # type: ignore[no-untyped-def]
    assert [check(text) for text in good] == good
    for text in bad:
        with pytest.raises(ArtifactNameError):
            check(text)


def test_a_manifest_comes_back_and_its_digest_is_of_names_and_content_only() -> None:
    made = Manifest({"b/c": Entry(DIGEST, 3), "a": Entry("etag", None, "s3://bucket/key", {"version": "1"})})
    assert Manifest.unpack(made.pack()) == made
    same = Manifest({"a": Entry("etag", 9, "s3://bucket/key"), "b/c": Entry(DIGEST, 3)})
    assert same.digest == made.digest
    assert Manifest({"b/d": Entry(DIGEST, 3)}).digest != Manifest({"b/c": Entry(DIGEST, 3)}).digest
    assert Manifest({"a": Entry(DIGEST, 3)}).digest != Manifest({"a": Entry("1f" * 32, 3)}).digest
    assert (made.size, made.blobs) == (3, {DIGEST: 3})


@pytest.mark.parametrize(
    "entries",
    [
        [],
        {"../a": {"digest": DIGEST, "size": 1}},
        {"a": {"digest": "../../etc/passwd", "size": 1}},
        {"a": {"digest": DIGEST}},
        {"a": {"digest": DIGEST, "size": -1}},
        {"a": {"digest": DIGEST, "size": True}},
        {"a": {"digest": "x", "size": 1, "ref": 3}},
        {"a": 1},
    ],
)
def test_what_is_no_manifest_is_refused(entries: object) -> None:
    with pytest.raises(ProtocolError):
        Manifest.unpack(json.dumps({"v": 1, "entries": entries}).encode())
    with pytest.raises(ProtocolError):
        Manifest.unpack(b"[" * 100_000)

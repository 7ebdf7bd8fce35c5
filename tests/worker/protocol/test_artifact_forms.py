"""Names and manifests of artifacts."""

from __future__ import annotations

import json
from dataclasses import replace

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
from support.manifest_entries import entry_of, file_entry

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
    file, reference = entry_of(DIGEST, 3), Entry("etag", None, "s3://bucket/key", {"version": "1"})
    made = Manifest({"b/c": file, "a": reference})
    assert Manifest.unpack(made.pack()) == made
    same = Manifest({"a": replace(reference, size=9, extra={}), "b/c": file})
    assert both(same) == both(made)
    assert Manifest({"b/d": file}).digest != Manifest({"b/c": file}).digest
    assert Manifest({"a": file}).digest != Manifest({"a": entry_of("1f" * 32, 3)}).digest
    assert (made.size, made.blobs) == (3, {DIGEST: 3})


def both(manifest: Manifest) -> tuple[str, str]:
    return manifest.sums.digest, manifest.sums.content_digest


def test_the_digest_is_the_clients_and_two_contents_with_one_md5_are_not_the_same() -> None:
    # Of two files "hello", f.txt and sub/g.txt, recorded from wandb 0.31.0.
    hello = file_entry(b"hello")
    assert hello.digest == "XUFAKrxLKna5cZ2REBfFkg=="
    made = Manifest({"f.txt": hello, "sub/g.txt": hello})
    assert made.digest == "f646465a64873792db319989ea4868ca"
    collided = replace(hello, sha256=DIGEST)
    other = Manifest({"f.txt": hello, "sub/g.txt": collided})
    assert other.digest == made.digest
    assert both(other) != both(made)
    moved = Manifest({"a": Entry("etag", 3, "s3://bucket/a")})
    assert moved.digest == Manifest({"a": Entry("etag", 3, "s3://bucket/b")}).digest
    assert both(moved) != both(Manifest({"a": Entry("etag", 3, "s3://bucket/b")}))


@pytest.mark.parametrize(
    "entries",
    [
        [],
        {"../a": entry_of(DIGEST).to_map()},
        {"a": entry_of(DIGEST).to_map() | {"sha256": "../../etc/passwd"}},
        {"a": entry_of(DIGEST).to_map() | {"sha256": None}},
        {"a": entry_of(DIGEST).to_map() | {"digest": "../../etc/passwd"}},
        {"a": entry_of(DIGEST).to_map() | {"digest": DIGEST}},
        {"a": entry_of(DIGEST).to_map() | {"size": None}},
        {"a": entry_of(DIGEST).to_map() | {"size": -1}},
        {"a": entry_of(DIGEST).to_map() | {"size": True}},
        {"a": {"digest": "x", "size": 1, "ref": "s3://b/k", "sha256": 3}},
        {"a": {"digest": "x", "size": 1, "ref": 3}},
        {"a": 1},
    ],
)
def test_what_is_no_manifest_is_refused(entries: object) -> None:
    with pytest.raises(ProtocolError):
        Manifest.unpack(json.dumps({"v": 1, "entries": entries}).encode())
    with pytest.raises(ProtocolError):
        Manifest.unpack(b"[" * 100_000)

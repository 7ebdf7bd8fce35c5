"""Names, types, aliases, tags, metadata: W&B's rules, and W&B's classes of refusals."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from runfold import Artifact, ArtifactTTL
from runfold.artifacts.errors import ArtifactNotLoggedError
from runfold.artifacts.labels import check_aliases, check_metadata, check_tags, with_latest
from runfold.run_code import safe_name


@pytest.mark.parametrize("name", ["ok", "ok-1_2.3", "x" * 128])
def test_a_good_name(name: str) -> None:
    assert Artifact(name, "t").name == name


@pytest.mark.parametrize("name", ["", "bad name", "bad/name", "bad:name", "é", "x" * 129, "a\n"])
def test_a_bad_name(name: str) -> None:
    with pytest.raises(ValueError, match="Artifact name") as caught:
        Artifact(name, "t")
    assert type(caught.value) is ValueError


@pytest.mark.parametrize("name", [None, 3])
def test_no_text_is_no_name(name: Any) -> None:
    with pytest.raises(TypeError, match="an artifact's name must be text"):
        Artifact(name, "t")


def test_metadata_may_be_json() -> None:
    given: Any = '{"a": [1]}'
    assert Artifact("a", "t", metadata=given).metadata == {"a": [1]}
    for text, error in (("x", ValueError), ("[1]", TypeError)):
        wrong: Any = text
        with pytest.raises(error):
            Artifact("a", "t", metadata=wrong)


@pytest.mark.parametrize(
    ("name", "kind"), [("a", "job"), ("a", "wandb-history"), ("run-x", "run_table"), ("source-x", "code")]
)
def test_a_reserved_type(name: str, kind: str) -> None:
    with pytest.raises(
        ValueError, match=f"'{kind}' is reserved for internal use. Please use a different type."
    ):
        Artifact(name, kind)
    if kind in ("run_table", "code"):
        assert Artifact("a", kind).type == kind


def test_metadata_is_plain_and_without_secrets() -> None:
    metadata: dict[str, Any] = {"a": (1, 2), "nan": float("nan"), 3: "x", "api_key": "sk-12345678"}
    artifact = Artifact("a", "t", metadata=metadata)
    assert artifact.metadata == {"a": [1, 2], "nan": None, "3": "x", "api_key": "[redacted]"}
    with pytest.raises(TypeError, match="Cannot parse <class 'int'> as artifact metadata"):
        Artifact("a", "t", metadata=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="larger than"):
        artifact.metadata = {"a": "x" * 1_100_000}
    with pytest.raises(ValueError, match="description is longer"):
        artifact.description = "x" * 70_000


def test_aliases_and_tags() -> None:
    assert check_aliases("best") == ["best"]
    assert check_aliases(None) == []
    assert with_latest(check_aliases(["a", "b", "a"])) == ["a", "b", "latest"]
    assert with_latest(["latest"]) == ["latest"]
    for alias in ("a/b", "a:b"):
        with pytest.raises(
            ValueError, match="Aliases must not contain any of the following characters: '/', ':'"
        ):
            check_aliases([alias])
    for alias in ("", "x" * 129):
        with pytest.raises(ValueError, match="Aliases must not be empty or longer than 128 characters"):
            check_aliases([alias])
    with pytest.raises(TypeError, match="an alias must be text, not 1"):
        check_aliases([1])  # type: ignore[list-item]  # as the test says
    assert check_tags(["one two", "x-1"]) == ["one two", "x-1"]
    with pytest.raises(ValueError, match=r"Invalid tag\(s\)\.  Tags must only contain"):
        check_tags(["a!"])
    with pytest.raises(TypeError, match="a tag must be text, not 1"):
        check_tags([1])  # type: ignore[list-item]  # as the test says


def test_ttl() -> None:
    artifact = Artifact("a", "t")
    with pytest.raises(ArtifactNotLoggedError):
        _ = artifact.ttl
    artifact.ttl = datetime.timedelta(days=1)
    assert artifact.ttl == datetime.timedelta(days=1)
    artifact.ttl = None
    assert artifact.ttl is None
    artifact.ttl = ArtifactTTL.INHERIT
    with pytest.raises(ArtifactNotLoggedError):
        _ = artifact.ttl
    with pytest.raises(ValueError, match="has to be positive"):
        artifact.ttl = datetime.timedelta(0)
    artifact.ttl = datetime.timedelta(seconds=1.7)
    assert artifact.ttl == datetime.timedelta(seconds=1)
    with pytest.raises(AttributeError):
        artifact.ttl = 5  # type: ignore[assignment]


def test_what_is_added_to_the_latest_version_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert Artifact("a", "t", incremental=True).incremental is True
    assert "Using experimental arg `incremental`" in capsys.readouterr().err
    assert Artifact("a", "t").incremental is False
    assert not capsys.readouterr().err


def test_a_text_becomes_a_name() -> None:
    assert safe_name("source-my proj/é-train.py") == "source-my_proj__-train.py"
    assert len(safe_name("x" * 300)) == 128


def test_metadata_is_what_every_reader_of_json_takes() -> None:
    said = {
        "large": 10**40,
        "edge": -(2**63),
        "no\udcff": "\udcff",
    }
    assert check_metadata(said) == {
        "large": str(10**40), "edge": -(2**63), "no?": "?",
    }  # fmt: skip
    json.dumps(check_metadata(said), allow_nan=False, ensure_ascii=False).encode()
    for value in (float("inf"), [-float("inf")]):
        with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
            check_metadata({"a": value})
    assert check_metadata({None: 1, True: 2}) == {"null": 1, "true": 2}
    assert len(check_metadata({str(key): key for key in range(100)})) == 100
    with pytest.raises(ValueError, match="Artifact must not have more than 100 metadata keys"):
        check_metadata({str(key): key for key in range(101)})

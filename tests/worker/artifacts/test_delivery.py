"""Waiting for a version: by the outbox, by the server where others finish it, or not for ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runfold.api.connection import Connection
from runfold.artifacts.delivery import Delivery
from runfold.artifacts.errors import WaitTimeoutError
from runfold.uploads.jobs import ArtifactJob
from runfold.uploads.outbox import Outbox
from worker.api.canned import Answer, CannedServer, packed, refusal


def job(outbox: Outbox) -> ArtifactJob:
    left = ArtifactJob(
        writer="w", run="e/p/r", created_unix_s=1.0, client_id="c", about={}, manifest="m", sources="s"
    )
    outbox.put(left)
    return left


def delivery(
    outbox: Outbox, job_id: str, url: str = "http://127.0.0.1:9", *, is_part: bool = False
) -> Delivery:
    return Delivery(
        outbox,
        job_id,
        "c",
        is_part=is_part,
        connect=lambda: Connection(url, None, 5.0),
        call_agent=lambda: None,
    )


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "target")


def version(state: str = "committed", **more: Any) -> dict[str, Any]:
    return {"id": "v", "state": state, **more}


def answers(*found: dict[str, Any]) -> Callable[[str, dict[str, str]], Answer]:
    left = list(found)

    def answer(path: str, _headers: dict[str, str]) -> Answer:
        assert path == "/api/v1/artifacts/by-client/c"
        said = left.pop(0) if len(left) > 1 else left[0]
        return packed({"artifact": said}) if said else refusal(404, "artifact_not_found", "none")

    return answer


def test_the_answer_to_the_upload_is_the_version(outbox: Outbox) -> None:
    left = job(outbox)
    waiting = delivery(outbox, left.id)
    assert waiting.look() is None
    with pytest.raises(WaitTimeoutError, match="the upload goes on"):
        waiting.wait(0.2)
    outbox.end(left, artifact=version())
    assert waiting.look() == waiting.wait(None) == version()


def test_what_was_refused_says_why(outbox: Outbox) -> None:
    left = job(outbox)
    outbox.end(left, error="the file changed")
    for ask in (delivery(outbox, left.id).look, lambda: delivery(outbox, left.id).wait(5)):
        with pytest.raises(ValueError, match="was not kept: the file changed"):
            ask()


def test_a_version_of_many_parts_is_asked_for_until_it_is_whole(outbox: Outbox) -> None:
    left = job(outbox)
    outbox.end(left, artifact=version("pending"))
    with CannedServer(answers(version("pending"), version("pending"), version())) as server:
        assert delivery(outbox, left.id, server.url).wait(30) == version()
    with (
        CannedServer(answers(version("failed", error="two contents"))) as server,
        pytest.raises(ValueError, match="two contents"),
    ):
        delivery(outbox, left.id, server.url).wait(30)


def test_a_part_is_there_when_it_is_uploaded(outbox: Outbox) -> None:
    left = job(outbox)
    outbox.end(left, artifact=version("pending"))
    with CannedServer(answers(version("pending"), version())) as server:
        waiting = delivery(outbox, left.id, server.url, is_part=True)
        assert waiting.wait(5) is None
        assert server.asked == []
        assert waiting.look() is None
        assert waiting.look() is None, "it was asked about a moment ago"
        assert len(server.asked) == 1


def test_a_result_that_was_forgotten_is_known_by_the_server_or_by_nobody(outbox: Outbox) -> None:
    with CannedServer(answers(version())) as server:
        assert delivery(outbox, "gone", server.url).wait(5) == version()
    for found in ({}, version("said")):
        with CannedServer(answers(found)) as server, pytest.raises(ValueError, match="nobody knows"):
            delivery(outbox, "gone", server.url).wait(5)

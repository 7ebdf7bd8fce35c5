"""The duty: a notice is told once to each process that lives while it stands, and trouble never reaches the agent."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from runfold.node.notices.notice import NeverError, Notice
from runfold.node.notices.watch import Notices
from runfold.protocol.identity import Identity
from support.processes import until

A, B = b"a" * 16, b"b" * 16


class Told:
    """A witness of some processes."""

    def __init__(self) -> None:
        self.alive = {A: True}
        self.said: list[tuple[bytes, str, Mapping[str, Any]]] = []

    def processes(self) -> list[tuple[bytes, Identity, bool]]:
        return [(writer, Identity(), alive) for writer, alive in self.alive.items()]

    def testify(self, writer: bytes, source: str, facts: Mapping[str, Any]) -> None:
        self.said.append((writer, source, facts))


class Scripted:
    """A source that says what it was given, the last for ever."""

    system = "aws"
    every_s = 0.01

    def __init__(self, *said: Notice | Exception | None) -> None:
        self.said = list(said)
        self.looked_count = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def look(self) -> Notice | None:
        self.looked_count += 1
        self.may_answer.wait()
        found = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(found, Exception):
            raise found
        return found


class Tail:
    """As much of a tail as the duty looks at."""

    def __init__(self, *, alive: bool = True, role: str = "process") -> None:
        self.is_alive = alive
        self.identity = Identity(role=role)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def duties() -> Iterator[list[Notices]]:
    made: list[Notices] = []
    yield made
    for duty in made:
        duty.close()
        if duty._thread is not None:
            duty._thread.join(10)


def watching(duties: list[Notices], told: Told, *sources: Scripted) -> Notices:
    duty = Notices(told, sources, unix_clock=lambda: 1000.0)  # type: ignore[arg-type]
    duties.append(duty)
    duty.writer_found(Tail())  # type: ignore[arg-type]
    return duty


def looked(source: Scripted, more: int = 2) -> None:
    upto = source.looked_count + more
    until(lambda: source.looked_count >= upto)


def test_a_notice_is_told_once_to_each_process_that_lives(told: Told, duties: list[Notices]):
    source = Scripted(None, Notice("aws", "terminate", 1120.0, "x"))
    duty = watching(duties, told, source)
    told.alive[B] = False
    looked(source, 4)
    for _ in range(3):
        duty.step(0.0)
    facts = {"system": "aws", "text": "terminate", "grace_s": 120.0}
    assert told.said == [(A, "notice", facts)]
    told.alive[B] = True
    duty.step(0.0)
    assert told.said[1:] == [(B, "notice", facts)], "it starts on a machine that is doomed"


def test_a_notice_that_is_taken_back_is_not_told_to_who_comes_later(told: Told, duties: list[Notices]):
    source = Scripted(Notice("aws", "terminate", None, "x"), None)
    duty = watching(duties, told, source)
    looked(source, 3)
    duty.step(0.0)
    told.alive[B] = True
    duty.step(0.0)
    assert {writer for writer, _, _ in told.said} <= {A}


def test_a_second_notice_is_told_too(told: Told, duties: list[Notices]):
    source = Scripted(Notice("aws", "stop", None, "x"))
    duty = watching(duties, told, source)
    looked(source)
    duty.step(0.0)
    source.said = [Notice("aws", "terminate", None, "y")]
    looked(source)
    duty.step(0.0)
    assert [facts["text"] for _, _, facts in told.said] == ["stop", "terminate"]


@pytest.mark.parametrize("trouble", [OSError("away"), ValueError("no"), RecursionError(), KeyError("x")])
def test_a_source_in_trouble_is_asked_again_and_others_go_on(
    told: Told, duties: list[Notices], trouble: Exception
):
    broken, works = Scripted(trouble), Scripted(Notice("gcp", "preempted"))
    works.system = "gcp"
    duty = watching(duties, told, broken, works)
    looked(works, 3)
    duty.step(0.0)
    assert [facts["system"] for _, _, facts in told.said] == ["gcp"]
    assert broken.looked_count >= 1


def test_a_source_that_will_never_tell_is_not_asked_again(told: Told, duties: list[Notices]):
    never, works = Scripted(NeverError("no right")), Scripted(None)
    works.system = "gcp"
    watching(duties, told, never, works)
    looked(works, 5)
    assert never.looked_count == 1


def test_nobody_is_asked_while_no_process_runs(told: Told, duties: list[Notices]):
    source = Scripted(None)
    duty = Notices(told, [source])  # type: ignore[arg-type]
    duties.append(duty)
    for tail in (Tail(alive=False), Tail(role="console"), Tail(role="node")):
        duty.writer_found(tail)  # type: ignore[arg-type]
    duty.step(0.0)
    assert duty._thread is None


def test_a_source_that_hangs_holds_nobody_up(told: Told, duties: list[Notices]):
    source = Scripted(None)
    source.may_answer.clear()
    duty = watching(duties, told, source)
    until(lambda: source.looked_count == 1)
    duty.step(0.0)
    duty.writer_ended(Tail())  # type: ignore[arg-type]
    duty.close()
    source.may_answer.set()

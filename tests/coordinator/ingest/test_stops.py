"""Requests to stop: who is asked, what agents are told, until when; the evidence is what stays."""

from __future__ import annotations

import pytest

from runfold.protocol.evidence import STOP, STOP_REFUSED, STOP_SIGNAL, Evidence
from runfold.protocol.records import ExitRecord, RecordKind
from runfold.protocol.streams import Heartbeat, StopRequest, WriterBeat, stop_field
from runfold.protocol.values import pack_value
from runfold_coordinator.readers.stops_reader import StopsReader
from runfold_coordinator.stops import (
    MAX_BY_CHARS,
    NOTHING_TOLD,
    REFRESH_EVERY_S,
    NoSuchRankError,
    NothingToStopError,
    Stops,
    clean_by,
)
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker, only_run


class Job:
    """A shared run of some ranks, each alive, and the desk that takes requests."""

    def __init__(self, bench: Bench, ranks: int = 2) -> None:
        self.bench = bench
        self.store = bench.store
        self.speakers = [Speaker(bytes([65 + rank]) * 16) for rank in range(ranks)]
        for rank, speaker in enumerate(self.speakers):
            bench.feed(speaker.hello(mode="shared", rank=rank, host="h"))
        self.stops = self.opened()

    def opened(self) -> Stops:
        """What a coordinator that was started again has."""
        stops = Stops(self.store, self.bench.clock)
        stops.load()
        return stops

    def ask(self, grace_s: float = 30.0, ranks: list[int] | None = None, by: str = "eve@here") -> StopRequest:
        return self.stops.ask(only_run(self.store), grace_s=grace_s, ranks=ranks, by=by).request

    def told(self, stops: Stops | None = None) -> dict[str, StopRequest]:
        self.bench.clock.now_s += REFRESH_EVERY_S
        fields = (stops or self.stops).told(0).fields
        return {
            speaker.writer_id: StopRequest.unpack(fields[stop_field(speaker.writer)])
            for speaker in self.speakers
            if stop_field(speaker.writer) in fields
        }

    def end(self, rank: int, code: int = 0) -> None:
        speaker = self.speakers[rank]
        self.bench.feed(speaker.others((RecordKind.EXIT, ExitRecord(code=code).pack())))

    def rows_of_evidence(self) -> list[str]:
        return [
            row.writer_id for row in self.store.fetch(t.evidence.select().where(t.evidence.c.source == STOP))
        ]


@pytest.fixture
def job(bench: Bench) -> Job:
    return Job(bench)


def test_every_process_is_asked_with_one_request(job: Job) -> None:
    assert job.stops.told(0) is NOTHING_TOLD
    asked = job.stops.ask(only_run(job.store), grace_s=7.5, by="eve@here (10.0.0.9)")
    assert asked.is_new
    assert [writer.rank for writer in asked.writers] == [0, 1]
    told = job.told()
    assert told == dict.fromkeys(told, asked.request)
    assert len(told) == 2
    assert asked.request.is_whole
    assert (asked.request.grace_s, asked.request.by) == (7.5, "eve@here (10.0.0.9)")
    assert sorted(job.rows_of_evidence()) == sorted(told)


def test_single_ranks_can_be_asked_and_unknown_ones_are_named(job: Job) -> None:
    request = job.ask(ranks=[1])
    assert job.told() == {job.speakers[1].writer_id: request}
    assert not request.is_whole
    with pytest.raises(NoSuchRankError, match="no rank 7"):
        job.ask(ranks=[0, 7])


def test_asking_again_shortens_and_never_lengthens(job: Job) -> None:
    first = job.ask(grace_s=60)
    mark = job.stops.told(0).mark
    job.bench.clock.now_s += 10
    again = job.stops.ask(only_run(job.store), grace_s=50, by="bob@there")
    assert (again.is_new, again.request) == (False, first)
    assert job.stops.told(0).mark == mark
    assert len(job.rows_of_evidence()) == 2
    shorter = job.ask(grace_s=5)
    assert shorter.request != first.request
    assert [request.grace_s for request in job.told().values()] == [5, 5]
    assert job.stops.told(0).mark != mark


def test_a_stop_of_the_whole_run_takes_up_that_of_a_rank_and_its_deadline(job: Job) -> None:
    job.ask(grace_s=10, ranks=[0])
    job.bench.clock.now_s += 4
    job.ask(grace_s=60)
    told = job.told()
    assert [told[speaker.writer_id].grace_s for speaker in job.speakers] == [pytest.approx(6), 60]
    assert all(request.is_whole for request in told.values())
    # A rank's own stop, milder than that, takes nothing back.
    assert job.ask(grace_s=60, ranks=[0]).is_whole


def test_nobody_is_told_any_more_of_what_has_ended(job: Job) -> None:
    job.ask()
    job.end(0)
    assert list(job.told()) == [job.speakers[1].writer_id]
    job.end(1)
    assert job.told() == {}
    assert job.stops.told(0).mark == b""


def test_a_run_that_has_ended_is_not_stopped(job: Job) -> None:
    job.end(0)
    with pytest.raises(NothingToStopError, match="rank 0 finished"):
        job.ask(ranks=[0])
    job.end(1, code=3)
    with pytest.raises(NothingToStopError, match="ended already: failed"):
        job.ask()
    assert job.rows_of_evidence() == []


def test_a_lost_process_may_live_and_is_asked_until_it_is_heard_of(job: Job) -> None:
    clock, board = job.bench.clock, job.bench.board
    clock.now_s += 400
    board.tick()
    assert only_run(job.store).state == "crashed"
    request = job.ask()
    assert set(job.told().values()) == {request}
    beats = tuple(WriterBeat(speaker.writer, 1, False) for speaker in job.speakers)
    job.bench.liveness.hear(Heartbeat("n", "h", "b", 0.0, 5.0, beats))
    board.tick()
    assert job.told() == {}


def test_a_coordinator_that_was_started_again_tells_the_same(job: Job) -> None:
    job.ask(grace_s=60)
    job.ask(grace_s=20)
    job.end(0)
    after = job.opened()
    assert job.told(after) == job.told() != {}
    assert job.stops.told(0).mark == after.told(0).mark


def test_evidence_that_agents_send_asks_nobody_to_stop(job: Job) -> None:
    """Only what came through the gate counts: an agent's word that somebody asked is not a request."""
    facts = {"request": "forged", "by": "x", "grace_s": 0.0, "whole": True}
    forged = Evidence(job.speakers[0].writer, STOP, 1, facts)
    agent = Speaker(b"n" * 16, "_nodes/agents/n")
    job.bench.feed(agent.hello(role="node"), agent.others((RecordKind.EVIDENCE, forged.to_record().pack())))
    job.bench.board.tick([forged])
    assert job.rows_of_evidence() == []
    add(job.store, forged)
    assert job.told(job.opened()) == {}


def test_requests_that_shorten_by_next_to_nothing_are_few(job: Job) -> None:
    for tenth in range(300, 0, -1):
        job.ask(grace_s=tenth / 10, ranks=[0])
    assert next(iter(job.told().values())).grace_s < 0.5
    assert len(job.rows_of_evidence()) < 100


def test_who_asked_is_shown_on_one_line_and_not_at_length() -> None:
    assert clean_by("eve\x1b[31m\n\0@here\ud800") == "eve [31m \ufffd@here?"
    assert len(clean_by("x" * 10_000)) == MAX_BY_CHARS


def test_what_came_of_a_request_is_told_by_process(job: Job) -> None:
    request = job.ask(grace_s=3)
    writer = job.speakers[0].writer
    signal = {"request": request.request, "signum": 15, "pid": 1, "to": "process"}
    add(job.store, Evidence(writer, STOP_SIGNAL, 5_000_000_000, signal))
    refusal = {"request": request.request, "why": "not allowed here"}
    add(job.store, Evidence(job.speakers[1].writer, STOP_REFUSED, 5_000_000_000, refusal))
    (found,) = StopsReader(job.store).requests(only_run(job.store))
    assert (found["request"], found["by"], found["grace_s"], found["whole"]) == (
        request.request, "eve@here", 3, True,
    )  # fmt: skip
    first, second = sorted(found["writers"], key=lambda part: part["rank"])
    assert first["signals"] == [{"signum": 15, "to": "process", "unix_s": 5.0}]
    assert (first["refused"], second["refused"], second["signals"]) == (None, "not allowed here", [])


def add(store: Store, evidence: Evidence) -> None:
    _, source, ident = evidence.key
    with store.writing.transaction() as tx:
        tx.insert_new(
            t.evidence,
            [
                {
                    "writer_id": evidence.writer.hex(),
                    "source": source,
                    "ident": ident,
                    "t_ns": evidence.t_ns,
                    "received_unix_s": 0.0,
                    "facts": pack_value(dict(evidence.facts)),
                    "is_fresh": True,
                }
            ],
        )


def test_a_thousand_processes_are_asked_at_once(bench: Bench) -> None:
    speakers = [Speaker(number.to_bytes(16, "big")) for number in range(1, 1001)]
    bench.feed(*(speaker.hello(mode="shared", rank=rank) for rank, speaker in enumerate(speakers)))
    stops = Stops(bench.store, bench.clock)
    asked = stops.ask(only_run(bench.store), grace_s=1.0, by="x")
    assert len(asked.writers) == len(stops.told(0).fields) == 1000


def test_postgresql_keeps_requests_too(postgres_url: str) -> None:
    store = Store.open(postgres_url)
    try:
        job = Job(Bench(store))
        job.ask(grace_s=60, ranks=[1])
        job.ask(grace_s=20)
        after = job.opened()
        assert job.told(after) == job.told()
        assert len(job.told()) == 2
    finally:
        store.close()

"""The window state machine: what is sent next, and everything that makes it begin again at the ack."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold.node.link import Downlink, EntryId
from runfold.node.shipper import ProbeLength, Rewound, Shipper, StoreAck, WindowLimits

A, B = b"a" * 16, b"b" * 16
SERVER, OTHER = b"s" * 16, b"o" * 16


def started(*writers: bytes, acked: int = 0, server_id: bytes = b"", **limits: float) -> Shipper:
    shipper = Shipper(WindowLimits(**limits))  # type: ignore[arg-type]
    for writer in writers:
        shipper.add(writer, partition=0, acked=acked, server_id=server_id)
    shipper.link_opened("redis-1")
    return shipper


def said(beat: int, cursor: int | None = None, server: bytes | None = SERVER, **acks: int | None) -> Downlink:
    names = {"a": A, "b": B}
    return Downlink(
        server_id=server,
        cursor=None if cursor is None else EntryId(cursor, 0),
        beat=beat,
        acks={names[name]: ack for name, ack in acks.items()},
    )


def send(shipper: Shipper, writer: bytes, lo: int, hi: int, entry: int, size: int = 100, now: float = 0.0):
    shipper.queue(writer, lo, hi, size, now)
    shipper.sent_ok(writer, hi, EntryId(entry, 0))


def rewinds(actions: list) -> list[tuple[bytes, int, str]]:
    return [(a.writer, a.acked, a.why) for a in actions if isinstance(a, Rewound)]


def test_acks_free_the_window_and_are_stored():
    shipper = started(A)
    send(shipper, A, 1, 10, entry=1)
    send(shipper, A, 11, 20, entry=2)
    assert shipper.downlink(0, said(1, cursor=1, a=10), 0.1) == [StoreAck(A, 10, SERVER)]
    assert shipper.in_flight_bytes == 100
    assert shipper.downlink(0, said(1, cursor=2, a=20), 0.2) == [StoreAck(A, 20, SERVER)]
    assert not shipper.has_flights()
    assert list(shipper.turns(0.2)) == [(A, 21)]


def test_window_is_bounded_over_all_writers_and_turns_go_round():
    shipper = started(A, B, window_bytes=250)
    served = []
    for writer, seq in shipper.turns(0.0):
        served.append(writer)
        shipper.queue(writer, seq, seq, 100, 0.0)
    assert served == [B, A]
    third, seq = next(shipper.turns(0.0))
    shipper.queue(third, seq, seq, 100, 0.0)
    assert list(shipper.turns(0.0)) == []


def test_the_writer_that_had_no_room_comes_first_when_there_is_room():
    shipper = started(A, B, window_bytes=100)
    for writer, seq in shipper.turns(0.0):
        shipper.queue(writer, seq, seq, 100, 0.0)
        first = writer
    shipper.downlink(0, said(1, **{"b" if first == B else "a": 1}), 0.1)
    second = next(iter(shipper.turns(0.1)))[0]
    assert second != first


def test_a_refused_frame_and_all_later_ones_of_its_writer_count_as_not_sent():
    shipper = started(A, B)
    send(shipper, A, 1, 10, entry=1)
    shipper.queue(A, 11, 20, 100, 0.0)
    shipper.queue(A, 21, 30, 100, 0.0)
    send(shipper, B, 1, 5, entry=2)
    shipper.refused(A, 11)
    shipper.sent_ok(A, 30, EntryId(3, 0))  # accepted behind the refused one: of no use, and forgotten
    assert dict(shipper.turns(0.0)) == {A: 11, B: 6}
    assert shipper.in_flight_bytes == 200


def test_a_lost_link_rewinds_everything_to_the_ack():
    shipper = started(A, B)
    send(shipper, A, 1, 10, entry=1)
    send(shipper, B, 1, 10, entry=2)
    shipper.downlink(0, said(1, a=10), 0.1)
    send(shipper, A, 11, 12, entry=3)
    assert rewinds(shipper.link_lost()) == [(A, 10, "link lost"), (B, 0, "link lost")]
    assert shipper.in_flight_bytes == 0
    assert dict(shipper.turns(0.2)) == {A: 11, B: 1}


def test_another_redis_process_rewinds_and_the_same_one_does_not():
    shipper = started(A)
    send(shipper, A, 1, 10, entry=1)
    assert shipper.link_opened("redis-1") == []
    assert rewinds(shipper.link_opened("redis-2")) == [(A, 0, "redis run id changed")]


def test_cursor_past_an_unacked_entry_rewinds_when_two_polls_say_so():
    shipper = started(A)
    send(shipper, A, 1, 10, entry=5)
    assert shipper.downlink(0, said(1, cursor=4, a=0), 0.1) == []
    assert shipper.downlink(0, said(2, cursor=5, a=0), 0.2) == []
    assert rewinds(shipper.downlink(0, said(2, cursor=5, a=0), 0.3)) == [(A, 0, "cursor passed")]


def test_cursor_and_ack_published_one_after_the_other_do_not_rewind():
    shipper = started(A)
    send(shipper, A, 1, 10, entry=5)
    assert shipper.downlink(0, said(2, cursor=5, a=None), 0.2) == []
    assert shipper.downlink(0, said(2, cursor=5, a=10), 0.3) == [StoreAck(A, 10, SERVER)]


def test_a_frame_that_is_refused_for_ever_is_resent_ever_more_slowly():
    shipper = started(A)
    now, sent = 0.0, 0
    for beat in range(1, 600):
        for writer, seq in shipper.turns(now):
            sent += 1
            send(shipper, writer, seq, seq, entry=beat, now=now)
            break
        now += 0.05
        shipper.downlink(0, said(beat, cursor=beat, a=0), now)
    assert 3 < sent < 30


def test_cursor_going_back_rewinds():
    shipper = started(A)
    shipper.downlink(0, said(1, cursor=90, a=0), 0.0)
    send(shipper, A, 1, 10, entry=95)
    assert rewinds(shipper.downlink(0, said(2, cursor=1, a=0), 0.1)) == [(A, 0, "cursor went back")]


def test_an_empty_stream_rewinds_only_when_the_beat_moves_between_two_looks():
    shipper = started(A)
    shipper.downlink(0, said(1, a=0), 0.0)
    shipper.downlink(0, said(2, a=0), 0.1)
    send(shipper, A, 1, 10, entry=5, now=0.1)
    assert shipper.stream_length(0, 0, 0.6) == []
    assert shipper.stream_length(0, 0, 0.7) == [], "the ack of a trimmed entry may be on its way"
    shipper.downlink(0, said(3, a=0), 0.8)
    assert rewinds(shipper.stream_length(0, 0, 0.9)) == [(A, 0, "stream is empty")]


def test_a_stream_that_is_not_empty_clears_the_suspicion():
    shipper = started(A)
    shipper.downlink(0, said(1, a=0), 0.0)
    send(shipper, A, 1, 10, entry=5)
    shipper.stream_length(0, 0, 0.1)
    shipper.stream_length(0, 1, 0.2)
    shipper.downlink(0, said(2, a=0), 0.3)
    assert shipper.stream_length(0, 0, 0.4) == []


def test_no_progress_probes_and_then_rewinds():
    shipper = started(A)
    shipper.downlink(0, said(1, cursor=1, a=0), 0.0)
    send(shipper, A, 1, 10, entry=5, now=0.0)
    probes, again = [], []
    for tick in range(1, 130):
        now = tick / 10
        shipper.downlink(0, said(1 + tick, cursor=1, a=0), now)
        actions = shipper.tick(now)
        probes += [now for action in actions if isinstance(action, ProbeLength)]
        again += [(now, *found[1:]) for found in rewinds(actions)]
    assert 0.3 < probes[0] < 0.6
    assert [why for _, _, why in again] == ["no progress"]
    assert 9.9 < again[0][0] < 10.2


def test_a_standing_beat_means_wait_and_a_returning_one_starts_the_timers_anew():
    shipper = started(A)
    shipper.downlink(0, said(1, cursor=1, a=0), 0.0)
    shipper.downlink(0, said(2, cursor=1, a=0), 0.1)
    send(shipper, A, 1, 10, entry=5, now=0.1)
    for tick in range(10, 36_000):
        assert not rewinds(shipper.tick(tick / 10))
    assert shipper.has_flights()
    shipper.downlink(0, said(3, cursor=1, a=0), 3600.0)
    assert not rewinds(shipper.tick(3600.0))


def test_before_the_first_beat_moved_nobody_rewinds():
    shipper = started(A)
    send(shipper, A, 1, 10, entry=5)
    shipper.downlink(0, said(7, a=0), 1.0)  # perhaps a copy from before a crash
    assert not any(rewinds(shipper.tick(t)) for t in (5.0, 20.0, 100.0))


def test_another_server_gets_everything_from_what_it_says_it_has():
    shipper = started(A, acked=50, server_id=SERVER)
    actions = shipper.downlink(0, said(1, server=OTHER, a=None), 0.0)
    assert actions == [StoreAck(A, 0, OTHER), Rewound(A, 0, "another server")]
    assert list(shipper.turns(0.0)) == [(A, 1)]


def test_another_server_that_knows_the_writer_gets_the_rest():
    shipper = started(A, acked=50, server_id=SERVER)
    actions = shipper.downlink(0, said(1, server=OTHER, a=20), 0.0)
    assert actions[0] == StoreAck(A, 20, OTHER)
    assert list(shipper.turns(0.0)) == [(A, 21)]


def test_a_server_that_changes_while_we_are_connected_is_noticed_for_idle_writers_too():
    shipper = started(A, B, acked=5, server_id=SERVER)
    shipper.downlink(0, said(1, a=5, b=5), 0.0)
    assert not shipper.are_confirmed(), "what a server left behind has no beat"
    shipper.downlink(0, said(2, a=5, b=5), 0.0)
    assert shipper.are_confirmed()
    shipper.polls(0.0)
    assert shipper.polls(0.1) == {0: []}
    shipper.downlink(0, said(1, server=OTHER), 0.2)
    assert set(shipper.polls(0.3)[0]) == {A, B}


def test_a_lower_ack_is_believed_when_a_later_beat_repeats_it():
    shipper = started(A, acked=50, server_id=SERVER)
    assert shipper.downlink(0, said(1, a=20), 0.0) == []
    assert shipper.downlink(0, said(1, a=20), 0.1) == [], "a stale copy has no beat"
    actions = shipper.downlink(0, said(2, a=20), 0.2)
    assert actions == [StoreAck(A, 20, SERVER), Rewound(A, 20, "ack went back")]


def test_an_ack_ahead_of_the_spool_header_skips_what_is_stored():
    shipper = started(A)
    assert shipper.downlink(0, said(1, a=30), 0.0) == [StoreAck(A, 30, SERVER)]
    assert list(shipper.turns(0.0)) == [(A, 31)]


def test_polls_ask_for_writers_in_flight_and_at_times_for_all():
    shipper = started(A, B, poll_all_s=5.0)
    assert shipper.polls(0.0) == {0: [A, B]}
    shipper.downlink(0, said(1, a=0, b=0), 0.0)
    shipper.downlink(0, said(2, a=0, b=0), 0.0)
    send(shipper, A, 1, 10, entry=5)
    assert shipper.polls(1.0) == {0: [A]}
    assert shipper.polls(5.0) == {0: [A, B]}


def test_a_removed_writer_frees_its_window():
    shipper = started(A, B)
    send(shipper, A, 1, 10, entry=5)
    shipper.remove(A)
    shipper.remove(A)
    assert shipper.in_flight_bytes == 0
    assert list(shipper.turns(0.0)) == [(B, 1)]


class _Server:
    """A coordinator and its stream: the watermark, exactly as the design has it."""

    def __init__(self) -> None:
        self.stream: list[tuple[int, bytes, int, int]] = []
        self.ids = 0
        self.cursor = 0
        self.beat = 0
        self.last = {A: 0, B: 0}
        self.stored: dict[bytes, list[int]] = {A: [], B: []}

    def add(self, writer: bytes, lo: int, hi: int) -> EntryId:
        self.ids += 1
        self.stream.append((self.ids, writer, lo, hi))
        return EntryId(self.ids, 0)

    def work(self, entries: int) -> None:
        self.beat += 1
        for entry, writer, lo, hi in self.stream[:entries]:
            last = self.last[writer]
            if lo <= last + 1 and hi > last:
                self.stored[writer] += range(last + 1, hi + 1)
                self.last[writer] = hi
            self.cursor = entry
        del self.stream[:entries]

    def published(self, writers: list[bytes]) -> Downlink:
        acks: dict[bytes, int | None] = {writer: self.last[writer] for writer in writers}
        return Downlink(SERVER, EntryId(self.cursor, 0), self.beat, 1, acks)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["ship", "ship", "oom", "work", "work", "flush", "lose", "restart"]), max_size=60
    )
)
def test_whatever_happens_everything_arrives_once_and_in_order(steps: list[str]):
    shipper, server, now, run = started(A, B, window_bytes=400), _Server(), 0.0, 1
    produced = {A: 40, B: 25}

    def ship(refuse_after: int | None = None) -> None:
        sent: list[tuple[bytes, int, int]] = []
        for writer, lo in shipper.turns(now):
            if lo <= produced[writer]:
                hi = min(lo + 6, produced[writer])
                shipper.queue(writer, lo, hi, 100, now)
                sent.append((writer, lo, hi))
        for at, (writer, lo, hi) in enumerate(sent):
            if refuse_after is not None and at >= refuse_after:
                shipper.refused(writer, lo)
            else:
                shipper.sent_ok(writer, hi, server.add(writer, lo, hi))
        for action in shipper.tick(now):
            if isinstance(action, ProbeLength):
                shipper.stream_length(0, len(server.stream), now)
        for partition, writers in shipper.polls(now).items():
            shipper.downlink(partition, server.published(writers), now)

    for step in [*steps, *["work", "ship"] * 300]:
        now += 0.1
        match step:
            case "ship":
                ship()
            case "oom":
                ship(refuse_after=1)
            case "work":
                server.work(3)
            case "flush":
                server.stream.clear()
            case "lose":
                shipper.link_lost()
                shipper.link_opened(f"redis-{run}")
            case "restart":
                server.stream.clear()
                run += 1
                shipper.link_lost()
                shipper.link_opened(f"redis-{run}")
    assert server.stored == {A: list(range(1, 41)), B: list(range(1, 26))}
    assert not shipper.has_flights()
    assert shipper.acked(A) == 40 and shipper.acked(B) == 25


@pytest.mark.parametrize("text", [b"5-1", "5-1"])
def test_entry_ids_order_as_redis_orders_them(text: bytes | str):
    assert EntryId.parse(text) == EntryId(5, 1)
    assert EntryId.parse("5") < EntryId.parse("5-1") < EntryId.parse("10-0")

"""Which parts belong to which version: a function of the set of what was said, whatever its order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from runfold_coordinator.artifacts.distributed import (
    CLOCK_TOLERANCE_NS,
    Closed,
    Said,
    late_parts,
    next_version,
)

S = 1_000_000_000
HERE, THERE = ("n1", "boot1"), ("n2", "boot2")


def part(
    client_id: str,
    at_s: float,
    *,
    writer: str = "w1",
    place: tuple[str, str] | None = HERE,
    seq: int | None = None,
    is_finish: bool = False,
) -> Said:
    return Said(client_id, writer, place, seq, int(at_s * S), is_finish)


def versions(said: Sequence[Said]) -> list[list[str]]:
    left = {each.client_id: each for each in said}
    found = []
    while (version := next_version(left.values())) is not None:
        ids = [each.client_id for each in version[1]]
        found.append(sorted(ids))
        for client_id in ids:
            del left[client_id]
    found.append(sorted(left))
    return found


def test_without_a_finish_there_is_no_version() -> None:
    assert next_version([part("a", 1), part("b", 2, writer="w2")]) is None


def test_what_was_said_before_the_finish_belongs_to_it() -> None:
    said = [
        part("a", 1, writer="w1"),
        part("b", 2, writer="w2"),
        part("f", 3, writer="w1", is_finish=True),
        part("c", 4, writer="w2"),
        part("d", 5, writer="w1"),
        part("g", 6, writer="w2", is_finish=True),
        part("e", 7, writer="w1"),
    ]
    assert versions(said) == [["a", "b", "f"], ["c", "d", "g"], ["e"]]


def test_within_a_process_the_order_is_that_of_its_records_whatever_its_clock() -> None:
    said = [
        part("a", 9, seq=1),  # the clock was set back after this
        part("f", 3, seq=2, is_finish=True),
        part("b", 4, seq=3),
    ]
    assert versions(said) == [["a", "f"], ["b"]]


def test_a_clock_of_another_machine_may_be_ahead() -> None:
    said = [
        part("a", 1.000, writer="w1"),
        part("b", 1.800, writer="w2", place=THERE),  # said before the finish, by a clock that is ahead
        part("f", 1.100, writer="w1", is_finish=True),
        part("c", 1.900, writer="w2", place=THERE),  # its second part: of the next version
        part("d", 1.500, writer="w3", place=HERE),  # the same machine: said after it
    ]
    assert versions(said) == [["a", "b", "f"], ["c", "d"]]
    late = part("b", 1.1 + CLOCK_TOLERANCE_NS / S + 0.001, writer="w2", place=THERE)
    assert versions([said[0], said[2], late]) == [["a", "f"], ["b"]]


def test_nobody_knows_where_a_part_without_a_process_comes_from() -> None:
    said = [part("f", 1, is_finish=True), part("b", 1.1, writer="", place=None)]
    assert versions(said) == [["f"], ["b"]]


def test_two_finishes_at_once_on_two_machines_end_one_version() -> None:
    said = [
        part("a", 1, writer="w1", is_finish=True),
        part("b", 1.2, writer="w2", place=THERE, is_finish=True),
    ]
    assert versions(said) == [["a", "b"], []]


def test_a_process_that_nobody_knew_of_belongs_to_what_it_was_said_for() -> None:
    closed = [
        Closed(1, part("f1", 10, seq=3, is_finish=True), frozenset({"w1", "w2"})),
        Closed(2, part("f2", 20, seq=6, is_finish=True), frozenset({"w1"})),
    ]
    said = [
        part("a", 5, writer="w3", seq=1),
        part("b", 9, writer="w3", seq=2),
        part("c", 15, writer="w3", seq=3),
        part("d", 25, writer="w3", seq=4),  # of a version that is still open
        part("e", 9, writer="w2", seq=9),  # its clock may be behind: version 1 knew all that it had said
        part("g", 12, writer="w2", seq=10),
        part("h", 9, writer="w1", seq=7),
        part("i", 9, writer=""),
    ]
    assert late_parts(said, closed) == {"a": 1, "b": 1, "c": 2, "g": 2}
    assert late_parts(reversed(said), reversed(closed)) == {"a": 1, "b": 1, "c": 2, "g": 2}
    assert late_parts(said, []) == {}


@st.composite
def jobs(draw: st.DrawFn) -> list[Said]:
    """Epochs of 8 writers on 2 machines: each says parts, a barrier, one finishes."""
    said, at_s = [], 1.0
    skew_s = draw(st.floats(-0.9, 0.9))
    seqs = dict.fromkeys(range(8), 0)
    for epoch in range(draw(st.integers(1, 3))):
        for writer in range(8):
            seqs[writer] += 1
            place = HERE if writer < 4 else THERE
            when = at_s + draw(st.floats(0, 0.01)) + (skew_s if place == THERE else 0.0)
            said.append(part(f"p{epoch}.{writer}", when, writer=f"w{writer}", place=place, seq=seqs[writer]))
        at_s += 0.02
        seqs[0] += 1
        said.append(part(f"f{epoch}", at_s, writer="w0", seq=seqs[0], is_finish=True))
        at_s += 3.0
    return said


@settings(max_examples=100, deadline=None)
@given(jobs(), st.integers(0, 2**32))
def test_eight_writers_and_a_barrier_make_a_version_an_epoch(said: list[Said], seed: int) -> None:
    expected: dict[str, list[str]] = {}
    for each in said:
        expected.setdefault(each.client_id[1:].split(".")[0], []).append(each.client_id)
    shuffled = list(said)
    random.Random(seed).shuffle(shuffled)
    found = versions(shuffled)
    assert found[:-1] == [sorted(ids) for ids in expected.values()]
    assert found[-1] == []


PLACES = {"w1": HERE, "w2": THERE, "w3": HERE, "": None}


@st.composite
def anything(draw: st.DrawFn) -> list[Said]:
    """Parts as no clock and no barrier would order them."""
    found = []
    for number in range(draw(st.integers(0, 16))):
        writer = draw(st.sampled_from(sorted(PLACES)))
        seq = draw(st.none() | st.integers(1, 5)) if writer else None
        at_s, is_finish = draw(st.integers(0, 6)) / 2, draw(st.booleans())
        found.append(
            part(f"c{number}", at_s, writer=writer, place=PLACES[writer], seq=seq, is_finish=is_finish)
        )
    return found


@settings(max_examples=300, deadline=None)
@given(anything(), st.integers(0, 2**32))
def test_every_part_is_in_one_version_whatever_the_order(said: list[Said], seed: int) -> None:
    shuffled = list(said)
    random.Random(seed).shuffle(shuffled)
    found = versions(said)
    assert found == versions(shuffled)
    assert sorted(client_id for version in found for client_id in version) == sorted(
        each.client_id for each in said
    )
    # A process's records are in versions in their order.
    place = {client_id: number for number, ids in enumerate(found) for client_id in ids}
    for writer in ("w1", "w2", "w3"):
        own = sorted(
            (each for each in said if each.writer == writer and each.seq is not None),
            key=lambda each: (each.seq, each.said_ns),
        )
        numbers: dict[int, list[int]] = {}
        for each in own:
            numbers.setdefault(each.seq or 0, []).append(place[each.client_id])
        seqs = sorted(numbers)
        for before, after in itertools.pairwise(seqs):
            assert max(numbers[before]) <= max(numbers[after])

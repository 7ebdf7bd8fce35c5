"""Which attempt a writer belongs to, and which of its rows still count: a pure function of the set of
writers.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_coordinator.aggregate.attempts import Placement, WriterFacts, lanes_of, place_writers


def writer(pk: int, rank: int | None = 0, start: int | None = None, **more) -> WriterFacts:
    return WriterFacts(pk, f"{pk:032x}", rank, (pk if start is None else start) * 1000, **more)


def attempts(writers, *, is_shared=True):
    placed = place_writers(writers, is_shared=is_shared)
    return [placed[w.writer_pk].attempt for w in writers]


def test_ranks_that_start_together_are_one_attempt():
    assert attempts([writer(i, rank=i) for i in range(4)]) == [1, 1, 1, 1]


def test_a_rank_that_comes_again_begins_an_attempt():
    assert attempts([writer(0, 0), writer(1, 1), writer(2, 1), writer(3, 0)]) == [1, 1, 2, 2]


def test_a_higher_restart_hint_of_the_same_job_begins_an_attempt_even_at_a_new_rank():
    old = [writer(i, i, job_id="j", restart_hint=0) for i in range(2)]
    new = [writer(9, 3, job_id="j", restart_hint=1), writer(10, 0, job_id="j", restart_hint=1)]
    assert attempts(old + new) == [1, 1, 2, 2]
    other_job = [writer(9, 3, job_id="k", restart_hint=1)]
    assert attempts(old + other_job) == [1, 1, 1]


def test_agents_that_count_restarts_differently_are_still_one_attempt():
    agents = [
        writer(0, 0, job_id="j", launcher="a", restart_hint=0),
        writer(1, 1, job_id="j", launcher="b", restart_hint=1),
        writer(2, 0, job_id="j", launcher="a", restart_hint=1),
        writer(3, 1, job_id="j", launcher="b", restart_hint=2),
    ]
    assert attempts(agents) == [1, 1, 2, 2]


def test_a_forked_sibling_begins_no_attempt_and_has_a_lane_of_its_own():
    writers = [
        writer(0, 0, machine="m", last_record_unix_ns=1500),
        writer(1, 0, machine="m", last_record_unix_ns=9000),
        writer(2, 1, machine="m"),
    ]
    assert attempts([replace(writers[0], last_record_unix_ns=900), *writers[1:]]) == [1, 2, 2]
    assert attempts([replace(writers[0], machine="other clock"), *writers[1:]]) == [1, 2, 2]
    placed = place_writers(writers, is_shared=True)
    assert [p.attempt for p in placed.values()] == [1, 1, 1]
    lanes = lanes_of(writers, placed, is_shared=True)
    assert [[w.writer_pk for w in lane] for lane in lanes] == [[0], [1], [2]]


def test_a_child_belongs_to_its_parents_attempt_however_long_it_lives():
    first, second = writer(0, None), writer(5, None, start=5)
    orphan = writer(1, None, start=2, forked_from=first.writer_id, machine="m", last_record_unix_ns=9000)
    late = writer(2, 3, start=7, forked_from=first.writer_id)
    stranger = writer(3, None, start=8, forked_from="f" * 32)
    everyone = [first, second, orphan, late, stranger]
    assert attempts(everyone, is_shared=False) == [1, 2, 1, 1, 2]
    assert attempts([replace(orphan, started_unix_ns=1), second], is_shared=False) == [1, 1]
    main = writer(0, None)
    spawned = [writer(i, i - 1, forked_from=main.writer_id) for i in (1, 2)]
    assert attempts([main, *spawned]) == [1, 1, 1]
    placed = place_writers(everyone, is_shared=False)
    lanes = lanes_of(everyone, placed, is_shared=False)
    assert [[w.writer_pk for w in lane] for lane in lanes] == [[0, 5], [1, 3], [2]]


def test_unranked_writers_of_a_shared_run_begin_no_attempt_and_come_last():
    writers = [writer(0, None, label="b"), writer(1, 0), writer(2, None, label="a"), writer(3, 0)]
    placed = place_writers(writers, is_shared=True)
    assert [placed[i].attempt for i in range(4)] == [1, 1, 1, 2]
    assert [[w.writer_pk for w in lane] for lane in lanes_of(writers, placed, is_shared=True)] == [
        [1, 3],
        [2],
        [0],
    ]


def test_a_run_of_one_process_started_again_is_two_attempts_of_one_lane():
    writers = [writer(0, None, step_max=99), writer(1, None, step_max=9)]
    placed = place_writers(writers, is_shared=False)
    assert (placed[1].attempt, placed[1].step_offset, placed[0].cut_step) == (2, 100, None)
    assert [[w.writer_pk for w in lane] for lane in lanes_of(writers, placed, is_shared=False)] == [[0, 1]]


def test_a_resumed_run_that_counts_on_is_moved_only_as_far_as_needed():
    first = writer(0, step_max=120)
    resumed = writer(1, start_step=101, step_max=150)  # it knew of 100 steps only
    assert place_writers([first, resumed], is_shared=False)[1].step_offset == 20
    knew_all = writer(1, start_step=121, step_max=150)
    assert place_writers([first, knew_all], is_shared=False)[1].step_offset == 0


def test_an_explicit_step_supersedes_earlier_attempts_from_the_lowest_one_on():
    writers = [
        writer(0, 0, given_step_min=0, step_max=80),
        writer(1, 1, given_step_min=0, step_max=82),
        writer(2, 0, given_step_min=50, step_max=60),
        writer(3, 1, given_step_min=51, step_max=60),
        writer(4, 0, given_step_min=40, step_max=45),
        writer(5, 0, step_max=3),
    ]
    placed = place_writers(writers, is_shared=True)
    assert [placed[i].cut_step for i in range(6)] == [40, 40, 40, 40, None, None]
    assert placed[5].step_offset == 46  # after the highest step that is still visible
    assert placed[5].attempt == 4


def test_unranked_writers_are_neither_cut_nor_cut_others():
    writers = [writer(0, 0, given_step_min=0, step_max=80), writer(1, None, given_step_min=5, step_max=9)]
    placed = place_writers([*writers, writer(2, 0, given_step_min=70, step_max=90)], is_shared=True)
    assert placed[0].cut_step == 70
    assert placed[1].cut_step is None and placed[1].step_offset == 0


WRITERS = st.lists(
    st.builds(
        lambda pk, rank, start, hint, given_min, step_max, last: writer(
            pk,
            rank,
            start,
            restart_hint=hint,
            given_step_min=given_min,
            step_max=step_max,
            job_id="j",
            machine="m",
            last_record_unix_ns=last * 1000,
        ),
        st.integers(0, 30),
        st.none() | st.integers(0, 3),
        st.integers(0, 5),
        st.none() | st.integers(0, 2),
        st.none() | st.integers(0, 5),
        st.integers(5, 9),
        st.integers(0, 6),
    ),
    unique_by=lambda w: w.writer_pk,
    max_size=8,
)


@given(WRITERS, st.booleans(), st.integers(0, 2**32))
def test_the_order_of_the_set_does_not_matter(writers, is_shared, seed):
    shuffled = writers[:]
    random.Random(seed).shuffle(shuffled)
    placed = place_writers(writers, is_shared=is_shared)
    assert placed == place_writers(shuffled, is_shared=is_shared)
    lanes = lanes_of(writers, placed, is_shared=is_shared)
    assert lanes == lanes_of(shuffled, placed, is_shared=is_shared)
    assert sorted(w.writer_pk for lane in lanes for w in lane) == sorted(placed)
    for lane in lanes:
        order = [placed[w.writer_pk].attempt for w in lane]
        assert order == sorted(set(order))  # at most one writer of an attempt in a lane


def test_a_ray_actor_that_was_started_again_is_a_second_attempt():
    first = writer(
        0, None, label="a", job_id="ray:1", last_record_unix_ns=90_000, given_step_min=0, step_max=8
    )
    later = writer(100, None, label="a", job_id="ray:1", given_step_min=5, step_max=9)
    placed = place_writers([later, first], is_shared=True)
    assert (placed[first.writer_pk], placed[later.writer_pk]) == (Placement(1, 0, 5), Placement(2))
    [lane] = lanes_of([first, later], placed, is_shared=True)
    assert lane == [first, later]


@pytest.mark.parametrize(
    "first",
    [
        {"job_id": "ray:1", "last_record_unix_ns": 110_000},  # it went on beside the other
        {"job_id": "ray:1", "last_record_unix_ns": 90_000, "is_finished": True},
        {"job_id": "ray:2", "last_record_unix_ns": 90_000},
        {"job_id": None, "last_record_unix_ns": 90_000},
    ],
)
def test_a_label_that_is_used_again_is_no_restart_by_itself(first):
    writers = [writer(0, None, label="a", **first), writer(100, None, label="a", job_id="ray:1")]
    placed = place_writers(writers, is_shared=True)
    assert {place.attempt for place in placed.values()} == {1}


def test_a_label_stands_for_no_rank_where_there_are_ranks_or_others_went_on():
    again = [writer(at, None, label="a", job_id="ray:1", given_step_min=0, step_max=1) for at in (0, 100)]
    for other in (writer(1, 0), writer(1, None, label="b", job_id="ray:1", last_record_unix_ns=200_000)):
        placed = place_writers([*again, other], is_shared=True)
        assert {place.attempt for place in placed.values()} == {1}
        assert {place.cut_step for place in placed.values()} == {None}

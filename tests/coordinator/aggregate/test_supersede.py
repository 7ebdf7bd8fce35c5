"""Which rows of whom a resume and a rewind take back, and where steps go on: a function of the set of writers."""

from __future__ import annotations

import random
from dataclasses import replace

from coordinator.aggregate.test_attempts import writer
from runfold.protocol.branching import SPOOLS, Branch
from runfold_coordinator.aggregate.attempts import Placement, WriterFacts, lanes_of, place_writers


def resume(step: int, **more) -> Branch:
    return Branch("resume", "r", step, **more)


def rewind(step: int, **more) -> Branch:
    return Branch("rewind", "r", step, **more)


def place(*writers: WriterFacts, is_shared: bool = True) -> list[Placement]:
    placed = place_writers(writers, is_shared=is_shared)
    shuffled = list(writers)
    for seed in range(3):
        random.Random(seed).shuffle(shuffled)
        assert place_writers(shuffled, is_shared=is_shared) == placed
    return [placed[w.writer_pk] for w in writers]


def test_a_resumed_process_goes_on_where_it_was_told_and_late_rows_give_way():
    old = writer(0, step_max=9)
    new = writer(5, start_step=8, step_max=12, branch=resume(7))
    assert place(old, new) == [Placement(1, 0, 8), Placement(2)]
    # Its own explicit steps say more than what it was told.
    assert place(old, replace(new, given_step_min=5)) == [Placement(1, 0, 5), Placement(2)]


def test_who_could_not_ask_follows_the_last_step_and_takes_nothing_back():
    old = writer(0, step_max=9)
    new = writer(5, start_step=4, step_max=6, branch=resume(3, told_by=SPOOLS))
    assert place(old, new) == [Placement(1), Placement(2, 6)]


def test_an_old_process_that_lives_on_is_still_the_one_before():
    old = writer(0, machine="m", step_max=30, last_record_unix_ns=99_000)
    new = writer(5, machine="m", start_step=8, step_max=12, branch=resume(7))
    assert place(old, new) == [Placement(1, 0, 8), Placement(2)]
    assert [p.attempt for p in place(old, replace(new, branch=None))] == [1, 1]


def test_a_clock_that_is_behind_does_not_turn_the_order_around():
    old = writer(50, start=50, step_max=9)
    new = writer(5, start=5, start_step=10, step_max=12, branch=resume(9, after_unix_ns=50_000))
    assert place(old, new) == [Placement(1, 0, 10), Placement(2)]
    assert [[w.writer_pk for w in lane] for lane in lanes(old, new)] == [[50, 5]]


def lanes(*writers: WriterFacts) -> list[list[WriterFacts]]:
    return lanes_of(writers, place_writers(writers, is_shared=True), is_shared=True)


def test_ranks_that_were_told_different_steps_begin_at_the_lowest():
    old = [writer(i, i, step_max=9) for i in range(2)]
    new = [
        writer(10, 0, start_step=10, step_max=15, branch=resume(9)),
        writer(11, 1, start_step=12, step_max=17, branch=resume(11)),
        # This one could not ask at all.
        writer(12, 2, start_step=0, step_max=5),
    ]
    assert place(*old, *new)[2:] == [Placement(2, 0), Placement(2, -2), Placement(2, 10)]
    # One more restart, without resume: after the highest step of them.
    assert place(*old, *new, writer(20, 0, step_max=3))[-1] == Placement(3, 16)


def test_a_rank_that_lives_on_beside_one_that_was_started_again_keeps_its_rows():
    stayed = writer(1, 1, step_max=40, last_record_unix_ns=99_000)
    died = writer(0, 0, step_max=9, last_record_unix_ns=3_000)
    again = writer(5, 0, start_step=10, step_max=12, branch=resume(9))
    assert place(stayed, died, again) == [Placement(1), Placement(1, 0, 10), Placement(2)]
    # A rewind is the word of a person: it takes back everybody's.
    taken = place(stayed, died, replace(again, branch=rewind(9)))
    assert taken == [Placement(1, 0, 10, 10), Placement(1, 0, 10, 10), Placement(2)]


def test_every_rewind_takes_back_what_all_before_it_have():
    first = writer(0, step_max=9)
    second = writer(1, start=1, start_step=6, step_max=8, branch=rewind(5))
    third = writer(2, start=2, start_step=3, step_max=20, branch=rewind(2))
    assert place(first, second, third) == [Placement(1, 0, 3, 3), Placement(2, 0, 3, 3), Placement(3)]
    fourth = writer(3, start=3, start_step=12, branch=rewind(11))
    assert place(first, second, third, fourth)[2:] == [Placement(3, 0, 12, 12), Placement(4)]


def test_processes_without_a_rank_rewind_together():
    old = writer(0, None, label="a", step_max=9, last_record_unix_ns=500)
    new = [
        writer(i, None, label=f"n{i}", start_step=6, branch=rewind(5), last_record_unix_ns=90_000)
        for i in (1, 2)
    ]
    assert place(old, *new) == [Placement(1, 0, 6, 6), Placement(2), Placement(2)]
    again = writer(200, None, start=200, start_step=6, branch=rewind(5))
    assert [p.attempt for p in place(old, *new, again)] == [1, 2, 2, 3]


def test_a_child_has_no_branch_of_its_own():
    parent = writer(0, start_step=6, step_max=9, branch=rewind(5))
    child = writer(1, None, start_step=8, step_max=9, forked_from=parent.writer_id, branch=rewind(5))
    assert [p.attempt for p in place(parent, child)] == [1, 1]


def test_a_fork_counts_on_from_its_bases_steps():
    fork = Branch("fork", "base", 5)
    first = writer(0, start_step=6, branch=fork)
    assert place(first) == [Placement(1)]
    restarted = writer(1, start=1, step_max=3)
    assert place(first, restarted)[1] == Placement(2, 6)
    assert place(replace(first, step_max=8), restarted)[1] == Placement(2, 9)
    assert place(replace(first, step_max=8), replace(restarted, start_step=6, branch=fork))[1] == Placement(
        2, 3
    )


def test_words_out_of_range_break_nothing():
    old = writer(0, step_max=9)
    for step in (-(2**63), 2**63 - 1):
        (_, new) = place(old, writer(1, start=1, start_step=0, step_max=2, branch=rewind(step)))
        assert new.attempt == 2
        assert rewind(step).next_step in (0, 2**62)
    assert rewind(1, after_unix_ns=2**63 - 1).begins_at(5) < 2**63

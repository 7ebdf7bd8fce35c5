"""When a writer is taken to hang, and for whom the others wait: scripted, on clocks that move when told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_coordinator.verdicts.progress import Pace, Progress, StallLimits, spread
from runfold_coordinator.verdicts.stacks import classify
from runfold_coordinator.verdicts.stall import ELSEWHERE, UNSURE, WAITS, Member, waited_for

LIMITS = StallLimits()
NS = 1_000_000_000


class Writer:
    """A writer whose rows come when told; its own clock may be wrong."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.offset_s = 0.0
        self.step = 0
        self.lease_s = 0.0
        self.progress = Progress(self.now_s, self.now_s)

    def rows(self, *pauses_s: float, count: int = 1, flagged: bool = False) -> None:
        for pause_s in pauses_s:
            self.now_s += pause_s
            steps = range(self.step, self.step + count)
            self.step += count
            t_ns = [int((self.now_s + self.offset_s) * NS)] * count
            self.progress.note(self.now_s, self.now_s, self.lease_s, steps, t_ns, was_flagged=flagged)

    @property
    def patience_s(self) -> float | None:
        pace = self.progress.pace()
        return None if pace is None else self.progress.patience_s(LIMITS, None, self.progress.longest_s)


@pytest.fixture
def writer() -> Writer:
    return Writer()


def test_no_word_before_some_steps(writer: Writer) -> None:
    writer.rows(300.0, 1.0, 1.0, 1.0, 1.0)
    assert writer.patience_s is None
    writer.rows(1.0)
    assert writer.patience_s == 60.0


def test_patience_follows_the_step_time_where_steps_are_long(writer: Writer) -> None:
    writer.rows(*[20.0] * 10)
    assert writer.patience_s == pytest.approx(200.0)


def test_the_first_step_may_warm_up(writer: Writer) -> None:
    writer.rows(1.0, 180.0, *[1.0] * 10)
    assert writer.patience_s == 360.0, "what was compiled once may be compiled again"
    writer.rows(*[1.0] * 350)
    assert writer.patience_s == 60.0


def test_a_checkpoint_pause_is_learnt(writer: Writer) -> None:
    writer.rows(*[1.0] * 10, 50.0, *[1.0] * 200)
    assert writer.patience_s == pytest.approx(150.0)


def test_a_pause_that_was_flagged_counts_half(writer: Writer) -> None:
    writer.rows(*[1.0] * 10)
    writer.rows(100.0, flagged=True)
    writer.rows(*[1.0] * 10)
    assert writer.patience_s == pytest.approx(150.0)


def test_noise_widens_patience(writer: Writer) -> None:
    writer.rows(1.0, *[10.0, 30.0] * 10)
    middle, mad = spread([10.0, 30.0] * 10)
    assert writer.patience_s == pytest.approx(10 * (middle + 3 * 1.4826 * mad), rel=0.1)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_teaches_nothing(writer: Writer, jump_s: float) -> None:
    writer.rows(*[1.0] * 20)
    writer.offset_s = jump_s
    writer.rows(*[1.0] * 20)
    assert writer.patience_s == 60.0


def test_while_nobody_could_be_heard_nobody_paused(writer: Writer) -> None:
    writer.rows(*[1.0] * 20)
    writer.lease_s = writer.now_s + 500.0
    assert writer.progress.still_s(writer.now_s + 510.0, writer.lease_s) == 10.0
    writer.rows(510.0)
    assert writer.patience_s == 60.0


def test_a_pace_is_learnt_from_the_first_rows_and_then_from_some(writer: Writer) -> None:
    for _ in range(7):
        assert not writer.progress.is_learnt(writer.now_s)
        writer.rows(0.1)
    assert writer.patience_s is not None
    writer.rows(*[1.0] * 20)
    assert writer.progress.is_learnt(writer.now_s + 0.5)
    writer.progress.note_more(writer.now_s + 0.5, writer.now_s + 0.5, 9)
    writer.step += 9
    writer.rows(*[10.0] * 1)  # ten rows in ten seconds
    pace = writer.progress.pace()
    assert pace is not None and pace.step_s == pytest.approx(1.0)
    assert writer.progress._intervals[-1] == pytest.approx(1.0)


def test_rows_of_one_step_are_one_step(writer: Writer) -> None:
    for _ in range(10):
        writer.now_s += 30.0
        t_ns = [int((writer.now_s + after_s) * NS) for after_s in (0.0, 0.001, 0.002)]
        steps = [writer.step, writer.step, writer.step - 5]
        writer.step += 1
        writer.progress.note(writer.now_s, writer.now_s, 0.0, steps, t_ns, was_flagged=False)
    pace = writer.progress.pace()
    assert pace is not None and pace.step_s == pytest.approx(30.0)


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(1, 300)), min_size=1, max_size=30))
def test_whatever_comes_patience_is_between_its_bounds(parts: list[tuple[float, int]]) -> None:
    writer = Writer()
    for pause_s, count in parts:
        writer.rows(pause_s, count=count)
    patience_s, pauses = writer.patience_s, [pause_s for pause_s, _ in parts]
    if patience_s is not None:
        assert 60.0 <= patience_s <= max(600.0, 10 * (1 + 6 * 1.4826) * max(pauses), 3 * max(pauses)) + 1e-6
    assert writer.progress.step == writer.step - 1


def test_pace_survives_the_catalogue() -> None:
    pace = Pace(1.0, 0.1, 40.0)
    assert Pace.from_map(pace.to_map()) == pace
    assert Pace.from_map({"step_s": "x"}) is None and Pace.from_map(None) is None


# --- blame --------------------------------------------------------------------------------------------


def ranks(count: int, step: int = 1042, **facts: object) -> list[Member]:
    base = Member("", step=step, is_stalled=True)
    return [replace(base, writer=f"{rank:02x}", rank=rank, **facts) for rank in range(count)]


def blamed(members: Sequence[Member]) -> list[tuple[int | None, str]]:
    return [(found.member.rank, found.kind) for found in waited_for(members)]


def change(members: list[Member], rank: int, **facts: object) -> list[Member]:
    return [replace(member, **facts) if member.rank == rank else member for member in members]


def test_nobody_is_blamed_while_nobody_is_stalled() -> None:
    assert blamed(ranks(4, is_stalled=False)) == []


def test_a_rank_inside_of_data_is_what_those_in_a_collective_wait_for() -> None:
    members = change(
        ranks(8, phase="all_reduce", phase_s=61.0, is_collective=True),
        2, phase="data", phase_s=61.4, is_collective=False,
    )  # fmt: skip
    (found,) = waited_for(members)
    assert (found.member.rank, found.why) == (2, "in data for 61 s")


def test_a_rank_in_no_timer_is_waited_for_by_those_in_a_collective() -> None:
    members = change(ranks(4, phase="reduce", is_collective=True), 3, phase=None, is_collective=False)
    (found,) = waited_for(members)
    assert found.member.rank == 3 and "in no timer" in found.why


def test_a_rank_in_data_is_blamed_before_it_counts_as_stalled() -> None:
    members = change(
        ranks(4, phase="reduce", is_collective=True), 1, phase="data", is_collective=False, is_stalled=False
    )
    assert blamed(members) == [(1, "phase")]


def test_the_lowest_step_is_waited_for() -> None:
    (found,) = waited_for(change(ranks(4), 1, step=1041))
    assert (found.member.rank, found.why) == (1, "at step 1041, others at 1042")


def test_a_low_step_that_waits_in_a_collective_is_no_culprit() -> None:
    members = change(ranks(3, phase="data", step=7), 1, step=6, phase="barrier", is_collective=True)
    assert blamed(members) == [(0, "phase"), (2, "phase")]


def test_a_stopped_process_comes_first() -> None:
    members = change(ranks(4, phase="reduce", is_collective=True), 2, is_stopped=True, is_stalled=False)
    assert blamed(members) == [(2, "stopped")]


def test_a_dead_rank_is_waited_for_by_the_living() -> None:
    members = change(ranks(4), 3, is_live=False, is_stalled=False, state="killed", reason="killed by SIGKILL")
    (found,) = waited_for(members)
    assert (found.member.rank, found.kind) == (3, "gone")
    assert found.why == "killed after step 1042: killed by SIGKILL"


def test_workers_that_do_not_wait_are_not_held_up_by_a_dead_one() -> None:
    members = change(ranks(3, phase="solve"), 0, is_live=False, is_stalled=False, state="crashed")
    members = change(members, 1, is_stalled=False, step=2000)
    assert blamed(members) == [(2, "alone")]


def test_a_rank_that_finished_early_is_waited_for_only_where_others_wait() -> None:
    done = {"is_live": False, "is_stalled": False, "state": "finished"}
    assert blamed(change(ranks(3, phase="reduce", is_collective=True), 0, **done)) == [(0, "gone")]
    assert blamed(change(ranks(2), 0, **done)) == [(1, "alone")]


def test_stacks_tell_where_timers_do_not() -> None:
    members = change(ranks(4, stack=UNSURE), 2, stack=ELSEWHERE, stack_place="sleep (data.py:3)")
    (found,) = waited_for(members)
    assert (found.member.rank, found.kind, found.why) == (2, "stack", "at sleep (data.py:3)")
    assert blamed(change(ranks(4, stack=WAITS), 1, stack=ELSEWHERE)) == [(1, "stack")]


def test_where_nobody_stands_out_nobody_is_named() -> None:
    assert blamed(ranks(4)) == []
    assert blamed(ranks(4, phase="reduce", is_collective=True)) == []
    assert blamed(ranks(1, phase="data", phase_s=3.0)) == [(0, "alone")]


@given(
    st.lists(
        st.builds(
            Member,
            writer=st.uuids().map(lambda found: found.hex),
            rank=st.none() | st.integers(0, 5),
            step=st.none() | st.integers(0, 3),
            state=st.sampled_from(["running", "crashed", "finished"]),
            is_live=st.booleans(),
            is_stalled=st.booleans(),
            is_stopped=st.booleans(),
            is_unreachable=st.booleans(),
            phase=st.none() | st.just("p"),
            is_collective=st.booleans(),
            stack=st.sampled_from([None, WAITS, ELSEWHERE, UNSURE]),
        ),
        max_size=8,
    )
)
def test_blame_is_a_function_of_the_set_and_spares_those_that_wait(members: list[Member]) -> None:
    found = waited_for(members)
    assert sorted(one.member.writer for one in found) == sorted(
        one.member.writer for one in waited_for(members[::-1])
    )
    assert not found or any(member.is_stalled and member.is_live for member in members)
    assert all(one.why for one in found)
    innocent = [one for one in found if one.member.waits and one.kind in ("phase", "stack")]
    assert not innocent or any(one.member.is_elsewhere for one in innocent)


FAULTHANDLER = """Thread 0x00007f (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait
  File "/x/runfold/keep_up.py", line 9 in run

Current thread 0x00007e (most recent call first):
  File "{file}", line 31 in {name}
  File "/home/me/train.py", line 80 in main
  File "/x/torch/distributed/elastic/multiprocessing/errors/__init__.py", line 357 in wrapper
"""
PY_SPY = """Process 12: python train.py
Python v3.11.2 (/usr/bin/python3.11)

Thread 12 (idle): "MainThread"
    {name} ({file}:31)
    main (/home/me/train.py:80)
Thread 14 (idle): "pin_memory"
    wait (threading.py:324)
"""


@pytest.mark.parametrize("form", [FAULTHANDLER, PY_SPY])
@pytest.mark.parametrize(
    ("file", "name", "expected"),
    [
        ("/x/torch/distributed/distributed_c10d.py", "all_reduce", WAITS),
        ("/x/horovod/torch/mpi_ops.py", "synchronize", WAITS),
        ("/x/torch/autograd/graph.py", "_engine_run_backward", UNSURE),
        ("/x/torch/distributed/fsdp/fully_sharded.py", "forward", ELSEWHERE),
        ("/home/me/data.py", "load", ELSEWHERE),
    ],
)
def test_stacks_are_classified(form: str, file: str, name: str, expected: str) -> None:
    found, place = classify(form.format(file=file, name=name))
    assert found == expected
    assert place == f"{name} ({'/'.join(file.split('/')[-2:])}:31)"


def test_what_is_no_stack_tells_nothing() -> None:
    assert classify("Permission denied") == (UNSURE, "")

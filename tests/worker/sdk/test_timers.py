"""Timers: what rows say about time, nested, in threads and children; the phase in the spool's header."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import runfold
from runfold import timers as timers_module
from runfold.spool import SpoolReader
from runfold.spool.phase import MAX_NAMES, Phase
from support.spooled import Spooled
from worker.sdk.conftest import Clock


def rows(spool: Callable[[], Spooled]) -> list[dict[str, Any]]:
    return spool().values


def header_phase(run: runfold.Run, clock: Clock) -> Phase | None:
    assert run._spool.directory is not None
    reader = SpoolReader(run._spool.directory)
    try:
        return reader.header.phase(clock())
    finally:
        reader.close()


def test_a_script_without_timers_logs_as_ever(run: runfold.Run, spool: Callable[[], Spooled]) -> None:
    run.log({"loss": 1.0})
    assert run.log == run._recorder.log
    assert rows(spool) == [{"loss": 1.0}]


def test_the_row_that_is_committed_says_where_the_time_went(
    run: runfold.Run, spool: Callable[[], Spooled], clock: Clock
) -> None:
    for data_s, forward_s in ((1.0, 2.0), (0.5, 0.0)):
        with run.timer("data"):
            clock.now_s += data_s
        clock.now_s += 0.25
        if forward_s:
            with run.timer("forward"):
                clock.now_s += forward_s
        run.log({"loss": 1.0})
    first, second = rows(spool)
    assert first == pytest.approx(
        {"loss": 1.0, "timing/data": 1.0, "timing/forward": 2.0, "timing/step": 3.25}
    )
    assert second == pytest.approx({"loss": 1.0, "timing/data": 0.5, "timing/step": 0.75})


def test_of_nested_timers_the_innermost_counts(
    run: runfold.Run, spool: Callable[[], Spooled], clock: Clock
) -> None:
    with run.timer("forward"):
        clock.now_s += 1
        with run.timer("all_reduce", collective=True):
            clock.now_s += 2
            with run.timer("forward"):
                clock.now_s += 4
        clock.now_s += 8
        run.log({})  # in the middle of a phase: what there is so far
    clock.now_s += 16
    with run.timer("forward"):
        clock.now_s += 32
    run.log({})
    first, second = rows(spool)
    assert first == pytest.approx(
        {"timing/forward": 13.0, "timing/all_reduce": 2.0, "timing/step": 15.0, "timing/collective": 2.0}
    )
    assert second == pytest.approx({"timing/forward": 32.0, "timing/step": 48.0, "timing/collective": 0.0})


def test_parts_of_a_row_carry_timings_once(
    run: runfold.Run, spool: Callable[[], Spooled], clock: Clock
) -> None:
    with run.timer("a"):
        clock.now_s += 1
    run.log({"x": 1}, commit=False)
    run.log({"y": 1}, step=np.int64(5))
    run.log({"z": 1}, step=5)
    run.log({"z": 1}, step=3)
    clock.now_s += 1
    run.log({"y": 1}, step=6)
    assert [("timing/step" in row, "timing/a" in row) for row in rows(spool)] == [
        (False, False), (True, True), (False, False), (False, False), (True, False),
    ]  # fmt: skip


def test_a_row_that_is_refused_loses_no_time(
    run: runfold.Run, spool: Callable[[], Spooled], clock: Clock
) -> None:
    with run.timer("a"):
        clock.now_s += 1
    for wrong in ([1], {1: 2}, None):
        with pytest.raises((TypeError, ValueError)):
            run.log(wrong)  # type: ignore[arg-type]
    run.log({"timing/step": 7.0})
    assert rows(spool) == [pytest.approx({"timing/a": 1.0, "timing/step": 7.0})]


def test_a_timer_decorates(run: runfold.Run, spool: Callable[[], Spooled], clock: Clock) -> None:
    @run.timer("load")
    def load(seconds: float) -> float:
        clock.now_s += seconds
        return load(seconds - 1) if seconds > 1 else seconds

    assert load(3.0) == 1.0
    with pytest.raises(ZeroDivisionError), run.timer("load"):
        clock.now_s += 1
        raise ZeroDivisionError
    run.log({})
    assert rows(spool)[0]["timing/load"] == pytest.approx(7.0)

    async def later() -> None:
        return

    with pytest.raises(TypeError, match="inside"):
        run.timer("load")(later)


@pytest.mark.parametrize(("name", "error"), [("step", ValueError), ("", TypeError), (5, TypeError)])
def test_names_that_can_not_be(run: runfold.Run, name: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        run.timer(name)


def test_phases_that_overlap_do_not_harm(
    run: runfold.Run, spool: Callable[[], Spooled], clock: Clock
) -> None:
    a, b = run.timer("a"), run.timer("b")
    a.__exit__()
    a.__enter__()
    b.__enter__()
    clock.now_s += 1
    a.__exit__()
    clock.now_s += 1
    b.__exit__()
    b.__exit__()
    run.log({})
    assert rows(spool)[0]["timing/b"] == pytest.approx(2.0)
    assert "timing/a" not in rows(spool)[0]


def test_too_many_names_count_nothing(
    run: runfold.Run, spool: Callable[[], Spooled], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5 * MAX_NAMES):
        with run.timer(f"t{number}"):
            pass
    run.log({})
    assert len([key for key in rows(spool)[0] if key.startswith("timing/t")]) <= MAX_NAMES
    assert "further ones count nothing" in capsys.readouterr().err


def test_threads_add_up_and_ended_ones_are_not_forgotten(
    run: runfold.Run, spool: Callable[[], Spooled], clock: Clock
) -> None:
    def work() -> None:
        with run.timer("load"):
            clock.now_s += 1

    for _ in range(3):
        for _ in range(20):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        with run.timer("main"):
            clock.now_s += 1
        run.log({})
    assert [row["timing/load"] for row in rows(spool)] == pytest.approx([20.0, 20.0, 20.0])
    assert run._timers is not None
    assert len(run._timers._lanes) <= timers_module._MAX_LANES + 20


def test_the_header_shows_the_phase_of_the_thread_that_logs(run: runfold.Run, clock: Clock) -> None:
    assert header_phase(run, clock) is None
    with run.timer("data"):
        clock.now_s += 5
        assert header_phase(run, clock) == pytest.approx(("data", 5.0, False), abs=1e-5)
        with run.timer("reduce ä" * 9, collective=True):
            clock.now_s += 2
            found = header_phase(run, clock)
            assert found is not None
            cut = ("reduce ä" * 9).encode()[:40].decode("utf-8", "ignore")
            assert (found.name, found.is_collective) == (cut, True)
            thread = threading.Thread(target=run.timer("other").__enter__)
            thread.start()
            thread.join()
            assert header_phase(run, clock) == found
        clock.now_s += 1
        assert header_phase(run, clock) == pytest.approx(("data", 1.0, False), abs=1e-5)
    assert header_phase(run, clock) is None

    def log() -> None:
        with run.timer("eval"):
            run.log({})

    thread = threading.Thread(target=lambda: (log(), run.timer("eval").__enter__()))
    thread.start()
    thread.join()
    assert (header_phase(run, clock) or ("",))[0] == "eval"


def test_a_child_has_timers_of_its_own(
    run: runfold.Run, spools: Callable[[], list[Spooled]], clock: Clock
) -> None:
    with run.timer("before"):
        clock.now_s += 1
        pid = os.fork()
        if pid == 0:
            try:
                with run.timer("child"):
                    clock.now_s += 1
                run.log({"of": 1})
                with run.timer("child"):
                    clock.now_s += 1
                    run.log({"of": 1})
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    run.log({"of": 0})
    of_parent, of_child = sorted((found.values for found in spools()), key=len)
    assert [("timing/before" in row, "timing/child" in row) for row in of_parent] == [(True, False)]
    assert [("timing/before" in row, "timing/child" in row) for row in of_child] == [(False, True)] * 2


def test_after_the_end_a_timer_does_nothing(run: runfold.Run) -> None:
    with run.timer("data"):
        run.finish(quiet=True)
    with run.timer("data"), run.timer("more"):
        pass
    with pytest.raises(runfold.UsageError):
        run.log({})


def test_a_disabled_run_times_nothing() -> None:
    run = runfold.init(mode="disabled", reinit="create_new")
    with run.timer("step"):
        run.log({"x": 1})
    assert dict(run.summary) == {"x": 1}
    run.finish()

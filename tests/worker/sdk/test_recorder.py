"""Recorder: what interrupts an append, what happens to the lock in a fork's child."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from runfold.errors import UsageError
from runfold.protocol.records import RecordKind
from runfold.protocol.rows import RowSchema
from runfold.recorder import Recorder


class FakeSpool:
    """Keeps what it gets; calls `interrupt` in the middle of each append."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.interrupt: Callable[[], None] = lambda: None
        self.is_full = False
        self.can_wait_for_status = True
        self.is_closed = False

    @property
    def last_seq(self) -> int:
        return len(self.said)

    @property
    def dropped_count(self) -> int:
        return len(self.said) if self.is_full else 0

    def append_row(self, schema: RowSchema, flags: int, step: int, values: Any) -> bool:
        schema.struct.pack(*values)  # refuses as the real one does
        self.interrupt()
        self.said.append((step, *values))
        return not self.is_full

    def append_record(self, kind: int, payload: bytes, flags: int = 0) -> bool:
        self.interrupt()
        self.said.append((RecordKind(kind),))
        return not self.is_full

    def close(self, *, final: bool = True) -> None:
        self.is_closed = final

    def close_with_status(self, payload: bytes, at_last: Callable[[int], bool]) -> bool:
        self.is_closed = self.can_wait_for_status
        return self.can_wait_for_status


@pytest.fixture
def spool() -> FakeSpool:
    return FakeSpool()


@pytest.fixture
def recorder(spool: FakeSpool) -> Recorder:
    return Recorder("id", lambda _: spool)


def once(spool: FakeSpool, action: Callable[[], None]) -> None:
    """Run `action` in the middle of the next append only."""

    def interrupt() -> None:
        spool.interrupt = lambda: None
        action()

    spool.interrupt = interrupt


@pytest.mark.parametrize("data", [{"a": 1}, {"a": "text"}])
def test_a_call_inside_a_call_comes_right_after_it(
    recorder: Recorder, spool: FakeSpool, data: dict[str, Any]
) -> None:
    recorder.log(data)
    once(spool, lambda: recorder.log({"inner": 2}))
    recorder.log(data)
    recorder.log(data)
    assert recorder.step == 4
    assert spool.said[2] == (2, 2)


def test_an_action_of_a_signal_waits_for_the_append(recorder: Recorder, spool: FakeSpool) -> None:
    class Stop(BaseException):
        pass

    def stop() -> None:
        raise Stop

    recorder.log({"a": 1})
    taken: list[bool] = []
    once(spool, lambda: taken.append(recorder.defer(stop)))
    with pytest.raises(Stop):
        recorder.log({"a": 2})
    assert taken == [True]
    assert spool.said == [(0, 1), (1, 2)]
    recorder.log({"a": 3})
    assert recorder.step == 3
    assert not recorder.defer(stop)


def test_another_threads_append_is_not_ours(recorder: Recorder, spool: FakeSpool) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        go_on.wait(10)

    recorder.log({"a": 1})
    once(spool, wait)
    thread = threading.Thread(target=lambda: recorder.log({"a": 2}))
    thread.start()
    inside.wait(10)
    assert not recorder.defer(lambda: None)
    recorder.append_if_active(RecordKind.SIGNAL, b"", timeout_s=0.01)  # gives up
    go_on.set()
    thread.join()
    recorder.append_if_active(RecordKind.SIGNAL, b"")
    assert spool.said == [(0, 1), (1, 2), (RecordKind.SIGNAL,)]


def test_a_forks_child_gets_a_lock_and_a_spool_of_its_own() -> None:
    spools: list[FakeSpool] = []

    def open_spool(start_step: int) -> FakeSpool:
        spools.append(FakeSpool())
        spools[-1].said.append((start_step,))
        return spools[-1]

    recorder = Recorder("id", open_spool)
    for number in range(3):
        recorder.log({"a": number})
    locked = threading.Thread(target=recorder._lock.acquire)  # a thread that the child does not have
    locked.start()
    locked.join()
    recorder.reset_after_fork()
    assert recorder.spool is None
    recorder.log({"a": 9})
    assert spools[1].said == [(3,), (3, 9)]
    assert len(spools[0].said) == 4


def test_a_child_that_says_nothing_opens_nothing() -> None:
    opened: list[FakeSpool] = []

    def open_spool(_: int) -> FakeSpool:
        opened.append(FakeSpool())
        return opened[-1]

    recorder = Recorder("id", open_spool, is_lazy=True)
    recorder.end(b"")
    assert opened == []


def test_loss_is_counted_and_told_once_a_minute(
    recorder: Recorder, spool: FakeSpool, capsys: pytest.CaptureFixture[str]
) -> None:
    spool.is_full = True
    for number in range(10):
        recorder.log({"a": number})
        recorder.log({"a": str(number)})
    assert recorder.step == 20
    assert capsys.readouterr().err.count("could not be kept") == 1


def test_the_end_is_told_once(recorder: Recorder, spool: FakeSpool) -> None:
    recorder.log({"a": 1})
    recorder.end(b"")
    recorder.end(b"")
    assert spool.said == [(0, 1), (RecordKind.EXIT,)]
    assert spool.is_closed
    for data in ({"a": 1}, {}):
        with pytest.raises(UsageError):
            recorder.log(data)


@pytest.mark.parametrize("can_wait", [True, False])
def test_the_status_is_left_open_where_it_can_be_learnt(
    can_wait: bool, recorder: Recorder, spool: FakeSpool
) -> None:
    spool.can_wait_for_status = can_wait
    for _ in range(2):
        recorder.end_with_status(b"", lambda _: True)
    assert spool.said == ([] if can_wait else [(RecordKind.EXIT,)])
    assert spool.is_closed
    assert recorder.is_ended

"""The route of console lines, and the client on it."""

from __future__ import annotations

import datetime

import pytest

from coordinator.readers.stored_console import Console
from coordinator.readers.stored_run import StoredRun
from runfold.api import Api
from runfold.api.errors import RequestError
from runfold_coordinator.store.store import Store


def test_lines_have_the_shape_of_the_clients(api: Api, store: Store) -> None:
    run_pk = StoredRun(store).run_pk
    for rank in (0, 1):
        console = Console(store, run_pk, rank)
        for n in range(5):
            console.say(
                f"{rank} {n}", at_ms=10 * n + rank, first_line=n, stream="stderr" if n == 4 else "stdout"
            )
    run = api.run("e/p/r")
    lines = list(run.console_logs(per_page=3))
    assert [line.content for line in lines] == [f"{rank} {n}" for n in range(5) for rank in (0, 1)]
    first, last = lines[0], lines[-1]
    assert first.timestamp == datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC)
    assert (first.number, first.level, first.label, first.rank) == (0, "", "rank0", 0)
    assert (last.number, last.level, last.label, last.stream) == (4, "error", "rank1", "stderr")
    assert [line.content for line in run.console_logs(last=3)] == ["1 3", "0 4", "1 4"]
    assert [line.content for line in run.console_logs(rank=1, last=2)] == ["1 3", "1 4"]
    assert len(list(run.console_logs(rank=[0, 1], stream="stdout"))) == 8
    logs = run.console_logs()
    assert list(logs) == list(logs), "iterating anew starts anew"


@pytest.mark.parametrize(
    "wrong", [{"per_page": 0}, {"last": 0}, {"last": True}, {"stream": "stdin"}, {"rank": -1}]
)
def test_wrong_arguments_are_refused(api: Api, store: Store, wrong: dict[str, object]) -> None:
    run_pk = StoredRun(store).run_pk
    Console(store, run_pk, 0)
    with pytest.raises(RequestError):
        list(api.run("e/p/r").console_logs(**wrong))  # type: ignore[arg-type]

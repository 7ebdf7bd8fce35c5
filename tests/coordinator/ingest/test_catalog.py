"""The projection of a run: the same in any order of arrival; the primary wins, the others fill."""

from __future__ import annotations

import itertools
from typing import Any

from runfold.protocol.identity import Identity
from runfold.protocol.records import ConfigRecord, MetricRecord, RunRecord
from runfold_coordinator.ingest.catalog import Projection, project
from runfold_coordinator.ingest.writer_words import WriterWords


def words(number: int, *payloads: Any, **facts: Any) -> WriterWords:
    writer = WriterWords(number, f"{number:032x}")
    said: dict[str, Any] = {"mode": "shared", "started_unix_ns": 100 + number} | facts
    writer.hear(Identity("e", "p", "r", **said))
    for payload in payloads:
        writer.hear(payload)
    return writer


def in_every_order(*writers: WriterWords) -> Projection:
    found = {repr(project(order)): project(order) for order in itertools.permutations(writers)}
    assert len(found) == 1
    return next(iter(found.values()))


def test_the_primary_wins_and_the_others_fill() -> None:
    found = in_every_order(
        words(1, rank=0, config={"lr": 1, "a": 1}, name="zero", group="g"),
        words(2, rank=1, config={"lr": 2, "b": 2}, name="one", notes="of one"),
        words(3, rank=2, primary=True, config={"lr": 3}, tags=("t",)),
    )
    assert found.primary_writer_pk == 3
    assert found.config == {"lr": 3, "a": 1, "b": 2}
    assert found.conflicts == {"lr": [3, 1, 2]}
    assert (found.name, found.notes, found.tags, found.group) == ("zero", "of one", ("t",), "g")
    assert found.started_unix_ns == 101


def test_later_records_of_a_writer_replace_its_earlier_ones() -> None:
    found = in_every_order(
        words(
            1,
            RunRecord(name="new", tags=()),
            ConfigRecord({"lr": 5, "x": [1, 2]}, ("a",)),
            RunRecord(notes="n"),
            rank=0,
            config={"lr": 1, "a": 1},
            name="old",
            tags=("t",),
        ),
        words(2, rank=1, config={"a": 7}, tags=("u",)),
    )
    assert (found.name, found.notes, found.tags) == ("new", "n", ())
    assert found.config == {"lr": 5, "x": [1, 2]}


def test_the_newest_attempt_of_rank_zero_is_primary() -> None:
    found = in_every_order(
        words(1, rank=0, config={"lr": 1}, started_unix_ns=100),
        words(2, rank=0, config={"lr": 2}, started_unix_ns=200),
    )
    assert found.primary_writer_pk == 2
    assert found.config == {"lr": 2}


def test_of_unranked_writers_the_first_is_primary_when_shared_else_the_newest() -> None:
    assert in_every_order(words(1), words(2)).primary_writer_pk == 1
    assert in_every_order(words(1, mode="grouped"), words(2, mode="grouped")).primary_writer_pk == 2


def test_definitions_are_joined_by_rank_and_said_once() -> None:
    loss, acc = MetricRecord("loss", summary=("min",)), MetricRecord("acc", summary=("max",))
    found = in_every_order(words(1, loss, acc, rank=1), words(2, acc, rank=0), words(3, loss, acc, rank=2))
    assert [said["name"] for said in found.definitions] == ["acc", "loss", "acc"]


def test_values_that_look_equal_are_told_apart() -> None:
    found = in_every_order(words(1, rank=0, config={"x": 1}), words(2, rank=1, config={"x": True}))
    assert found.conflicts == {"x": [1, True]}
    nan = float("nan")
    assert (
        in_every_order(words(1, rank=0, config={"x": nan}), words(2, rank=1, config={"x": nan})).conflicts
        == {}
    )

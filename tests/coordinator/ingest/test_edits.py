"""What people and processes say of one run is merged: of each key what was said last, and nothing is lost."""

from __future__ import annotations

import random
import threading
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import sqlalchemy as sa

from runfold.protocol.records import (
    ExitRecord,
    MetricRecord,
    RecordKind,
    RowMap,
)
from runfold.protocol.streams import Heartbeat
from runfold_coordinator.edits.changes import (
    MAX_RUN_BYTES,
    Change,
    RunEdits,
    TooMuchSaidError,
    TransitionError,
)
from runfold_coordinator.edits.stored import edits_of
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.store.edit_tables import run_edits
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.tables import writers
from support.clocked_process import Process
from support.frames import START_NS, Bench, only_run


@pytest.fixture
def bench(each_bench: Bench) -> Bench:
    return each_bench


def editor(bench: Bench) -> RunEdits:
    return RunEdits(bench.store, bench.clock, bench.liveness.clock_offsets)


def edit(bench: Bench, **change: Any) -> RunRow:
    bench.clock.now_s += 1
    editor(bench).edit(only_run(bench.store), Change(**change), by="ann")
    bench.clock.now_s += 1
    return only_run(bench.store)


READERS: WeakKeyDictionary[Store, SummaryReader] = WeakKeyDictionary()


def summary(bench: Bench) -> dict[str, Any]:
    """Return what a reader tells that goes on from its last answer; a new one tells the same."""
    reader = READERS.setdefault(bench.store, SummaryReader(bench.store))
    found = reader.summary(only_run(bench.store))
    assert found == SummaryReader(bench.store).summary(only_run(bench.store))
    return {key: value for key, value in found.items() if not key.startswith("_")}


def test_of_each_key_what_was_said_last_counts(bench: Bench) -> None:
    process = Process(bench)
    process.hello(config={"a": 1, "b": 1, "c": 1}, name="made-up", notes="n", tags=("t",))
    found = edit(
        bench, config={"a": 2, "new": 2}, config_deleted=("b",), fields={"name": "said", "tags": ["x"]}
    )
    assert (found.config, found.name, found.tags, found.notes) == (
        {"a": 2, "c": 1, "new": 2},
        "said",
        ("x",),
        "n",
    )
    process.config({"c": 3})  # another key: the edit stays
    process.run(notes="later")
    found = only_run(bench.store)
    assert (found.config, found.name, found.tags, found.notes) == (
        *({"a": 2, "c": 3, "new": 2}, "said"),
        *(("x",), "later"),
    )
    process.config({"a": 4, "b": 4})
    process.run(name="mine", tags=("y", "z"))
    found = only_run(bench.store)
    assert (found.config, found.name, found.tags) == ({"a": 4, "b": 4, "c": 3, "new": 2}, "mine", ("y", "z"))
    assert edit(bench, config={"a": 5}, add_tags=("w",), remove_tags=("y",)).config["a"] == 5
    assert only_run(bench.store).tags == ("z", "w")
    process.config(delete=("a",))
    assert "a" not in only_run(bench.store).config


def test_what_was_said_before_an_edit_and_comes_after_it_does_not_count(bench: Bench) -> None:
    process = Process(bench)
    process.hello(config={"a": 1})
    process.config({"a": 2, "b": 2}, hold=True)
    process.summary(("set", ("s",), 2), hold=True)
    edit(bench, config={"a": 3}, summary=(("set", ("s",), 3),))
    process.deliver()
    assert only_run(bench.store).config == {"a": 3, "b": 2}
    assert summary(bench)["s"] == 3


@pytest.mark.parametrize("ahead_s", [-600.0, 600.0])
def test_a_clock_that_is_wrong_decides_nothing(bench: Bench, ahead_s: float) -> None:
    process = Process(bench, ahead_s=ahead_s)
    bench.liveness.hear(Heartbeat("n", "h", "b", bench.clock.unix_s() + ahead_s, 5.0, ()))
    process.hello(config={"a": 1})
    process.config({"a": 2, "held": 1}, hold=True)
    edit(bench, config={"a": 3, "held": 3}, summary=(("set", ("s",), 3),))
    process.deliver()
    assert only_run(bench.store).config == {"a": 3, "held": 3}
    process.config({"a": 4})
    process.summary(("set", ("s",), 4))
    assert only_run(bench.store).config == {"a": 4, "held": 3}
    assert summary(bench)["s"] == 4


def test_a_clock_that_is_ahead_does_not_win_over_an_edit_of_what_was_stored(bench: Bench) -> None:
    """No heartbeat has told of the clock: that the record was stored before the edit is enough."""
    process = Process(bench, ahead_s=86_400.0)
    process.hello(config={"a": 1})
    process.config({"a": 2})
    assert edit(bench, config={"a": 3}).config == {"a": 3}
    process.config({"b": 1})
    assert only_run(bench.store).config == {"a": 3, "b": 1}


@pytest.mark.parametrize("ahead_s", [-86_400.0, 86_400.0])
def test_a_deleted_key_stays_away_whatever_the_clock_until_it_is_logged_again(
    bench: Bench, ahead_s: float
) -> None:
    known = Process(bench, ahead_s=ahead_s)
    bench.liveness.hear(Heartbeat("n", "h", "b", bench.clock.unix_s() + ahead_s, 5.0, ()))
    known.hello(mode="shared")
    other = Process(bench, b"2" * 16, host="of-a-clock-that-nobody-knows", ahead_s=max(0.0, ahead_s))
    other.hello(mode="shared")
    for process in (known, other):
        process.log(0, loss=1.0)
        process.log(1, loss=1.0)
    known.log(2, hold=True, loss=1.0)
    edit(bench, summary=(("del", ("loss",)),))
    known.deliver()
    for process in (known, other):
        process.log(3, other=1.0)
        process.log(4, other=1.0)
    assert "loss" not in summary(bench)
    known.log(5, loss=2.0)
    known.log(6, loss=2.0)
    assert "loss" in summary(bench)


def test_edits_of_a_run_with_many_writers_are_small(bench: Bench) -> None:
    sizes = []
    for count in (1, 40):
        for number in range(count):
            rank = Process(bench, number.to_bytes(8, "little") + bytes(8), host=f"h{number}")
            rank.hello(mode="shared", rank=number)
            rank.log(0, loss=1.0)
            rank.log(1, loss=1.0)
            if number % 2:
                rank.say(RecordKind.EXIT, ExitRecord(code=0, runtime_s=1.0).pack())
        edit(bench, config={"a": count}, summary=(("del", ("loss",)), ("set", ("b",), count)))
        with bench.store.transaction() as tx:
            found = tx.connection.execute(sa.select(run_edits.c.said)).scalars().all()
        sizes.append(sum(map(len, found)))
    assert sizes[1] < sizes[0] + 20


def test_what_is_late_of_a_process_that_was_taken_for_dead_counts(bench: Bench) -> None:
    """Nothing below the others' seq is looked at again, but for those that may still send something."""
    lost, others = Process(bench, b"1" * 16), [Process(bench, bytes([50 + n]) * 16) for n in range(2)]
    for process in (lost, *others):
        process.hello(mode="shared")
    lost.log(0, loss=1.0)
    with bench.store.transaction() as tx:
        tx.connection.execute(sa.update(writers).where(writers.c.writer_pk == 1).values(state="crashed"))
    for step in range(20):
        for process in others:
            process.log(step, other=1.0)
    edit(bench, summary=(("del", ("loss",)),))
    assert "loss" not in summary(bench)
    lost.log(1, loss=2.0)
    lost.log(2, rest=1.0)
    assert summary(bench)["loss"] == 2.0


def test_a_restarted_process_says_nothing_new(bench: Bench) -> None:
    said: dict[str, Any] = {
        "config": {"a": 1, "b": 1},
        "notes": "n",
        "tags": ("t",),
        "group": "g",
        "name": "x",
    }
    Process(bench).hello(**said)
    edit(
        bench, config={"a": 2}, config_deleted=("b",),
        fields={"notes": "m", "tags": ["u"], "group": "h", "name": "y", "job_type": "train"},
    )  # fmt: skip
    edit(bench, config={"a": 3})  # an edit of an edit remembers what the processes had said
    Process(bench, b"2" * 16).hello(**said)
    found = only_run(bench.store)
    assert (found.config, found.notes, found.tags) == ({"a": 3}, "m", ("u",))
    assert (found.group, found.name, found.job_type) == ("h", "y", "train")
    said["config"] = {"a": 9}
    Process(bench, b"3" * 16).hello(**(said | {"notes": "new"}))
    found = only_run(bench.store)
    assert (found.config["a"], found.notes, found.name) == (9, "new", "y")


def test_the_same_is_found_by_an_ingest_that_starts_anew(bench: Bench) -> None:
    process = Process(bench)
    process.hello(config={"a": 1, "b": 1})
    edit(bench, config={"a": 2}, fields={"name": "said"})
    process.config({"b": 2})
    before = only_run(bench.store)
    again = Bench(bench.store)
    again.clock = bench.clock
    process.bench = again
    again._next = bench._next
    process.config({"c": 1})
    found = only_run(bench.store)
    assert (found.config, found.name) == (before.config | {"c": 1}, "said")


def test_the_summary_is_merged_with_what_the_process_sets_and_logs(bench: Bench) -> None:
    process = Process(bench)
    process.hello()
    process.log(0, loss=1.0, acc=0.5)
    process.summary(("set", ("best",), 1), ("set", ("own",), 1))
    edit(bench, summary=(("set", ("acc",), 0.9), ("set", ("best",), 2), ("del", ("loss",))))
    process.log(1, acc=0.6)
    process.summary(("set", ("own",), 2))
    assert summary(bench) == {"acc": 0.9, "best": 2, "own": 2}  # set by hand stays, whatever is logged
    process.log(2, loss=0.25)
    process.log(3, hold=True, loss=0.25)
    process.deliver()
    assert summary(bench)["loss"] == 0.25  # logged again, it is there again
    process.summary(("set", ("best",), 3), ("del", ("acc",)))
    process.say(RecordKind.EXIT, ExitRecord(code=0, runtime_s=1.0).pack())
    found = summary(bench)
    assert found["best"] == 3
    assert found.get("acc") != 0.9
    edit(bench, summary=(("set", ("nested", "a"), 1), ("set", ("nested", "b"), None)))
    assert summary(bench)["nested"] == {"a": 1, "b": None}
    edit(bench, summary=(("del", ("nested", "a")),))
    assert summary(bench)["nested"] == {"b": None}
    edit(bench, summary=(("del", ("nested",)),))
    assert "nested" not in summary(bench)


def test_of_a_deleted_subtree_comes_back_what_is_logged_again(bench: Bench) -> None:
    process = Process(bench)
    process.hello()
    process.say(RecordKind.METRIC, MetricRecord(name="y.b", summary=("max",)).pack())
    both = ((("y", "a"), 1.0), (("y", "b"), 2.0))
    process.say(RecordKind.ROW_MAP, RowMap(0, both).pack())
    process.log(1, other=1.0)
    edit(bench, summary=(("del", ("y",)), ("set", ("hand",), {"p": 1})))
    edit(bench, summary=(("del", ("hand",)),))
    assert summary(bench).keys() == {"other"}
    process.say(RecordKind.ROW_MAP, RowMap(2, both[1:]).pack())
    process.log(3, other=1.0)
    process.log(4, other=1.0)
    assert summary(bench) == {"other": 1.0, "y": {"b": {"max": 2.0}}}


def test_a_row_that_was_held_back_does_not_bring_a_deleted_key_back(bench: Bench) -> None:
    process = Process(bench)
    process.hello()
    process.log(0, loss=1.0)
    process.log(1, hold=True, loss=0.5)
    process.log(2, hold=True, other=1.0)
    edit(bench, summary=(("del", ("loss",)),))
    process.deliver()
    process.log(3, other=2.0)
    process.log(4, other=3.0)
    assert "loss" not in summary(bench)
    assert "other" in summary(bench)


def test_a_run_of_many_writers_is_edited(bench: Bench) -> None:
    ranks = [Process(bench, bytes([65 + rank]) * 16, host=f"h{rank}") for rank in range(3)]
    for rank, process in enumerate(ranks):
        process.hello(mode="shared", rank=rank, world_size=3, config={"lr": rank, "same": 1})
        process.log(0, loss=float(rank))
    assert only_run(bench.store).config_conflicts == {"lr": [0, 1, 2]}
    found = edit(bench, config={"lr": 7}, summary=(("set", ("loss",), 42), ("set", ("x",), 1)))
    assert (found.config["lr"], found.config_conflicts) == (7, {})
    for process in ranks:
        process.log(1, loss=0.0)
    assert (summary(bench)["loss"], summary(bench)["x"]) == (42, 1)
    ranks[2].config({"lr": 8})  # not the primary, but the only one that spoke since
    assert only_run(bench.store).config["lr"] == 8


def test_edits_that_are_said_anew_leave_no_trace(bench: Bench) -> None:
    Process(bench).hello(config={"a": 1})
    run = edit(bench, config={"a": 2, "b": 2}, summary=(("set", ("x", "y"), 1),))
    for value in range(50):
        edit(bench, config={"a": value}, config_deleted=("b",), summary=(("set", ("x",), value),))
    with bench.store.transaction() as tx:
        (left,) = edits_of(tx.connection, [run.run_pk])[run.run_pk]
    assert (left.config, left.config_before, left.config_deleted) == ({"a": 49}, {"a": 1}, ("b",))
    assert left.summary == (("set", ("x",), 49),)


def test_more_than_the_limit_changes_nothing(bench: Bench) -> None:
    Process(bench).hello()
    for key in "abcd":
        edit(bench, config={key: "x" * (MAX_RUN_BYTES // 5)})
    before = only_run(bench.store)
    with pytest.raises(TooMuchSaidError):
        edit(bench, config={"e": "x" * (MAX_RUN_BYTES // 4)})
    assert only_run(bench.store).config.keys() == before.config.keys()


def test_what_is_said_of_a_state_holds_until_another_process_joins(bench: Bench) -> None:
    process = Process(bench)
    process.hello()
    with pytest.raises(TransitionError):
        editor(bench).set_state(only_run(bench.store), "pending", by="ann")
    process.say(RecordKind.EXIT, ExitRecord(code=3).pack())
    assert only_run(bench.store).state == "failed"
    editor(bench).set_state(only_run(bench.store), "pending", by="ann")
    process.log(1, loss=1.0)  # late words of the one that failed
    process.say(RecordKind.EXIT, ExitRecord(code=3).pack())
    bench.board.tick()
    found = only_run(bench.store)
    assert (found.state, found.reason, found.ended_unix_ns) == ("pending", "set to pending by ann", None)
    bench.clock.now_s += 1
    Process(bench, b"2" * 16).hello()
    bench.board.tick()
    assert (only_run(bench.store).state, only_run(bench.store).reason) == ("running", "")


def test_a_run_that_was_made_is_joined_by_its_process(bench: Bench) -> None:
    change = Change(fields={"name": "planned", "tags": ["q"]}, config={"lr": 1, "queue": "fast"})
    assert editor(bench).create("local", "demo", "run1", "pending", change, "ann")
    assert not editor(bench).create("local", "demo", "run1", "pending", Change(), "ann")
    bench.clock.now_s += 5
    Process(bench).hello(config={"lr": 2}, name="made-up", sweep_id="s1")
    bench.board.tick()
    found = only_run(bench.store)
    assert (found.state, found.name, found.tags, found.sweep) == ("running", "planned", ("q",), "s1")
    assert found.config == {"lr": 2, "queue": "fast"}


def test_edits_and_records_at_once_lose_nothing(bench: Bench) -> None:
    process = Process(bench)
    process.hello(config={})
    run, edits = only_run(bench.store), editor(bench)
    failures: list[BaseException] = []

    def edit_on() -> None:
        try:
            for number in range(40):
                edits.edit(run, Change(config={f"e{number}": number}), by="ann")
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=edit_on)
    thread.start()
    for number in range(40):
        process.config({f"p{number}": number})
    thread.join()
    assert not failures
    wanted = {f"{who}{number}": number for who in "ep" for number in range(40)}
    assert only_run(bench.store).config == wanted


@pytest.mark.parametrize("seed", range(20))
def test_any_interleaving_ends_with_the_last_word_of_each_key(sqlite_store: Store, seed: int) -> None:
    """The oracle: a dict to which every word is applied in the order of saying, whenever it is delivered."""
    chance = random.Random(seed)
    bench = Bench(sqlite_store)
    process = Process(bench)
    process.hello(config={"a": 0})
    config: dict[str, Any] = {"a": 0}
    by_hand: dict[str, Any] = {}
    for number in range(1, 40):
        bench.clock.now_s += 1
        key, word = (
            chance.choice("abc"),
            chance.choice(["config", "summary", "edit", "edit summary", "del", "deliver"]),
        )
        if word == "config":
            process.config({key: number}, hold=True)
            config[key] = number
        elif word == "summary":
            process.summary(("set", (key,), number), hold=True)
            by_hand[key] = number
        elif word == "edit":
            edit(bench, config={key: number})
            config[key] = number
        elif word == "edit summary":
            edit(bench, summary=(("set", (key,), number),))
            by_hand[key] = number
        elif word == "del":
            edit(bench, config_deleted=(key,))
            config.pop(key, None)
        elif process.held:
            process.deliver()
        assert summary(bench).keys() <= set("abc")
    if process.held:
        process.deliver()
    assert only_run(bench.store).config == config
    assert summary(bench) == by_hand


def test_an_edit_is_one_row_of_its_table(bench: Bench) -> None:
    Process(bench).hello()
    edit(bench, fields={"notes": "n"})
    rows = bench.store.fetch(sa.select(run_edits))
    assert [(row.by, row.t_ns) for row in rows] == [("ann", START_NS + 1001 * 10**9)]

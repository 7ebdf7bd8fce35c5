"""Alerts over both databases: raised once, told in time, neither lost nor doubled by failures and restarts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from runfold.protocol.records import AlertRecord, ExitRecord, RecordKind
from runfold.protocol.values import pack_value
from runfold_coordinator.alerts.back_off import GIVE_UP_AFTER_S, Allowance, is_given_up, retry_delay_s
from runfold_coordinator.alerts.board import LOOK_EVERY_S, AlertBoard
from runfold_coordinator.alerts.config_file import ConfigFile
from runfold_coordinator.alerts.dispatcher import WORKERS_PER_RECEIVER, Dispatcher
from runfold_coordinator.alerts.outbox import Outbox
from runfold_coordinator.readers.alerts_reader import AlertsReader
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.errors import StoreUnavailableError
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker
from support.processes import until
from support.webhooks import WebhookServer

RECEIVER = """
[[receiver]]
name = "{name}"
kind = "webhook"
url = "http://127.0.0.1:{port}/{name}"
allow_http = true
allow_private = true
timeout_s = 5
{more}
"""


def receiver(name: str, port: int = 9, more: str = "") -> str:
    return RECEIVER.format(name=name, port=port, more=more)


def rule(name: str, when: str, more: str = "", to: str = "ops") -> str:
    return f'[[rule]]\nname = "{name}"\nwhen = {when}\nreceivers = ["{to}"]\n{more}\n'


class Desk:
    """A board over a bench, with its file; `look()` is what its thread does a second later."""

    def __init__(self, bench: Bench, path: Path, text: str) -> None:
        self.bench, self.store, self.clock, self.path = bench, bench.store, bench.clock, path
        path.write_text(text)
        self.restart()

    def restart(self) -> None:
        self.file = ConfigFile(self.path, {})
        self.board = AlertBoard(self.store, self.clock, self.file)
        self.store.writing._on_touched[:] = [self.board.note]

    def look(self, after_s: float = LOOK_EVERY_S) -> list[dict[str, Any]]:
        self.clock.now_s += after_s
        self.board.turn()
        return self.raised()

    def raised(self) -> list[dict[str, Any]]:
        return AlertsReader(self.store).list_alerts(limit=1000).alerts[::-1]

    def titles(self, after_s: float = LOOK_EVERY_S) -> list[str]:
        return [each["title"] for each in self.look(after_s)]


@pytest.fixture
def make_desk(bench: Bench, tmp_path: Path) -> Any:
    return lambda text="": Desk(bench, tmp_path / "alerts.toml", text)


def alert(title: str, level: str = "INFO", wait_s: float = 60.0) -> tuple[int, bytes]:
    return RecordKind.ALERT, AlertRecord(title, "text", level, wait_s).pack()


def speaker(bench: Bench, name: bytes = b"A", run: str = "local/demo/run1", **facts: Any) -> Speaker:
    found = Speaker(name * 16, run)
    bench.feed(found.hello(**({"mode": "shared", "rank": 0} | facts)))
    return found


# Run.alert()


def test_what_a_process_says_is_raised_once_whatever_comes_twice(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(receiver("ops"))
    said = speaker(bench, label="rank0")
    frame = said.others(alert("first", "ERROR"), alert("second"))
    bench.feed(frame)
    bench.feed(frame)
    found = desk.look()
    assert [each["title"] for each in found] == ["first", "second"]
    assert (found[0]["source"], found[0]["level"], found[0]["rank"]) == ("run", "ERROR", 0)
    assert [each["receiver"] for each in found[0]["deliveries"]] == ["ops"]
    desk.restart()
    bench.feed(said.others(alert("third")))
    assert desk.titles() == ["first", "second", "third"]


def test_alerts_that_came_while_nobody_looked_are_raised_after_a_restart(
    make_desk: Any, bench: Bench
) -> None:
    desk = make_desk()
    desk.look()
    desk.store.writing._on_touched.clear()
    bench.feed(speaker(bench).others(alert("unseen")))
    assert desk.titles() == []
    desk.restart()
    assert desk.titles() == ["unseen"]
    assert desk.raised()[0]["deliveries"] == []  # nobody to tell: kept and shown all the same


def test_one_alert_of_a_title_is_told_within_its_wait(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(receiver("ops"))
    ranks = [speaker(bench, bytes([65 + rank]), rank=rank) for rank in range(3)]
    for said in ranks:
        bench.feed(said.others(alert("diverged"), alert("other", wait_s=0.0), alert("other", wait_s=0.0)))
    bench.feed(speaker(bench, b"Z", "local/demo/run2").others(alert("diverged")))
    found = desk.look()
    told = [each for each in found if not each["suppressed"]]
    assert [each["title"] for each in found].count("diverged") == 4
    assert sorted(each["title"] for each in told) == ["diverged"] * 2 + ["other"] * 6
    assert all(not each["deliveries"] for each in found if each["suppressed"])


def test_levels_and_rules_say_who_is_told_of_what_a_process_says(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(
        receiver("ops")
        + receiver("pager", more='min_level = "ERROR"')
        + receiver("rules", more="run_alerts = false")
    )
    said = speaker(bench)
    bench.feed(said.others(alert("a"), alert("b", "ERROR")))
    told = [[each["receiver"] for each in found["deliveries"]] for found in desk.look()]
    assert told == [["ops"], ["ops", "pager"]]
    desk.path.write_text(
        receiver("ops") + receiver("rules") + rule("who", '{ alert = "ERROR", project = "demo" }', to="rules")
    )
    bench.feed(said.others(alert("c"), alert("d", "ERROR")))
    told = [[each["receiver"] for each in found["deliveries"]] for found in desk.look(5.0)[2:]]
    assert told == [[], ["rules"]]


def test_many_alerts_are_taken_a_few_at_a_time(
    make_desk: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runfold_coordinator.alerts.run_alerts.RUN_ALERTS_AT_ONCE", 20)
    desk = make_desk()
    said = speaker(bench)
    bench.feed(said.others(*[alert(f"t{number}") for number in range(45)]))
    assert [len(desk.look()) for _ in range(3)] == [20, 40, 45]


# rules


def test_a_state_is_told_once_until_it_was_another(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(
        receiver("ops") + rule("ended", '{ state = ["failed", "crashed"] }', "wait_duration_s = 0")
    )
    said = speaker(bench)
    assert desk.titles() == []
    bench.feed(said.others((RecordKind.EXIT, ExitRecord(3, "sys.exit").pack())))
    [found] = desk.look()
    assert (found["title"], found["level"]) == ("ended", "WARN")
    assert found["text"] == "local/demo/run1: failed: exit code 3"
    desk.restart()
    desk.look()
    again = speaker(bench, b"B")  # a second attempt: it runs, and fails again
    assert len(desk.look()) == 1
    bench.feed(again.others((RecordKind.EXIT, ExitRecord(4, "sys.exit").pack())))
    assert len(desk.look()) == 2


def test_a_dead_rank_is_told_while_its_peers_go_on(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(
        receiver("ops") + rule("rank", '{ rank_state = ["failed"] }', 'text = "{rank} of {run}: {reason}"')
    )
    speaker(bench, b"A", rank=0)
    said = speaker(bench, b"B", rank=1)
    assert desk.titles() == []
    failed = ExitRecord(1, "exception", "ValueError", "Traceback\nValueError: x\n")
    bench.feed(said.others((RecordKind.EXIT, failed.pack())))
    [found] = desk.look()
    assert found["text"] == "1 of run1: ValueError: x"
    assert len(desk.look()) == 1


def test_runs_that_were_over_before_the_rule_raise_nothing(make_desk: Any, bench: Bench) -> None:
    said = speaker(bench)
    bench.feed(said.others((RecordKind.EXIT, ExitRecord(3, "sys.exit").pack())))
    with bench.store.transaction() as tx:  # it ended a month ago, by every clock
        old = bench.clock.unix_s() - 30 * 86400
        tx.connection.execute(sa.update(t.runs).values(updated_unix_s=old, ended_unix_ns=int(old * 1e9)))
    desk = make_desk(receiver("ops") + rule("ended", '{ state = "failed" }'))
    assert desk.titles() == []
    desk.board.note(
        {run.run_pk: False for run in bench.store.list_runs()}
    )  # somebody reads it: it is touched
    assert desk.titles() == []


def test_what_was_told_is_not_told_again_and_what_was_missed_is(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(receiver("ops") + rule("ended", '{ state = "failed" }', "wait_duration_s = 0"))
    desk.look()
    desk.store.writing._on_touched.clear()  # the server dies between the commit and the look
    bench.feed(speaker(bench).others((RecordKind.EXIT, ExitRecord(3, "sys.exit").pack())))
    desk.restart()
    assert desk.titles() == ["ended"]
    for _ in range(3):
        desk.restart()
        assert desk.titles() == ["ended"]


def test_a_verdict_comes_and_goes(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(receiver("ops") + rule("hangs", "{ stalled = true }", "wait_duration_s = 0"))
    speaker(bench)

    def judge(stall: dict[str, Any] | None) -> list[str]:
        with bench.store.transaction() as tx:
            changes = {"stalled": stall is not None, "verdicts": pack_value({"stall": stall})}
            tx.connection.execute(sa.update(t.runs).values(**changes))
            tx.touch(bench.store.list_runs()[0].run_pk)
        return desk.titles()

    stall = {"since_unix_s": 1.0, "step": 5, "waiting_for": [{"rank": 1, "label": "rank1", "why": "no step"}]}
    assert desk.titles() == []
    assert judge(stall) == ["hangs"]
    assert "rank 1" in desk.raised()[0]["text"]
    assert judge(stall) == ["hangs"]
    assert judge(None) == ["hangs"]
    assert judge(stall) == ["hangs", "hangs"]


def test_lost_records_are_told(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(
        receiver("ops") + rule("gaps", "{ gaps = true }") + rule("letters", "{ dead_letters = true }")
    )
    said = speaker(bench)
    assert desk.titles() == []
    bench.feed(said.gap(7))
    assert desk.titles() == ["gaps"]
    assert "7 records" in desk.raised()[0]["text"]


def test_a_metric_of_one_process(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(
        receiver("ops")
        + rule("high", '{ metric = "loss", op = ">", value = 5, for_steps = 2 }', "wait_duration_s = 0")
        + rule("nan", '{ metric = "loss", not_finite = true, each_rank = true }', "wait_duration_s = 0")
    )
    said = speaker(bench)
    bench.feed(said.rows({"loss": [1.0, 9.0, 1.0]}))
    assert desk.titles() == []
    bench.feed(said.rows({"loss": [9.0]}))
    assert desk.titles() == []
    bench.feed(said.rows({"loss": [9.0, 9.0]}))
    assert desk.titles() == ["high"]
    assert desk.raised()[0]["text"] == "local/demo/run1: loss is 9 at step 4 (> 5) for 2 values"
    bench.feed(said.rows({"loss": [9.0, float("nan"), 2.0]}))
    assert desk.titles() == ["high", "nan"]
    bench.feed(said.rows({"loss": [float("inf")]}))
    assert desk.titles() == ["high", "nan", "nan"]
    desk.restart()  # what is past in a run that was there before is no news
    assert desk.titles() == ["high", "nan", "nan"]


def test_a_metric_is_reduced_at_steps_that_all_ranks_have_passed(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(receiver("ops") + rule("high", '{ metric = "loss", op = ">", value = 5 }'))
    ranks = [speaker(bench, bytes([65 + rank]), rank=rank) for rank in range(2)]
    bench.feed(ranks[0].rows({"loss": [9.0, 9.0]}, steps=[0, 1]), ranks[1].rows({"loss": [0.0]}, steps=[0]))
    assert desk.titles() == []  # step 0: 4.5; step 1 is not over
    bench.feed(ranks[1].rows({"loss": [0.0]}, steps=[1]))
    assert desk.titles() == []
    bench.feed(ranks[0].rows({"loss": [9.0]}, steps=[2]))
    assert desk.titles() == []
    assert desk.titles(after_s=40.0) == []  # nothing new: rank 1 is still waited for when it next logs
    bench.feed(ranks[0].rows({"loss": [9.0]}, steps=[3]))
    assert desk.titles() == ["high"]  # rank 1 logs nothing for so long that nobody waits for it
    assert "step 2" in desk.raised()[0]["text"]


def test_no_data_is_told_after_its_time_and_again_after_data(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(
        receiver("ops") + rule("quiet", '{ metric = "loss", no_data_s = 60 }', "wait_duration_s = 0")
    )
    said = speaker(bench)
    bench.feed(said.rows({"loss": [1.0]}))
    assert desk.titles() == [] and desk.board._metrics.has_timers
    assert desk.titles(after_s=59.0) == []
    assert desk.titles(after_s=2.0) == ["quiet"]
    assert desk.titles(after_s=300.0) == ["quiet"]
    bench.feed(said.rows({"other": [1.0]}))  # not what was asked for
    assert desk.titles() == ["quiet"]
    bench.feed(said.rows({"loss": [1.0]}))
    assert desk.titles() == ["quiet"]
    assert desk.titles(after_s=61.0) == ["quiet", "quiet"]
    bench.feed(said.others((RecordKind.EXIT, ExitRecord(0).pack())))
    desk.look()
    assert not desk.board._metrics.has_timers


def test_what_a_metric_did_is_not_told_again_when_late_records_of_the_run_come(
    make_desk: Any, bench: Bench
) -> None:
    desk = make_desk(
        receiver("ops") + rule("nan", '{ metric = "loss", not_finite = true }', "wait_duration_s = 0")
    )
    desk.look()
    ranks = [speaker(bench, bytes([65 + rank]), rank=rank) for rank in range(2)]
    bench.feed(ranks[0].rows({"loss": [float("nan"), 1.0]}), ranks[1].rows({"loss": [1.0, 1.0]}))
    assert desk.titles() == ["nan"]
    for said in ranks:
        bench.feed(said.others((RecordKind.EXIT, ExitRecord(0).pack())))
    assert desk.titles() == ["nan"]
    for _ in range(3):
        desk.board.note({bench.store.list_runs()[0].run_pk: False})
        assert desk.titles() == ["nan"]
    speaker(bench, b"Z", rank=0)  # it goes on with a second attempt
    assert desk.titles() == ["nan"]


def test_what_agents_see_of_their_nodes_is_nobodys_run(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(receiver("ops") + rule("quiet", '{ metric = "loss", no_data_s = 60 }'))
    speaker(bench, run="_nodes/node/boot", role="node")
    desk.look()
    assert desk.titles(after_s=100.0) == []


def test_a_wait_that_is_no_number_holds_up_nobody(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(receiver("ops"))
    odd = [alert(f"t{number}", wait_s=wait) for number, wait in enumerate([float("nan"), float("inf"), -1.0])]
    bench.feed(speaker(bench).others(*odd))
    assert desk.titles() == ["t0", "t1", "t2"]


def test_a_run_that_makes_a_look_fail_keeps_no_other_from_being_told(
    make_desk: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = make_desk(receiver("ops") + rule("ended", '{ state = "failed" }'))
    for number, run in enumerate(("local/demo/bad", "local/demo/good")):
        said = speaker(bench, bytes([number + 1]), run)
        bench.feed(said.others(alert(run), (RecordKind.EXIT, ExitRecord(3, "sys.exit").pack())))
    from runfold_coordinator.alerts import board

    def failing(*arguments: Any) -> Any:
        alert = made(*arguments)
        assert not alert.text.startswith("local/demo/bad"), "a fault of ours"
        return alert

    made = board.alert_of
    monkeypatch.setattr(board, "alert_of", failing)
    assert sorted(desk.titles()) == ["ended", "local/demo/bad", "local/demo/good"]
    assert "rules were not looked at" in caplog.text


def test_a_look_whose_transaction_fails_is_made_good(
    make_desk: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make_desk(receiver("ops") + rule("nan", '{ metric = "loss", not_finite = true }'))
    said = speaker(bench)
    desk.look()
    bench.feed(said.rows({"loss": [float("nan"), 1.0]}))
    with monkeypatch.context() as patched:
        patched.setattr(desk.store.writing, "transaction", _away)
        with pytest.raises(StoreUnavailableError):
            desk.look()
    assert desk.titles() == ["nan"]
    assert desk.titles() == ["nan"]


def _away() -> Any:
    raise StoreUnavailableError("the database is away")


def test_runs_at_rest_are_not_read(make_desk: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = make_desk(receiver("ops") + rule("ended", '{ state = "failed" }'))
    for number in range(10):
        speaker(bench, bytes([number + 1]), f"local/demo/run{number}")
    desk.look()
    read: list[int] = []
    facts = desk.board._facts.read
    monkeypatch.setattr(desk.board._facts, "read", lambda pks: read.extend(pks) or facts(pks))
    for _ in range(5):
        desk.look(after_s=10.0)
    assert read == []
    bench.feed(Speaker(bytes([1]) * 16, "local/demo/run0", 1).rows({"loss": [1.0]}))
    desk.look()
    assert len(read) == 1


def test_causes_of_rules_that_are_gone_are_forgotten(make_desk: Any, bench: Bench) -> None:
    text = receiver("ops") + rule("ended", '{ state = "failed" }')
    desk = make_desk(text)
    bench.feed(speaker(bench).others((RecordKind.EXIT, ExitRecord(3, "sys.exit").pack())))
    assert desk.titles() == ["ended"]
    count = sa.select(sa.func.count()).select_from(t.alert_causes)
    assert desk.store.fetch(count)[0][0] == 1
    desk.path.write_text(receiver("ops"))
    desk.look(5.0)
    assert desk.store.fetch(count)[0][0] == 0


# delivery


@pytest.fixture
def hooks() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


def dispatcher(desk: Desk) -> Dispatcher:
    return Dispatcher(Outbox(desk.store), desk.clock, lambda: desk.file.current, jitter=lambda: 0.5)


def settle(found: Dispatcher) -> int:
    """Begin what is due, and wait until it is settled."""
    begun = found.turn()
    until(lambda: not found._in_flight)
    return begun


def test_a_delivery_that_fails_is_tried_again_with_the_same_id(make_desk: Any, bench: Bench) -> None:
    with WebhookServer(503, 500) as hooks:
        desk = make_desk(receiver("ops", hooks.port))
        bench.feed(speaker(bench).others(alert("once")))
        desk.look()
        sender = dispatcher(desk)
        assert settle(sender) == 1
        [waiting] = desk.raised()[0]["deliveries"]
        assert (waiting["state"], waiting["attempts"], waiting["error"]) == ("waiting", 1, "answered 503")
        assert settle(sender) == 0  # not yet
        desk.clock.now_s += 3
        assert settle(sender) == 1
        desk.clock.now_s += 6
        assert settle(dispatcher(desk)) == 1  # another process, as after a restart
        [told] = desk.raised()[0]["deliveries"]
        assert (told["state"], told["attempts"], told["error"]) == ("delivered", 3, None)
        assert [each.document["attempt"] for each in hooks.received] == [1, 2, 3]
        assert len({each.delivery for each in hooks.received}) == 1
        desk.clock.now_s += 7200
        assert settle(sender) == 0


def test_after_a_day_it_is_given_up(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(receiver("ops", 9))
    bench.feed(speaker(bench).others(alert("once")))
    desk.look()
    sender = dispatcher(desk)
    for _ in range(60):
        settle(sender)
        desk.clock.now_s += 3600
    [found] = desk.raised()[0]["deliveries"]
    assert found["state"] == "given_up" and 30 > found["attempts"] > 20


def test_a_receiver_that_hangs_holds_up_no_other(make_desk: Any, bench: Bench, hooks: WebhookServer) -> None:
    with WebhookServer(*["hang"] * 20) as hanging:
        desk = make_desk(receiver("slow", hanging.port) + receiver("ops", hooks.port))
        said = speaker(bench)
        bench.feed(said.others(*[alert(f"t{number}") for number in range(10)]))
        desk.look()
        sender = dispatcher(desk)
        until(lambda: (sender.turn(), len(hooks.received) == 10)[1], limit_s=9)
        assert len(hanging.received) <= WORKERS_PER_RECEIVER
        sender.stop(timeout_s=0)


def test_the_cap_of_a_receiver_lets_others_pass(make_desk: Any, bench: Bench, hooks: WebhookServer) -> None:
    desk = make_desk(receiver("ops", hooks.port, "per_minute = 3") + receiver("more", hooks.port))
    said = speaker(bench)
    bench.feed(said.others(*[alert(f"t{number}") for number in range(110)]))
    desk.look()
    sender = dispatcher(desk)
    for _ in range(40):
        settle(sender)
    paths = [each.path for each in hooks.received]
    assert (paths.count("/ops"), paths.count("/more")) == (3, 30)
    desk.clock.now_s += 20
    settle(sender)
    assert [each.path for each in hooks.received].count("/ops") == 4


def test_a_receiver_that_left_the_file_is_given_up(make_desk: Any, bench: Bench) -> None:
    desk = make_desk(receiver("ops"))
    bench.feed(speaker(bench).others(alert("once")))
    desk.look()
    desk.path.write_text(receiver("others"))
    desk.look(5.0)
    settle(dispatcher(desk))
    [found] = desk.raised()[0]["deliveries"]
    assert found["state"] == "given_up" and "no such receiver" in found["error"]


def test_a_clock_that_went_back_keeps_nothing_waiting(
    make_desk: Any, bench: Bench, hooks: WebhookServer
) -> None:
    desk = make_desk(receiver("ops", hooks.port))
    bench.feed(speaker(bench).others(alert("once")))
    desk.clock.now_s += 10 * 86400
    desk.look()
    desk.clock.now_s -= 10 * 86400
    assert settle(dispatcher(desk)) == 1


def test_pauses_double_to_an_hour_and_a_day_is_the_end() -> None:
    assert [retry_delay_s(attempts, 0.5) for attempts in (1, 2, 3, 12, 1000)] == [2, 4, 8, 3600, 3600]
    assert 1.5 <= retry_delay_s(1, 0.0) < retry_delay_s(1, 1.0) <= 2.5
    assert retry_delay_s(1, 0.5, asked_s=90) == 90
    assert retry_delay_s(1, 0.5, asked_s=1e9) == 3600
    assert not is_given_up(0.0, GIVE_UP_AFTER_S) and is_given_up(0.0, GIVE_UP_AFTER_S + 1)


def test_an_allowance_refills_evenly() -> None:
    allowance = Allowance.full(60, 0.0)
    for _ in range(60):
        assert allowance.has_any(0.0)
        allowance.take()
    assert not allowance.has_any(0.5)
    assert allowance.has_any(1.0)


def test_commits_are_told_to_the_board_after_they_are_durable(bench: Bench) -> None:
    heard: list[dict[int, bool]] = []
    bench.store.writing.on_touched(lambda touched: heard.append(dict(touched)))
    with pytest.raises(RuntimeError), bench.store.transaction() as tx:
        tx.touch(1)
        raise RuntimeError("rolled back")
    assert heard == []
    inside = threading.Event()
    with bench.store.transaction() as tx:
        tx.touch(1, with_alerts=True)
        tx.touch(1)
        assert not heard
        inside.set()
    assert inside.is_set() and heard == [{1: True}]


def test_a_store_that_was_closed_is_not_written(make_desk: Any, bench: Bench, store: Store) -> None:
    with WebhookServer("hang") as hanging:
        desk = make_desk(receiver("ops", hanging.port))
        bench.feed(speaker(bench).others(alert("once")))
        desk.look()
        sender = dispatcher(desk)
        assert sender.turn() == 1
        until(lambda: hanging.received)
        sender.stop(timeout_s=0)
    until(lambda: not sender._in_flight)
    assert desk.raised()[0]["deliveries"][0]["attempts"] == 0  # due still, for the next process

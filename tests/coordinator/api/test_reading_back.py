"""What writers said comes back through the HTTP API and the client, value by value."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pandas
import pytest

import runfold.api
from coordinator.api.asgi import AsgiClient
from coordinator.readers.stored_run import Said, StoredRun
from runfold.api import Api, GroupNotFoundError, RequestError, RunNotFoundError
from runfold.api.connection import Connection
from runfold.errors import CommError
from runfold_coordinator.api import parameters, table_answers
from runfold_coordinator.store.store import Store


def shared_run(store: Store, ranks: int = 3, steps: int = 20, **run: Any) -> StoredRun:
    stored = StoredRun(store, **run)
    for rank in range(ranks):
        said = Said(rank, started_s=rank)
        for step in range(steps):
            said.log({"loss": float(rank + step), "only": rank} if rank else {"loss": float(step)}, step=step)
        said.exit()
        stored.deliver(said)
    return stored


def test_a_run_is_read_with_everything_it_said(store: Store, api: Api) -> None:
    stored = StoredRun(store, "r1")
    said = Said(mode="grouped", run_id="r1", name="calm", notes="n", tags=("a",), job_type="train", fold=2,
                config={"lr": 0.1, "_wandb": {}, "deep": {"x": [1, None]}})  # fmt: skip
    said.define("acc", summary=("max",))
    said.log({"acc": 0.5, "big": 10**30, "flag": True, "nested": {"a": 1}, "text": "x"})
    said.log({"acc": 0.25, "lost": math.nan})
    said.exit()
    stored.deliver(said)
    run = api.run("e/p/r1")
    assert (run.id, run.name, run.entity, run.project, run.state) == ("r1", "calm", "e", "p", "finished")
    assert (run.tags, run.notes, run.job_type, run.fold, run.group) == (["a"], "n", "train", 2, None)
    assert run.path == ["e", "p", "r1"]
    assert run.url.endswith("/e/p/runs/r1")
    assert run.config == {"lr": 0.1, "deep": {"x": [1, None]}}
    assert "_wandb" in run.rawconfig
    assert run.summary["acc"]["max"] == run.summary.acc.max == 0.5
    assert math.isnan(run.summary_metrics["lost"])
    assert run.summary["big"] == 10**30
    assert run.summary["nested"]["a"] == run.summary.nested.a == 1
    assert run.lastHistoryStep == 1
    assert isinstance(run.history_line_count, int)
    assert run.history_keys["keys"]["acc"] == {"typeCounts": [{"type": "number"}]}
    assert run.created_at.endswith("Z")
    assert (run.read_only, run.user, run.system_metrics) == (False, None, {})
    assert run.definitions()[0]["name"] == "acc"
    first, second = list(run.scan_history())
    assert first["big"] == 10**30
    assert first["flag"] is True
    assert first["nested"] == {"a": 1}
    assert isinstance(first["_step"], int)
    assert math.isnan(second["lost"])


def test_history_of_ranks_is_reduced_with_its_statistics(store: Store, api: Api) -> None:
    shared_run(store)
    run = api.run("e/p/r")
    rows = run.history(keys=["loss"], pandas=False, stats=True)
    assert len(rows) == 20
    assert rows[4]["loss"] == rows[4]["loss:mean"] == 5.0
    assert (rows[4]["loss:min"], rows[4]["loss:max"], rows[4]["loss:count"]) == (4.0, 6.0, 3)
    assert (rows[4]["loss:argmin"], rows[4]["loss:argmax"]) == (0, 2)
    assert rows[4]["loss:std"] == 1.0
    frame = run.history(keys=["loss"])
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["_step", "loss"]
    assert frame["loss"].tolist() == [1.0 + step for step in range(20)]
    assert {"_step", "_timestamp", "_runtime", "loss", "only"} <= set(run.history().columns)
    assert run.history(keys=["loss"], pandas=False, rank=2)[0]["loss"] == 2.0
    assert run.history(stream="system", pandas=False) == []


def test_scans_page_through_everything(store: Store, api: Api) -> None:
    shared_run(store)
    run = api.run("e/p/r")
    whole = list(run.scan_history())
    assert [row["_step"] for row in whole] == list(range(20))
    for page_size in (1, 3, 1000, 5000):
        assert list(run.scan_history(page_size=page_size)) == whole
    scan = run.scan_history(keys=["loss"], min_step=5, max_step=8)
    assert list(scan) == [{"loss": 6.0}, {"loss": 7.0}, {"loss": 8.0}]
    assert list(scan) == list(scan)
    assert next(run.scan_history())["_step"] == 0
    assert list(run.scan_history(keys=["none"])) == []
    writers = list(run.scan_history(per_writer=True, page_size=7))
    assert len(writers) == 60
    assert {"_label", "_rank", "_attempt", "_writer", "_seq"} <= set(writers[0])
    assert sorted(row["_rank"] for row in writers if row["_step"] == 3) == [0, 1, 2]
    assert len(list(run.scan_history(per_writer=True, rank=1))) == 20


def test_wrong_arguments_are_met_as_wandb_meets_them(store: Store, api: Api, capfd: Any) -> None:
    shared_run(store, 1, 2)
    run = api.run("e/p/r")
    wrong: list[tuple[Any, str]] = [("loss", "in a list"), ([1], "list of strings")]
    for keys, words in wrong:
        with pytest.raises(ValueError, match=words):
            run.scan_history(keys=keys)
        assert run.history(keys=keys) == []
        assert words in capfd.readouterr().err
    assert run.history(keys=["loss"], stream="system") == []
    for arguments in ({"page_size": 0}, {"min_step": "x"}, {"max_step": 1.5}):
        with pytest.raises(RequestError):
            run.scan_history(**arguments)
    with pytest.raises(RequestError) as caught:
        run.history(samples=0)
    assert (caught.value.field, caught.value.limit) == ("samples", 1)
    with pytest.raises(RequestError) as caught:
        run.history(samples=1_000_001)
    assert (caught.value.field, caught.value.limit) == ("samples", 1_000_000)
    assert len(run.history(samples=1_000_000)) == 2


def test_what_is_not_there_is_said_so(store: Store, api: Api) -> None:
    with pytest.raises(RunNotFoundError, match="e/p/none"):
        api.run("e/p/none")
    with pytest.raises(ValueError, match="none"):
        api.run("e/p/none")
    with pytest.raises(CommError):
        api.run("e/p/none")
    with pytest.raises(GroupNotFoundError):
        api.group("e/p/none")


def test_processes_and_records_are_accounted_for(store: Store, api: Api) -> None:
    shared_run(store)
    run = api.run("e/p/r")
    writers = run.writers()
    assert [writer["rank"] for writer in writers] == [0, 1, 2]
    assert {
        "label",
        "local_rank",
        "attempt",
        "host",
        "pid",
        "state",
        "reason",
        "unreachable",
        "stalled",
        "last_step",
        "last_seen",
    } <= set(writers[0])
    assert writers[0]["last_step"] == 19
    counts = run.accounting()
    assert counts == {"acknowledged": 66, "stored": 66, "declared_gaps": 0, "dead_letters": 0, "pending": 0}
    assert len(run.attempts()) == 1


def test_lists_are_lazy_filtered_and_ordered(store: Store, api: Api) -> None:
    for number in range(7):
        stored = StoredRun(store, f"r{number}", group="g" if number % 2 else None)
        said = Said(
            mode="grouped",
            run_id=f"r{number}",
            started_s=number,
            group="g" if number % 2 else None,
            config={"n": number},
        )
        said.log({"loss": float(-number)})
        if number != 6:
            said.exit()
        stored.deliver(said)
    runs = api.runs("e/p", per_page=3)
    assert len(runs) == 7
    assert [run.id for run in runs] == [f"r{number}" for number in range(7)]
    assert runs[-1].id == "r6"
    assert [run.id for run in runs[1:3]] == ["r1", "r2"]
    with pytest.raises(IndexError):
        runs[7]
    assert runs[2].config == {"n": 2}  # fetched when read
    assert runs[2].summary["loss"] == -2.0
    assert [run.id for run in api.runs("e/p", filters={"state": "running"})] == ["r6"]
    assert [run.id for run in api.runs("e/p", filters={"config.n": {"$gte": 5}}, order="-created_at")] == [
        "r6",
        "r5",
    ]
    best = api.runs("e/p", filters={"group": "g"}, order="+summary_metrics.loss", lazy=False)
    assert [run.id for run in best] == ["r5", "r3", "r1"]
    with pytest.raises(RequestError, match="unknown field"):
        len(api.runs("e/p", filters={"nosuch": 1}))
    assert api.projects() == [{"entity": "e", "name": "p", "run_count": 7}]
    assert len(api.all_runs()) == 7


def test_a_group_has_a_state_a_history_and_tables(store: Store, api: Api) -> None:
    for fold in range(4):
        stored = StoredRun(store, f"f{fold}", group="cv/all")
        said = Said(
            mode="grouped",
            run_id=f"f{fold}",
            started_s=fold,
            group="cv/all",
            fold=fold,
            config={"lr": 0.1 * (fold % 2), "seed": fold},
        )
        said.define("acc", summary=("max", "last"))
        for epoch in range(3):
            said.log({"acc": 0.5 + fold / 10 + epoch / 100, "epoch": epoch})
        said.exit(1 if fold == 3 else 0)
        stored.deliver(said)
    group = api.group("e/p/cv/all")
    assert (group.name, len(group), group.state) == ("cv/all", 4, "failed")
    assert group.states == {"finished": 3, "failed": 1}
    assert [run.id for run in group.runs()] == ["f0", "f1", "f2", "f3"]
    rows = group.history(keys=["acc"], pandas=False, stats=True)
    assert rows[0]["acc"] == pytest.approx(0.65)
    assert (rows[0]["acc:count"], rows[0]["acc:argmax"]) == (4, "f3")
    by_epoch = group.history(keys=["acc"], x_axis="epoch")
    assert by_epoch["epoch"].tolist() == [0, 1, 2]
    summary = group.summary(pandas=False)
    assert [(row["run_id"], row["fold"], row["state"]) for row in summary][3] == ("f3", 3, "failed")
    assert summary[0]["acc.max"] == pytest.approx(0.52)
    table = {row["key"]: row for row in group.table(pandas=False)}
    values = [0.52, 0.62, 0.72, 0.82]
    assert table["acc.max"]["mean"] == pytest.approx(np.mean(values))
    assert table["acc.max"]["std"] == pytest.approx(np.std(values, ddof=1))
    assert {"min", "max", "median", "n", "ci95_low", "ci95_high"} <= set(table["acc.max"])
    assert len({row["lr"] for row in group.table(by="lr", pandas=False)}) == 2
    assert "lr" in group.table(by="-seed").columns
    assert isinstance(group.summary(), pandas.DataFrame)


def test_names_with_odd_characters_are_found(store: Store, api: Api) -> None:
    name = "a b%2F\\..ü\U0001f600"
    stored = StoredRun(store, name)
    said = Said(mode="grouped", run_id=name)
    said.log({"a/b": 1, "k&=": 2.0})
    stored.deliver(said)
    run = api.run(f"e/p/{name}")
    assert run.id == name
    assert [row["k&="] for row in run.scan_history(keys=["k&="])] == [2.0]
    assert next(iter(api.runs("e/p"))).config == {}


def test_waiting_ends_when_the_run_does(store: Store, api: Api) -> None:
    stored = StoredRun(store)
    said = Said(mode="grouped")
    said.log({"a": 1})
    stored.deliver(said)
    run = api.run("e/p/r")
    with pytest.raises(TimeoutError):
        run.wait_until_finished(timeout_s=0.0)
    said.exit()
    stored.deliver(said)
    run.wait_until_finished(poll_interval_s=0.01)
    assert run.state == "finished"


def test_reads_see_what_was_committed_after_loading(store: Store, api: Api) -> None:
    stored = StoredRun(store)
    said = Said(mode="grouped")
    said.log({"a": 1})
    stored.deliver(said)
    run = api.run("e/p/r")
    assert run.summary["a"] == 1
    said.log({"a": 2})
    stored.deliver(said)
    assert [row["a"] for row in run.scan_history(keys=["a"])] == [1, 2]
    assert run.summary["a"] == 1  # as loaded
    run.load(force=True)
    assert run.summary["a"] == 2


def test_public_names_are_where_scripts_look() -> None:
    assert {"Api", "Run", "Runs", "Group", "RunNotFoundError"} <= set(runfold.api.__all__)


def test_a_series_of_500_points_is_read_fast(store: Store, api: Api) -> None:
    """A guard against the wrong order of magnitude; tests/bench has the figure."""
    stored = StoredRun(store)
    said = Said(0)
    said.log({"loss": 0.0}, step=0)
    stored.deliver(said)
    steps = np.arange(1, 1_000_001)
    stored.insert_bulk(said, steps, {"loss": np.sin(steps / 1000)})
    run = api.run("e/p/r")
    run.history(keys=["loss"], pandas=False)
    began_s = time.process_time()  # of both: the server is a thread of this process
    rows = run.history(samples=500, keys=["loss"], pandas=False)
    took_s = time.process_time() - began_s
    assert 100 < len(rows) <= 500
    assert max(row["loss"] for row in rows) == pytest.approx(1.0, abs=1e-6)
    assert took_s < 1.0


def test_a_table_too_large_for_one_answer_is_refused_with_what_would_do(
    store: Store, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_run(store, ranks=1, steps=20, group="g")
    with store.transaction() as tx:
        tx.connection.exec_driver_sql("update runs set row_count = 20")
    monkeypatch.setattr(table_answers, "MAX_CELLS", 60)
    run, group = api.run("e/p/r"), api.group("e/p/g")
    assert len(run.history(samples=1_000_000)) == 20  # a small one is never refused
    monkeypatch.setattr(table_answers, "SMALL_SAMPLES", 4)
    asked: list[tuple[runfold.api.Run | runfold.api.Group, dict[str, Any]]] = [
        (run, {"samples": 1_000_000}),
        (run, {"samples": 10, "keys": ["loss"], "stats": True}),
        (group, {"samples": 20}),
    ]
    for of, arguments in asked:
        with pytest.raises(RequestError, match="more than the 60 cells") as caught:
            of.history(**arguments)
        assert (caught.value.field, caught.value.code) == ("samples", "bad_request")
        assert caught.value.limit in (15, 5)
    assert len(run.history(samples=15)) <= 15


def test_a_large_table_sent_in_pieces_is_the_same_table(
    store: Store, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_run(store)
    whole = api.run("e/p/r").history(stats=True)
    monkeypatch.setattr(table_answers, "_PIECE_BYTES", 100)
    pandas.testing.assert_frame_equal(api.run("e/p/r").history(stats=True), whole)


def test_a_long_scan_asks_for_more_at_a_time(store: Store, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    shared_run(store, ranks=1, steps=60)
    asked: list[int] = []
    get = Connection.get

    def counted(self: Connection, path: str, parameters: Any = None) -> Any:
        asked.append(parameters["limit"])
        return get(self, path, parameters)

    run = api.run("e/p/r")
    monkeypatch.setattr(Connection, "get", counted)
    for per_writer in (False, True):
        asked.clear()
        scan = run.scan_history(page_size=1, per_writer=per_writer)
        assert [row["_step"] for row in scan] == list(range(60))
        assert asked[:4] == [1, 4, 10, 10]
        assert len(asked) < 15
    run.scan_history(page_size=100_000).next()
    assert asked[-1] == 10_000


def test_pages_of_wide_runs_are_short(store: Store, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = shared_run(store)  # two keys
    monkeypatch.setattr(parameters, "SMALL_PAGE_ROWS", 2)
    monkeypatch.setattr(parameters, "MAX_PAGE_CELLS", 8)
    for keys, expected in ((None, 4), (["loss"], 8)):
        assert parameters.page_rows(store, stored.row, keys, 100) == expected
    assert parameters.page_rows(store, stored.row, None, 1) == 1
    assert len(list(api.run("e/p/r").scan_history())) == 20


def test_rows_of_writers_have_no_columns(client: AsgiClient, store: Store) -> None:
    shared_run(store)
    answer = client.get("/api/v1/runs/e/p/r/history?form=columns&per_writer=true")
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "form")
    page = client.get("/api/v1/runs/e/p/r/history?form=columns&keys=loss").json()
    assert page["columns"] == [{"path": ["loss"], "values": [1.0 + step for step in range(20)], "rows": None}]

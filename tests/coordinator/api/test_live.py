"""GET /live and the new fields of writers and runs, over the real client."""

from __future__ import annotations

from coordinator.readers.stored_run import Said, StoredRun
from runfold.api import Api
from runfold.protocol.values import pack_value
from runfold_coordinator.store import tables as t

LIVE_WRITER = {
    "writer", "rank", "label", "host", "pid", "attempt", "state", "reason", "confidence", "unreachable",
    "stalled", "stopped", "phase", "phase_s", "silent_s", "last_step", "step_lag", "step_s", "log_age_s", "spool_lag",
}  # fmt: skip


def stored(store) -> StoredRun:
    run = StoredRun(store)
    for rank in range(3):
        said = Said(rank, label=f"rank-{rank}", pid=100 + rank)
        for step in range(5 - rank):
            said.log({"loss": 1.0}, step=step, commit=True)
        run.deliver(said)
    return run


def test_live_over_the_client(api: Api, store) -> None:
    stored(store)
    found = api.run("e/p/r").live()
    assert [(w["rank"], w["last_step"], w["step_lag"]) for w in found["writers"]] == [
        (0, 4, 0),
        (1, 3, 1),
        (2, 2, 2),
    ]
    assert all(w.keys() >= LIVE_WRITER for w in found["writers"])
    head = found["run"]
    assert (head["id"], head["attempt"], head["states"]) == ("r", 1, {"running": 3})
    assert head["steps_per_s"] == 1.0 and head["stalled"] is False and head["verdicts"] == {}
    assert len(api.run("e/p/r").live(every_attempt=True)["writers"]) == 3


def test_writers_tell_their_launcher_confidence_and_console(api: Api, store) -> None:
    run = stored(store)
    (first, *_rest) = store.writers(run.run_pk)
    with store.transaction() as tx:
        tx.connection.execute(
            t.writers.update().where(t.writers.c.writer_pk == first.writer_pk).values(
                confidence="certain", stalled=True
            )
        )  # fmt: skip
        tx.insert(t.writers, [_console_writer(tx.new_ids(), run.run_pk, first.writer_id)])
    writers = {w["rank"]: w for w in api.run("e/p/r").writers()}
    assert len(writers) == 3, "a console is no process"
    assert (writers[0]["confidence"], writers[0]["stalled"], writers[0]["console"]) == ("certain", True, True)
    assert (writers[1]["confidence"], writers[1]["stalled"], writers[1]["console"]) == ("", False, False)
    assert writers[0]["launcher"] == "slurm" and writers[0]["stopped"] is False


def test_a_run_tells_its_verdicts(api: Api, store) -> None:
    run = stored(store)
    verdicts = {"stall": {"since_unix_s": 1.0, "step": 4, "waiting_for": [{"rank": 2, "why": "in data"}]}}
    with store.transaction() as tx:
        tx.connection.execute(
            t.runs.update().where(t.runs.c.run_pk == run.run_pk).values(
                stalled=True, verdicts=pack_value(verdicts), confidence=""
            )
        )  # fmt: skip
    head = api.run("e/p/r").live()["run"]
    assert head["stalled"] is True and head["verdicts"] == verdicts


def _console_writer(writer_pk: int, run_pk: int, of: str) -> dict:
    return {
        "writer_pk": writer_pk, "writer_id": "c" * 32, "run_pk": run_pk, "partition": 0, "identity": pack_value({}),
        "started_unix_ns": 0, "last_seq": 0, "head_seq": 0, "row_count": 0, "gap_count": 0, "dead_letter_count": 0,
        "last_record_unix_ns": 0, "last_seen_unix_s": 0.0, "state": "running", "reason": "",
        "unreachable": False, "role": "console", "console_of": of,
    }  # fmt: skip

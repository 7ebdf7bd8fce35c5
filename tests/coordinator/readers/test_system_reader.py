"""System metrics of runs out of a real store: what is the run's, under its names, in its time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from coordinator.readers.stored_node import COST, StoredNode, own, place_writer, tell_devices
from coordinator.readers.stored_run import START_NS, Said, StoredRun
from runfold_coordinator.readers import system_reader
from runfold_coordinator.readers.answers import Table
from runfold_coordinator.readers.node_reader import NodeReader, devices_of_writers
from runfold_coordinator.readers.system_reader import SystemReader

A, B = {"uuid": "A", "index": 0, "name": "Stub"}, {"uuid": "B", "index": 1, "name": "Stub"}
M = {"uuid": "M", "index": 1, "parent": "B", "mig": 0}


def columns(table: Table) -> dict[str, list[Any]]:
    found = {}
    for column in table.columns:
        whole: list[Any] = [None] * table.length
        rows = range(table.length) if column.rows is None else column.rows.tolist()
        for row, value in zip(rows, np.asarray(column.values).tolist(), strict=True):
            whole[row] = value
        found[column.name] = whole
    return found


def process(
    store: Any, run: StoredRun, *, rank: int | None = None, label: str | None = None, **place: Any
) -> Said:
    said = Said(rank, mode="grouped" if rank is None else "shared", label=label, **place.pop("said", {}))
    run.deliver(said)
    place_writer(store, said, **place)
    return said


def test_a_run_without_samples_has_no_rows(store):
    run = StoredRun(store)
    assert SystemReader(store).read(run.row).length == 0
    process(store, run)
    table = SystemReader(store).read(run.row)
    assert (table.length, [column.name for column in table.columns]) == (0, ["_timestamp", "_runtime"])
    assert SystemReader(store).latest(run.row) == {}


def test_one_process_on_one_node_has_plain_names_in_its_time(store):
    run = StoredRun(store)
    me = process(store, run, ended_s=30)
    node = StoredNode(store, "n1", started_s=-20)
    node.describe([A, B])
    node.sample(at_s=-5)({"network.sent": 100.0, "memory_percent": 1.0})
    node.sample(at_s=10)(
        {"network.sent": 1100.0, "memory_percent": 2.0, "g/B/temp": 50.0, **own(me, cpu=7.0)}
    )
    node.sample(at_s=20)({"network.sent": 1500.0, "memory_percent": 3.0, f"w/{'f' * 32}/cpu": 9.0, **own(me)})
    node.sample(at_s=29)({"network.sent": 90.0, **own(me)})
    node.sample(at_s=32)({"network.sent": 95.0, "memory_percent": 5.0})
    node.deliver()
    start_s = START_NS / 1e9
    assert columns(SystemReader(store).read(run.row)) == {
        "_timestamp": [start_s + 10, start_s + 20, start_s + 29],
        "_runtime": [10.0, 20.0, 29.0],
        f"system.{COST}": [1.0, 1.0, 1.0],
        "system.cpu": [7.0, None, None],
        "system.gpu.1.temp": [50.0, None, None],
        "system.memory_percent": [2.0, 3.0, None],
        "system.network.sent": [0.0, 400.0, 0.0],
        "system.proc.cpu.threads": [2.0, 2.0, 2.0],
    }
    assert SystemReader(store).latest(run.row) == {
        f"system.{COST}": 1.0,
        "system.cpu": 7.0,
        "system.gpu.1.temp": 50.0,
        "system.memory_percent": 3.0,
        "system.network.sent": 0.0,
        "system.proc.cpu.threads": 2.0,
    }


def test_ranks_of_a_node_see_the_devices_that_one_of_them_may_use(store):
    run = StoredRun(store)
    ranks = [process(store, run, rank=rank, label=f"rank{rank}") for rank in range(2)]
    node = StoredNode(store, "n1")
    node.describe([A, B, M, {"uuid": "C", "index": 2}])
    sample = {f"g/{gpu}/temp": 40.0 + at for at, gpu in enumerate("ABMC")}
    use = f"w/{ranks[1].writer_id}/g/M/"
    node.sample(at_s=1)({**sample, **own(ranks[0], cpu=1.0), **own(ranks[1], cpu=2.0), f"{use}inUse": 1.0})
    node.sample(at_s=2)(
        {**sample, **own(ranks[0]), **own(ranks[1]), f"{use}inUse": 1.0, f"{use}usedMemoryBytes": 5.0}
    )
    node.sample(at_s=3)({**sample, **own(ranks[0]), **own(ranks[1])})
    node.deliver()

    everything = columns(SystemReader(store).read(run.row))
    assert {f"system.gpu.{place}.temp" for place in ("0", "1", "1.mig.0", "2")} <= everything.keys()
    tell_devices(store, ranks[0], ["A"])
    assert (
        columns(SystemReader(store).read(run.row)).keys() == everything.keys()
    )  # the other one's are not known
    tell_devices(store, ranks[1], ["B"], by="default")
    tell_devices(store, ranks[1], ["M"], at_s=5, by="process")
    found = columns(SystemReader(store).read(run.row))
    assert found["system.gpu.0.temp"] == [40.0] * 3
    assert found["system.gpu.1.temp"] == [41.0] * 3 and found["system.gpu.1.mig.0.temp"] == [42.0] * 3
    assert "system.gpu.2.temp" not in found
    assert found["system.cpu/l:rank0"] == [1.0, None, None] and found["system.cpu/l:rank1"] == [
        2.0,
        None,
        None,
    ]
    assert found["system.gpu.process.1.mig.0.usedMemoryBytes/l:rank1"] == [None, 5.0, None]
    assert found["system.gpu.process.1.mig.0.temp"] == [42.0, 42.0, None]
    assert "system.gpu.process.0.temp" not in found

    alone = columns(SystemReader(store).read(run.row, rank=0))
    assert "system.cpu/l:rank0" in alone and "system.gpu.0.temp" in alone
    assert not [name for name in alone if "rank1" in name or "gpu.1" in name]
    some = SystemReader(store).read(
        run.row, keys=["system.gpu.process.1.mig.0.temp", "system.cpu/l:rank1", "x"]
    )
    assert [column.name for column in some.columns[2:]] == [
        "system.cpu/l:rank1",
        "system.gpu.process.1.mig.0.temp",
    ]
    assert columns(some)["system.gpu.process.1.mig.0.temp"] == [42.0, 42.0, None]

    writers = store.writers(run.run_pk)
    assert devices_of_writers(store, writers) == {
        ranks[0].writer_id: [{"index": 0, "uuid": "A", "name": "Stub"}],
        ranks[1].writer_id: [{"index": 1, "uuid": "M", "name": None}],
    }
    assert devices_of_writers(store, []) == {}


def test_nodes_are_told_apart_by_their_lowest_rank(store):
    run = StoredRun(store)
    ranks = [
        process(store, run, rank=rank, label=f"rank{rank}", boot=f"b{rank // 2}", host=f"h{rank // 2}")
        for rank in (3, 2, 1, 0)
    ][::-1]
    for place in range(2):
        node = StoredNode(store, f"n{place}", boot=f"b{place}", host=f"h{place}")
        node.describe([A])
        for at in range(3):
            both = {**own(ranks[2 * place]), **own(ranks[2 * place + 1])}
            node.sample(at_s=at + place / 2)({"memory_percent": 10.0 * place + at, "g/A/temp": 40.0, **both})
        node.deliver()
    found = columns(SystemReader(store).read(run.row))
    assert found["_runtime"] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert found["system.memory_percent/l:rank0"] == [0.0, None, 1.0, None, 2.0, None]
    assert found["system.memory_percent/l:rank2"] == [None, 10.0, None, 11.0, None, 12.0]
    assert {
        "system.gpu.0.temp/l:rank0",
        "system.gpu.0.temp/l:rank2",
        "system.proc.cpu.threads/l:rank3",
    } <= found.keys()
    latest = SystemReader(store).latest(run.row)
    assert (latest["system.memory_percent/l:rank0"], latest["system.memory_percent/l:rank2"]) == (2.0, 12.0)


def test_agents_that_follow_each_other_are_one_node(store):
    run = StoredRun(store)
    me = process(store, run, host="a-name-of-the-user's")  # the agent's host is the machine's
    for number in range(3):
        node = StoredNode(store, f"n{number}", started_s=10 * number)
        node.describe([A])
        node.sample(at_s=10 * number + 1)(
            {"disk.sda.in": 100.0 + number, "g/A/temp": float(number), **own(me)}
        )
        node.deliver()
    other = StoredNode(store, "other")  # of another container on the machine
    other.sample(at_s=2)({"memory_percent": 99.0, f"w/{'e' * 32}/proc.cpu.threads": 1.0})
    other.deliver()
    found = columns(SystemReader(store).read(run.row))
    assert found["system.disk.sda.in"] == [0.0, 1.0, 2.0]
    assert found["system.gpu.0.temp"] == [0.0, 1.0, 2.0]
    assert "system.memory_percent" not in found
    assert SystemReader(store).latest(run.row)["system.disk.sda.in"] == 2.0


def test_two_agents_at_once_give_one_column_in_order_of_time(store):
    run = StoredRun(store)
    me = process(store, run)
    for number in range(2):
        node = StoredNode(store, f"n{number}")
        for at in range(4):
            node.sample(at_s=at + number / 2)({"memory_percent": float(2 * at + number), **own(me)})
        node.deliver()
    found = columns(SystemReader(store).read(run.row))
    assert found["system.memory_percent"] == [float(at) for at in range(8)]


def test_a_process_that_was_started_again_is_one_column_without_the_time_between(store):
    run = StoredRun(store)
    first = process(store, run, ended_s=10)
    second = process(store, run, said={"started_s": 100})
    node = StoredNode(store, "n")
    for at_s, said in ((5, first), (50, None), (105, second)):
        node.sample(at_s=at_s)(
            {"memory_percent": float(at_s), **({} if said is None else own(said, cpu=1.0))}
        )
    node.deliver()
    found = columns(SystemReader(store).read(run.row))
    assert found["_runtime"] == [5.0, 105.0]
    assert found["system.cpu"] == [1.0, 1.0]


def test_a_clock_that_stands_still_or_goes_back_loses_no_row(store):
    run = StoredRun(store)
    me = process(store, run)
    node = StoredNode(store, "n")
    for at_s, value in ((5, 1.0), (5, 2.0), (5, 3.0), (4, 4.0), (6, 5.0)):
        node.sample(at_s=at_s)({"memory_percent": value, **own(me)})
    node.deliver()
    table = SystemReader(store).read(run.row)
    found = columns(table)
    assert found["system.memory_percent"] == [4.0, 1.0, 2.0, 3.0, 5.0]
    assert found["_runtime"] == pytest.approx([4, 5, 5, 5, 6], abs=1e-6)


def test_a_long_history_is_read_in_windows_and_keeps_its_spikes(store, monkeypatch):
    run = StoredRun(store)
    me = process(store, run)
    node = StoredNode(store, "n")
    rng = np.random.default_rng(5)
    values = rng.uniform(20, 30, 3000)
    values[1717], values[2222] = 99.5, 0.25
    for at, value in enumerate(values):
        sample = {"memory_percent": float(value), "network.recv": 7.0 + at, **own(me, cpu=float(at % 13))}
        node.sample(at_s=at)(sample)
    node.deliver(per_chunk=100)
    whole = SystemReader(store).read(run.row, samples=5000)
    assert whole.length == 3000
    assert columns(whole)["system.memory_percent"] == values.tolist()
    few = columns(SystemReader(store).read(run.row, samples=200))
    assert 100 < len(few["_runtime"]) <= 200
    monkeypatch.setattr(system_reader, "MAX_WINDOW_CELLS", 1000)
    small = columns(SystemReader(store).read(run.row, samples=200))
    assert 100 < len(small["_runtime"]) <= 200
    for found in (few, small):
        assert {99.5, 0.25} <= set(found["system.memory_percent"])
        assert found["system.network.recv"] == found["_runtime"]  # counted from the run's first sample
        assert found["_runtime"] == sorted(found["_runtime"])
    assert columns(SystemReader(store).read(run.row, samples=5000)) == columns(whole)
    assert SystemReader(store).latest(run.row)["system.network.recv"] == 2999.0


def test_nodes_are_listed_with_their_newest_sample_and_who_runs_there(store):
    run = StoredRun(store)
    me = process(store, run, rank=0, label="rank0")
    gone = process(store, run, rank=1, label="rank1")
    run.end_writer(gone)
    for number, started_s in ((1, 0), (2, 50)):
        node = StoredNode(store, f"n{number}", started_s=started_s)
        node.describe([A, B], cpu_count=8)
        node.sample(at_s=60)({"memory_percent": 40.0, "g/B/temp": 70.0, **own(me, cpu=3.0)})
        node.deliver()
    other = StoredNode(store, "n9", boot="b9", host="h9", started_s=7)
    other.deliver()
    [first, second] = NodeReader(store).nodes(limit=10)
    assert (first["host"], first["boot_id"], first["last_seen"]) == ("h", "b1", 1050.0)
    assert first["facts"] == {"cpu_count": 8} and [gpu["uuid"] for gpu in first["gpus"]] == ["A", "B"]
    assert first["metrics"] == {COST: 1.0, "memory_percent": 40.0, "gpu.1.temp": 70.0}
    assert first["sampled_at"] == START_NS / 1e9 + 60
    assert [(each["run_id"], each["label"], each["rank"]) for each in first["writers"]] == [("r", "rank0", 0)]
    assert (second["host"], second["metrics"], second["sampled_at"], second["writers"]) == (
        "h9",
        {},
        None,
        [],
    )
    assert [node["host"] for node in NodeReader(store).nodes(limit=1)] == ["h"]
    assert [node["host"] for node in NodeReader(store).nodes(limit=5, host="h9")] == ["h9"]


def test_numbers_that_are_no_numbers_do_no_harm(store):
    run = StoredRun(store)
    me = process(store, run)
    node = StoredNode(store, "n")
    node.sample(at_s=1)({"memory_percent": math.nan, "network.sent": math.inf, **own(me)})
    node.sample(at_s=2)({"memory_percent": 3.0, "network.sent": 5.0, **own(me)})
    node.deliver()
    found = columns(SystemReader(store).read(run.row))
    assert math.isnan(found["system.memory_percent"][0]) and found["system.memory_percent"][1] == 3.0

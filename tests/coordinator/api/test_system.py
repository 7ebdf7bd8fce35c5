"""System metrics and nodes through the HTTP API and the client; the runs that hold them are nobody's."""

from __future__ import annotations

from collections.abc import Callable

import pandas
import pytest

from coordinator.api.asgi import AsgiClient
from coordinator.readers.stored_node import StoredNode, own, place_writer
from coordinator.readers.stored_run import Said, StoredRun
from runfold.api import Api, GroupNotFoundError, RequestError, RunNotFoundError
from runfold_coordinator.store.store import Store


def sampled_run(store: Store, rows: int = 3) -> StoredRun:
    run, me = StoredRun(store, "r1"), Said(mode="grouped", run_id="r1")
    me.log({"loss": 1.0})
    run.deliver(me)
    place_writer(store, me)
    node = StoredNode(store, "n1")
    node.describe([{"uuid": "A", "index": 0, "name": "Stub"}], cpu_count=2)
    for at in range(rows):
        node.sample(at_s=at)({"memory_percent": float(at), "g/A/temp": 40.0 + at, **own(me, cpu=50.0)})
    node.deliver()
    return run


def test_history_of_the_system_stream_is_a_frame_by_time(store: Store, api: Api) -> None:
    sampled_run(store)
    run = api.run("e/p/r1")
    frame = run.history(stream="system")
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns[:2]) == ["_timestamp", "_runtime"] and len(frame) == 3
    assert list(frame["system.memory_percent"]) == [0.0, 1.0, 2.0]
    assert list(frame["system.gpu.0.temp"]) == [40.0, 41.0, 42.0]
    [first, *_] = run.history(stream="system", pandas=False)
    assert first["_runtime"] == 0.0 and first["system.cpu"] == 50.0
    assert "_step" not in first
    assert len(run.history(samples=1, stream="system", pandas=False)) == 3  # a node gets ten rows at least
    assert run.system_metrics["system.gpu.0.temp"] == 42.0
    assert run.lastHistoryStep == 0 and len(run.writers()) == 1  # none of it counts as the run's


def test_arguments_are_judged_as_wandb_does(
    store: Store, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    sampled_run(store)
    run = api.run("e/p/r1")
    assert run.history(keys=["system.cpu"], stream="system") == []
    assert "stream must be default when specifying keys" in capsys.readouterr().err
    with pytest.raises(RequestError):
        run.history(stream="events")


def test_the_route_takes_names_of_columns(store: Store, client: AsgiClient) -> None:
    sampled_run(store)
    path = "/api/v1/runs/e/p/r1/series?stream=system&samples=1000000&keys=system.gpu.0.temp&keys=system.none"
    answer = client.get(path).json()
    assert [column["name"] for column in answer["columns"]] == ["_timestamp", "_runtime", "system.gpu.0.temp"]
    assert client.get("/api/v1/runs/e/p/r1/series?stream=system&rank=5").json()["length"] == 0


def test_nodes_are_listed(store: Store, api: Api, client: AsgiClient) -> None:
    sampled_run(store)
    [node] = api.nodes()
    assert (node["host"], node["boot_id"], node["facts"]) == ("h", "b1", {"cpu_count": 2})
    assert node["gpus"] == [{"uuid": "A", "index": 0, "name": "Stub"}]
    assert node["metrics"]["gpu.0.temp"] == 42.0
    assert [each["run_id"] for each in node["writers"]] == ["r1"]
    assert api.nodes("elsewhere") == []
    for wrong in ("limit=0", "limit=100000", "host=", "host=%00"):
        assert client.get(f"/api/v1/nodes?{wrong}").status_code == 400


def test_what_agents_keep_is_no_run_of_anybody(store: Store, api: Api, client: AsgiClient) -> None:
    sampled_run(store)
    hidden = "_nodes/agents/n1"
    assert store.find_run("_nodes", "agents", "n1") is not None
    with pytest.raises(RunNotFoundError):
        api.run(hidden)
    for rest in (
        "",
        "/config",
        "/summary",
        "/writers",
        "/keys",
        "/history",
        "/series",
        "/system",
        "/accounting",
    ):
        assert client.get(f"/api/v1/runs/{hidden}{rest}").status_code == 404, rest
    assert api.projects() == [{"entity": "e", "name": "p", "run_count": 1}]
    assert api.projects("_nodes") == []
    assert [run.id for run in api.all_runs()] == ["r1"]
    listed: list[Callable[[], list[object]]] = [lambda: list(api.runs("_nodes/agents"))]
    assert all(found() == [] for found in listed)
    with pytest.raises(GroupNotFoundError):
        api.group("_nodes/agents/None")

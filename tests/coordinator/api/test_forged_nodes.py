"""Whoever reaches the streams may write a node of its own making: it spoils no answer about anything else."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from coordinator.api.asgi import AsgiClient
from coordinator.readers.stored_node import StoredNode, own, place_writer, tell_devices
from coordinator.readers.stored_run import Said, StoredRun
from runfold_coordinator.store.store import Store

RUN = "/api/v1/runs/e/p/r1"
EVIL = 'x"\\\n\r\x1b[31m\u2028\x85'


def scraped(client: AsgiClient) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return the series of the page, which both parsers take; none may be there twice."""
    page = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert page.status_code == 200
    found = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in parse_openmetrics(page.text)
        for sample in family.samples
    ]
    assert len(found) == len(set(found))
    assert list(parse_text(client.get("/metrics").text))
    return found


@pytest.mark.parametrize(
    "gpus",
    [
        [{"uuid": ["A"], "index": 0}],
        [{"uuid": {"a": 1}, "index": "q"}, {"index": None}],
        [{"uuid": "A", "index": True, "memory_bytes": float("nan"), "name": 7}],
        [{"uuid": "A", "index": 2**70, "memory_bytes": 2**2000, "mig": "x"}, {"uuid": "A", "index": 1}],
    ],
)
def test_a_forged_node_spoils_no_answer(store: Store, client: AsgiClient, gpus: list[dict[str, Any]]) -> None:
    run, me = StoredRun(store, "r1"), Said(mode="grouped", run_id="r1")
    me.log({"loss": 1.0})
    run.deliver(me)
    place_writer(store, me)
    tell_devices(store, me, ["A", "x", "A"])
    node = StoredNode(store, "n1")
    node.describe(gpus, raw=b"raw", not_a_number=float("nan"), big=2**2000)
    sampled = own(me)
    names = ("memory_percent", "g/A/temp", "network.sent", "disk.x.in", "w/", f"w/{me.writer_id}/cpu")
    lists: dict[str, Any] = {name: [1] for name in names}
    texts: dict[str, Any] = dict.fromkeys(names, "evil")
    node.sample(at_s=1)({**texts, "g/A/gpu": True, "g//x": 1, **sampled})
    node.sample(at_s=2)({**lists, "g/A/gpu": 2**70, "disk.x.in": 2**64, **sampled})
    node.sample(at_s=3)({**dict.fromkeys(names, float("inf")), "memory_percent": 5.0, **sampled})
    node.deliver()
    for path in (f"{RUN}/system", f"{RUN}/series?stream=system", f"{RUN}/writers", f"{RUN}/live"):
        assert client.get(path).status_code == 200, path
    [found] = client.get("/api/v1/nodes").json()["nodes"]
    assert found["metrics"]["memory_percent"] == 5.0
    assert all(isinstance(gpu["uuid"], str) for gpu in found["gpus"])
    assert client.get(f"{RUN}/system").json()["system"]["system.memory_percent"] == 5.0
    scraped(client)


def test_steps_at_the_ends_of_the_number_line(store: Store, client: AsgiClient) -> None:
    run, me = StoredRun(store, "r1"), Said(mode="grouped", run_id="r1")
    me.log({"loss": 1.0})
    run.deliver(me)
    place_writer(store, me)
    node = StoredNode(store, "n1")
    for step in (0, 2**63 - 1):
        node.said.log({"agent.sample_cpu_ms": 1.0, "memory_percent": 2.0, **own(me)}, step=step)
    node.deliver()
    for path in ("/api/v1/nodes", f"{RUN}/system", f"{RUN}/series?stream=system"):
        assert client.get(path).status_code == 200, path


def test_names_that_begin_alike_stay_series_of_their_own(store: Store, client: AsgiClient) -> None:
    names = ["y" + EVIL, "a" * 300 + "1", "a" * 300 + "2"]
    for rank, name in enumerate(names):
        run, me = StoredRun(store, name), Said(rank, mode="grouped", run_id=name)
        values = {"m" * 300 + "1": 1.0, "m" * 300 + "2": 2.0, EVIL: 1.0, EVIL + "b": float("nan")}
        me.log(values, step=0, commit=True)
        me.log(values, step=1, commit=True)
        run.deliver(me)
        place_writer(store, me, host=EVIL)
    node = StoredNode(store, "n1", host=EVIL)
    node.describe(
        [{"uuid": uuid, "index": 0, "name": EVIL} for uuid in (EVIL, "A" * 300 + "1", "A" * 300 + "2")]
    )
    node.sample(at_s=1)({f"g/{EVIL}/temp": 1.0, **own(me)})
    node.deliver()
    series = scraped(client)
    assert len([1 for name, _ in series if name == "runfold_run_step"]) == len(names)
    assert (
        len([1 for name, _ in series if name == "runfold_run_metric"]) >= 4
    )  # those of one run are made out at once

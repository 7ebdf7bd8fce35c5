"""Alerts over HTTP and through Api: newest first, a page at a time."""

from __future__ import annotations

import pytest

import runfold.api
from coordinator.api.asgi import AsgiClient
from runfold.api.errors import RequestError
from runfold_coordinator.alerts.outbox import NewAlert, raise_alert
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker


@pytest.fixture
def alerts(store: Store) -> None:
    bench = Bench(store)
    for number, run in enumerate(("local/demo/a", "local/other/b")):
        bench.feed(Speaker(bytes([number + 1]) * 16, run).hello(rank=0))
        found = store.find_run(*run.split("/"))
        assert found is not None
        with store.transaction() as tx:
            for each in range(3):
                ident = f"{run}:{each}"
                new = NewAlert(
                    found.run_pk, ident, "rule", f"{run}:{each}", "text", "WARN", 60.0, 1.5, ["ops"]
                )
                assert raise_alert(tx, new, 10.0)
                assert not raise_alert(tx, new, 10.0)


@pytest.mark.usefixtures("alerts")
def test_pages_go_on_where_they_ended(client: AsgiClient) -> None:
    first = client.get("/api/v1/alerts?limit=4").json()
    assert [each["title"] for each in first["alerts"]][:2] == ["local/other/b:2", "local/other/b:1"]
    last = client.get(f"/api/v1/alerts?limit=4&cursor={first['next_cursor']}").json()
    assert (len(last["alerts"]), last["next_cursor"]) == (2, None)
    assert last["alerts"][-1] == {
        "run": "local/demo/a",
        "title": "local/demo/a:0",
        "text": "text",
        "level": "WARN",
        "source": "rule",
        "raised_unix_s": 1.5,
        "suppressed": False,
        "rank": None,
        "label": None,
        "deliveries": [
            {"receiver": "ops", "state": "waiting", "attempts": 0, "error": None, "delivered_unix_s": None}
        ],
    }


@pytest.mark.usefixtures("alerts")
def test_a_run_and_a_project_have_their_own(client: AsgiClient) -> None:
    of_run = client.get("/api/v1/runs/local/demo/a/alerts").json()["alerts"]
    assert {each["run"] for each in of_run} == {"local/demo/a"}
    of_project = client.get("/api/v1/alerts?entity=local&project=other").json()["alerts"]
    assert {each["run"] for each in of_project} == {"local/other/b"}
    assert client.get("/api/v1/alerts?entity=nobody").json()["alerts"] == []
    assert client.get("/api/v1/runs/local/demo/none/alerts").status_code == 404


@pytest.mark.usefixtures("alerts")
@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 30, "٣"])
def test_a_cursor_that_is_none_is_refused(client: AsgiClient, cursor: str) -> None:
    answer = client.get(f"/api/v1/alerts?cursor={cursor}")
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "cursor")


@pytest.mark.usefixtures("alerts")
def test_api_reads_them(api: runfold.api.Api) -> None:
    assert len(api.alerts()) == 6
    assert [each["title"] for each in api.alerts("local/demo", limit=1)] == ["local/demo/a:2"]
    assert len(api.run("demo/a").alerts()) == 3
    with pytest.raises(RequestError):
        api.alerts(limit=0)

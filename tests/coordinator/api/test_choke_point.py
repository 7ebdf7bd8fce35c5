"""Every route stands behind the gate: the table of routes is walked, and a door beside the gate is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route

from coordinator.api.asgi import AsgiClient
from coordinator.api.conftest import HeardIntake, backend_over
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.gate import PUBLIC_PATHS, GatePolicy
from runfold_coordinator.store.store import Store

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def routes_of(routes: list[BaseRoute], above: str = "") -> Iterator[str]:
    """Yield the path of every route, mounted apps included, with something in place of its parameters."""
    for route in routes:
        inner = getattr(route, "routes", None) or getattr(
            getattr(route, "original_router", None), "routes", None
        )
        prefix = above + (route.path if isinstance(route, Mount) else "")
        if inner:
            yield from routes_of(inner, prefix)
        elif hasattr(route, "path"):
            yield re.sub(r"\{[^}]*\}", "x", above + route.path)


def open_doors(app: Any, routes: list[BaseRoute], key: str = "") -> list[tuple[str, str]]:
    """Return (method, path) of all that answer other than 401 to a request without a key, or with this one."""
    client = AsgiClient(app, "http://anything.test")
    found = []
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    for path in sorted(set(routes_of(routes))):
        for method in METHODS:
            if client.request(method, path, headers=headers).status_code != 401:
                found.append((method, path))
    return found


@pytest.fixture
def app(store: Store, intake: HeardIntake) -> FastAPI:
    policy = GatePolicy.for_address("0.0.0.0", api_key="geheim")
    return create_app(backend_over(store, intake, gate=policy))


def test_no_route_answers_without_the_key_but_the_public_ones(app: FastAPI) -> None:
    paths = set(routes_of(app.routes))
    assert {"/api/v1/runs", "/api/v1/frames", "/api/v1/runs/x/x/x/history", "/", "/x/x/runs/x"} <= paths
    assert {path for _, path in open_doors(app, app.routes)} == set(PUBLIC_PATHS)


def test_no_route_answers_with_a_wrong_key_and_every_one_with_the_right(app: FastAPI) -> None:
    for wrong in ("geheim2", "gehei", "GEHEIM"):
        assert {path for _, path in open_doors(app, app.routes, wrong)} == set(PUBLIC_PATHS)
    doors = set(open_doors(app, app.routes, "geheim"))
    assert doors == {(method, path) for path in routes_of(app.routes) for method in METHODS}


def test_no_route_takes_a_write_from_a_page_of_another_site(app: FastAPI) -> None:
    client = AsgiClient(app, "http://anything.test")
    key = {"Authorization": "Bearer geheim"}
    for foreign in ({"Origin": "http://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        for path in sorted(set(routes_of(app.routes))):
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                assert client.request(method, path, headers=key | foreign).status_code == 403, (method, path)


def test_no_route_answers_a_foreign_host_when_local(store: Store, intake: HeardIntake) -> None:
    app = create_app(backend_over(store, intake))
    client = AsgiClient(app, "http://evil.test")
    for path in sorted(set(routes_of(app.routes))):
        for method in METHODS:
            assert client.request(method, path).status_code == 421, (method, path)


def test_the_walk_finds_a_door_beside_the_gate(app: FastAPI) -> None:
    beside = Starlette(
        routes=[Route("/rogue", lambda _request: PlainTextResponse("data")), Mount("/", app=app)]
    )
    doors = open_doors(beside, beside.routes)
    assert ("GET", "/rogue") in doors


def test_a_router_without_the_gate_in_front_refuses_by_itself() -> None:
    from runfold_coordinator.api.errors import install_error_answers
    from runfold_coordinator.api.routes_intake import router

    bare = FastAPI()
    install_error_answers(bare)
    outer = APIRouter()
    outer.include_router(router)
    bare.include_router(outer)
    answer = AsgiClient(bare).get("/api/v1/health")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "not_admitted"

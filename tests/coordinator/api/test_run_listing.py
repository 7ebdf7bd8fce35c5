"""Pages of runs over a real store: SQL and the walk agree, pages neither skip nor repeat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.api.catalogue import insert_runs
from coordinator.api.runs import run_row
from runfold_coordinator.api.errors import BadRequestError, UnavailableError
from runfold_coordinator.api.filter_sql import condition
from runfold_coordinator.api.filters import matches, parse_filter
from runfold_coordinator.api.run_fields import RunView
from runfold_coordinator.api.run_listing import RunPage, RunQuery, list_runs
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

S = 1_000_000_000
RUNS = [
    run_row(
        run_pk=pk,
        run_id=f"r{pk:02d}",
        project="p" if pk % 5 else "q",
        name=[None, "alpha", "Beta", "g\u00fcn"][pk % 4],
        group=[None, "cv", "cv", "other"][pk % 4],
        job_type=None if pk % 3 else "eval",
        state=["running", "finished", "failed"][pk % 3],
        started_unix_ns=(1_700_000_000 + (pk * 7) % 10) * S,
        last_step=pk % 4 - 1,
        tags=("a",) if pk % 2 else (),
        config={"lr": pk / 10, "mixed": pk if pk % 2 else f"t{pk}"},
        summary={"loss": float("nan") if pk == 3 else -float(pk)} if pk % 7 else {},
    )
    for pk in range(1, 31)
]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder: Path = tmp_path_factory.mktemp("listing")
    url = f"sqlite:///{folder / 'runfold.db'}"
    if request.param == "postgresql":  # its default database: everybody else makes one of their own
        url = request.getfixturevalue("postgres_server").get_uri()
    opened = Store.open(url, cold_url=str(folder / "cold"))
    insert_runs(opened, RUNS)
    yield opened
    opened.close()


def page_of(store: Store, filters: Any = None, order: str = "+created_at", **more: Any) -> RunPage:
    values: dict[str, Any] = {"entity": None, "project": None, "limit": 1000, **more}
    query = RunQuery(filter=parse_filter(filters), order=order, **values)
    return list_runs(store, query, summary_of=lambda run: run.summary, mono_s=time.monotonic)


def all_pages(store: Store, filters: Any, order: str, limit: int) -> list[RunRow]:
    found: list[RunRow] = []
    cursor = None
    while True:
        page = page_of(store, filters, order, limit=limit, cursor=cursor)
        assert len(page.runs) <= limit
        found += page.runs
        cursor = page.next_cursor
        if cursor is None:
            assert len(found) == page.total
            return found


FIELDS: dict[str, list[Any]] = {
    "state": ["running", "finished", "none"],
    "name": ["r01", "r02", "zz"],
    "displayName": ["alpha", "Beta", "g\u00fcn", None],
    "group": ["cv", None, "nul\0"],
    "job_type": ["eval", None],
    "createdAt": [1_700_000_003, "2023-11-14T22:13:25Z", True, "x", 1e400],
    "lastHistoryStep": [-1, 0, 2, 1.5],
    "config.lr": [0.5, 1],
    "tags": ["a"],
    "summary_metrics.loss": [-3.0, -10],
}


def comparisons(field: str, values: list[Any]) -> st.SearchStrategy[Any]:
    one, many = st.sampled_from(values), st.lists(st.sampled_from(values), max_size=3)
    pairs = st.one_of(
        st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), one),
        st.tuples(st.sampled_from(["$in", "$nin"]), many),
        st.tuples(st.just("$exists"), st.booleans()),
    )
    return pairs.map(lambda pair: {field: {pair[0]: pair[1]}})


COMPARISON = st.one_of(*[comparisons(field, values) for field, values in FIELDS.items()])
FILTERS = st.recursive(
    COMPARISON,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)).map(
            lambda pair: {pair[0]: pair[1]}
        ),
        inner.map(lambda part: {"$not": part}),
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILTERS)
def test_sql_decides_as_python_does(store: Store, filters: Any) -> None:
    query = parse_filter(filters)
    expected = {run.run_id for run in RUNS if matches(query, RunView(run))}
    assert {run.run_id for run in page_of(store, filters).runs} == expected
    decided = condition(query)
    if decided.clause is not None:  # what SQL lets through is never too little
        let_through = {run.run_id for run in store.list_runs(where=decided.clause, limit=1000)}
        assert let_through >= expected
        assert not decided.exact or let_through == expected


@pytest.mark.parametrize("limit", [1, 4, 30])
@pytest.mark.parametrize("filters", [None, {"state": "finished"}, {"config.lr": {"$gt": 1}}])
@pytest.mark.parametrize("sign", ["+", "-"])
@pytest.mark.parametrize(
    "field",
    ["created_at", "heartbeat_at", "last_history_step", "config.mixed.value", "summary_metrics.loss", "name"],
)
def test_pages_give_every_run_once_in_order(
    store: Store, field: str, sign: str, filters: Any, limit: int
) -> None:
    found = all_pages(store, filters, sign + field, limit)
    ids = [run.run_id for run in found]
    expected = {run.run_id for run in RUNS if matches(parse_filter(filters), RunView(run))}
    assert len(ids) == len(set(ids))
    assert set(ids) == expected
    values = [RunView(run).get(field) for run in found]
    numbers = [value for value in values if isinstance(value, float) and value == value]
    assert numbers == sorted(numbers, reverse=sign == "-")


def test_what_has_no_value_comes_last_in_either_direction(store: Store) -> None:
    for sign in "+-":
        ids = [run.run_id for run in all_pages(store, None, sign + "summary_metrics.loss", 1000)]
        assert {"r03", "r07", "r14", "r21", "r28"} == set(ids[-5:])


def test_numbers_come_before_texts(store: Store) -> None:
    values = [run.config["mixed"] for run in all_pages(store, None, "config.mixed", 7)]
    kinds = [isinstance(value, str) for value in values]
    assert kinds == sorted(kinds)


def test_entity_and_project_limit_the_list(store: Store) -> None:
    assert page_of(store, None, project="q").total == 6
    assert page_of(store, {"config.lr": {"$gt": 0}}, project="q").total == 6
    assert page_of(store, None, entity="nobody").runs == []


def test_an_offset_skips(store: Store) -> None:
    whole = [run.run_id for run in page_of(store, None, "+name").runs]
    assert [run.run_id for run in page_of(store, None, "+name", limit=3, offset=4).runs] == whole[4:7]
    assert page_of(store, None, "+name", offset=1000).next_cursor is None


@pytest.mark.parametrize("order", ["+nosuch", "-run_pk", "", "+", "config", "+state desc; DROP TABLE runs"])
def test_an_order_by_nothing_known_is_refused(store: Store, order: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        page_of(store, None, order)
    assert caught.value.field == "order"


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "bnVsbA==",
        "WzEsMiwzXQ==",
        "WyIrY3JlYXRlZF9hdCIsIlNFTEVDVCIsIDFd",
        "4pyT",
        "\u2713",
        "WyIrY3JlYXRlZF9hdCIsTmFOLDFd",
    ],
)
def test_a_cursor_of_another_query_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        page_of(store, None, cursor=cursor)
    assert caught.value.field == "cursor"


def test_a_walk_that_takes_too_long_ends(store: Store) -> None:
    ticks = iter(range(0, 10_000, 30))
    query = RunQuery(None, None, parse_filter({"config.lr": 1}), "+name", 10)
    with pytest.raises(UnavailableError, match="20 s"):
        list_runs(store, query, summary_of=lambda run: {}, mono_s=lambda: float(next(ticks)))

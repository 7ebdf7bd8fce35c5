"""Filters answer as Mongo would; what is not a filter is refused with the field and the way out."""

from typing import Any

import pytest

from coordinator.api.runs import run_row
from runfold_coordinator.api.errors import BadRequestError
from runfold_coordinator.api.filters import matches, parse_filter
from runfold_coordinator.api.run_fields import RunView

RUN = RunView(
    run_row(
        tags=("a", "b"),
        group="cv",
        config={
            "lr": 0.1,
            "optimizer": {"name": "adam", "value": 3},
            "a.b": 1,
            "use": True,
            "none": None,
            "layers": 4,
        },
        summary={"loss": {"min": 0.5}, "acc": 0.9, "bad": float("nan")},
    )
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, True),
        (None, True),
        ({"state": "finished"}, True),
        ({"state": "finished", "group": "no"}, False),
        ({"$or": [{"state": "running"}, {"group": "cv"}]}, True),
        ({"$and": [{"state": "finished"}, {"group": {"$ne": "cv"}}]}, False),
        ({"$nor": [{"state": "running"}, {"group": "other"}]}, True),
        ({"$not": {"state": "running"}}, True),
        ({"jobType": None}, True),
        ({"jobType": {"$exists": False}}, True),
        ({"jobType": {"$ne": "eval"}}, True),
        ({"job_type": {"$in": ["eval", None]}}, True),
        ({"group": {"$nin": ["x", "cv"]}}, False),
        ({"tags": "a"}, True),
        ({"tags": {"$in": ["z", "b"]}}, True),
        ({"tags": {"$nin": ["z"]}}, True),
        ({"tags": ["a", "b"]}, True),
        ({"name": "r1", "display_name": {"$regex": "^calm-"}}, True),
        ({"displayName": {"$regex": "(?i)SEA"}}, True),
        ({"displayName": {"$not": {"$regex": "sea"}}}, False),
        ({"config.lr": {"$gt": 0.05, "$lte": 0.1}}, True),
        ({"config.lr.value": 0.1}, True),
        ({"config.optimizer.name": "adam"}, True),
        ({"config.optimizer.value": 3}, True),
        ({"config.optimizer.value.name": "adam"}, True),
        ({"config.a.b": 1.0}, True),
        ({"config.use": True}, True),
        ({"config.use": 1}, False),
        ({"config.layers": True}, False),
        ({"config.none": {"$exists": True}}, True),
        ({"config.absent": {"$exists": False}}, True),
        ({"config.absent": {"$lt": 5}}, False),
        ({"config.lr": {"$gt": "0"}}, False),
        ({"summary_metrics.loss.min": {"$lt": 1}}, True),
        ({"summary_metrics.acc": {"$gte": 0.9}}, True),
        ({"summary_metrics.bad": {"$gt": 0}}, False),
        ({"createdAt": {"$gte": "2023-11-14T22:13:20Z"}}, True),
        ({"created_at": {"$lt": "2023-11-14"}}, False),
        ({"created_at": {"$gt": "2023-11-14T23:00:00+02:00"}}, True),
        ({"duration": {"$gt": 59, "$lt": 61}}, True),
        ({"username": "local", "host": "node-a"}, True),
    ],
)
def test_a_filter_answers_as_mongo_would(query: Any, expected: bool) -> None:
    assert matches(parse_filter(query), RUN) is expected


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ([], "object"),
        ("x", "object"),
        ({"nosuch": 1}, "nosuch"),
        ({"run_pk; DROP TABLE runs": 1}, "unknown field"),
        ({"config": 1}, "unknown field"),
        ({"$where": "1"}, r"\$where"),
        ({"state": {"$like": "x"}}, r"\$like"),
        ({"$or": {}}, "list"),
        ({"$and": []}, "list"),
        ({"state": {"$in": "x"}}, "list"),
        ({"state": {"$in": ["x"] * 10_001}}, "too many"),
        ({"state": {"$regex": 1}}, "string"),
        ({"state": {"$regex": "("}}, r"missing \)"),
        ({"$or": [{"state": "x"}] * 201}, "too many parts"),
    ],
)
def test_what_is_no_filter_is_refused_by_name(query: Any, part: str) -> None:
    with pytest.raises(BadRequestError, match=part) as caught:
        parse_filter(query)
    assert caught.value.field == "filters"
    assert caught.value.status == 400


def test_deep_nesting_is_refused_before_it_hurts() -> None:
    query: Any = {"state": "x"}
    for _ in range(30):
        query = {"$not": query}
    with pytest.raises(BadRequestError, match="deeply"):
        parse_filter(query)
    inner: Any = {"$eq": 1}
    for _ in range(30):
        inner = {"$not": inner}
    with pytest.raises(BadRequestError, match="deeply"):
        parse_filter({"state": inner})


def test_hostile_configs_do_not_make_a_lookup_explode() -> None:
    tree: Any = {}
    for _ in range(32):
        tree = {"a": tree, "a.a": tree}
    view = RunView(run_row(config=tree))
    assert not matches(parse_filter({"config." + ".".join(["a"] * 32) + ".z": 1}), view)

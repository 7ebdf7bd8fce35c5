"""docs/metrics.md lists every metric and no other; the example rules speak of metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

from coordinator.metrics.test_content import Shelf
from coordinator.metrics.test_page import OPENMETRICS, Loop, metrics_over, store  # noqa: F401 - a fixture
from runfold_coordinator.metrics.training import FAMILIES
from runfold_coordinator.store.store import Store

ROOT = Path(__file__).parents[3]
_NAME = re.compile(r"runfold_[a-z_]+")


@pytest.fixture
def exported(store: Store, tmp_path: Path) -> set[str]:  # noqa: F811
    """How the samples of all families are named."""
    metrics = metrics_over(store, Loop(), content=Shelf(store, tmp_path).content)
    text = metrics.page.answer(OPENMETRICS).body.decode()
    own = {family.name: family.type for family in parse(text) if family.name.startswith("runfold_")}
    own |= dict.fromkeys(FAMILIES, "gauge") | {"runfold_run": "info", "runfold_rank_gpu": "info"}
    ends = {"counter": "_total", "info": "_info"}
    return {name + ends.get(kind, "") for name, kind in own.items()}


def test_every_metric_is_documented_and_every_documented_one_exists(exported: set[str]) -> None:
    documented = set()
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        if line.startswith("| `runfold_"):
            documented |= set(_NAME.findall(line.split("|")[1]))
    assert documented == exported


def test_example_rules_speak_of_metrics_that_exist(exported: set[str]) -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus-alerts.yml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert len(expressions) > 8
    for expression in expressions:
        assert set(_NAME.findall(expression)) <= exported, expression
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    assert config["scrape_configs"][0]["authorization"]["type"] == "Bearer"

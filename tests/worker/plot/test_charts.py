"""Charts: curves equal scikit-learn's, specs are Vega-Lite, and what is logged tells how it is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import altair
import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve
from sklearn.metrics import roc_curve as sklearn_roc_curve

import runfold
from runfold import plot, terminal
from runfold.protocol.charts import SPEC_NAMES, CustomChartSpec

SCHEMA = json.loads(next(Path(altair.__file__).parent.rglob("vega-lite-schema.json")).read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
FIELDS = {"x": "a.b[0]", "y": "it's", "stroke": "s", "label": "l", "value": "v", "class": "c"}
TEXTS = {"title": "${x}</script>", "xname": "steps"}


@st.composite
def classified(draw: st.DrawFn) -> tuple[list[int], list[list[float]]]:
    """Samples of two to four classes, each at least once, with scores that are often equal."""
    classes = draw(st.integers(2, 4))
    truth = [*range(classes), *draw(st.lists(st.integers(0, classes - 1), max_size=30))]
    score = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]) | st.floats(0, 1)
    return truth, [draw(st.lists(score, min_size=classes, max_size=classes)) for _ in truth]


def points(chart: Any, name: Any) -> list[list[float]]:
    return [row[1:] for row in chart.table.data if row[0] == name]


@settings(max_examples=60, deadline=None)
@given(classified())
def test_roc_curves_equal_scikit_learns(samples: tuple[list[int], list[list[float]]]) -> None:
    truth, scores = samples
    chart = plot.roc_curve(truth, scores)
    for each in set(truth):
        column = np.asarray(scores)[:, each]
        fpr, tpr, _ = sklearn_roc_curve(np.asarray(truth) == each, column)
        expected = [[round(float(x), 3), round(float(y), 3)] for x, y in zip(fpr, tpr, strict=True)]
        assert points(chart, each) == expected


@settings(max_examples=60, deadline=None)
@given(classified(), st.integers(2, 12))
def test_precision_is_the_best_that_reaches_a_recall(
    samples: tuple[list[int], list[list[float]]], size: int
) -> None:
    truth, scores = samples
    chart = plot.pr_curve(truth, scores, interp_size=size)
    for each in set(truth):
        precision, recall, _ = precision_recall_curve(np.asarray(truth) == each, np.asarray(scores)[:, each])
        grid = np.linspace(0, 1, size)[::-1]
        expected = [
            [
                round(float(max(precision[recall >= reached])) if reached > 0 else 1.0, 3),
                round(float(reached), 3),
            ]
            for reached in grid
        ]
        assert points(chart, each) == expected


def test_long_curves_are_thinned_evenly_and_keep_their_ends(capsys: pytest.CaptureFixture[str]) -> None:
    terminal._said.clear()
    state = np.random.RandomState(0)
    truth, scores = state.randint(0, 2, 60_000), state.rand(60_000)
    chart = plot.roc_curve(truth, np.column_stack([1 - scores, scores]))
    assert len(chart.table.data) == 10_000
    for each in (0, 1):
        assert points(chart, each)[0] == [0.0, 0.0]
        assert points(chart, each)[-1] == [1.0, 1.0]
    assert "uses only 10000 data points" in capsys.readouterr().err


def test_a_confusion_matrix_counts_every_sample() -> None:
    rows = plot.confusion_matrix(y_true=["b", "a", "b"], preds=["a", "a", "b"]).table.data
    assert sum(row[2] for row in rows) == 3
    assert ["Class_2", "Class_1", 1.0] in rows
    named = plot.confusion_matrix(probs=[[0.9, 0.1], [0.8, 0.2]], y_true=[0, 1], class_names=["no", "yes"])
    assert [row for row in named.table.data if row[2]] == [["no", "no", 1.0], ["yes", "no", 1.0]]


@pytest.mark.parametrize("name", SPEC_NAMES)
@pytest.mark.parametrize("fields", [FIELDS, {}, {"stroke": None}])
def test_specs_are_vega_lite_and_hold_no_addresses(name: str, fields: dict[str, Any]) -> None:
    spec = CustomChartSpec(name, fields, TEXTS).vega_lite(["a.b[0]", "it's"], [[1, None], [2, "x"]])
    assert spec is not None
    assert [error.message for error in VALIDATOR.iter_errors(spec)] == []
    assert spec["title"] == TEXTS["title"]
    text = json.dumps({key: value for key, value in spec.items() if key not in ("$schema", "data", "title")})
    assert not any(word in text for word in ("url", "expr", "signal", "calculate", "href"))


def test_the_schema_tells_a_wrong_spec() -> None:
    spec = CustomChartSpec(SPEC_NAMES[0], FIELDS, TEXTS).vega_lite()
    assert spec is not None
    spec["mark"] = {"type": "no such mark"}
    assert list(VALIDATOR.iter_errors(spec))


def test_names_of_columns_are_names_whatever_is_in_them() -> None:
    spec = CustomChartSpec(SPEC_NAMES[0], FIELDS, {}).vega_lite()
    assert spec is not None
    assert spec["encoding"]["x"]["field"] == "a\\.b\\[0\\]"
    assert spec["encoding"]["x"]["title"] == "a.b[0]"


def test_a_chart_is_told_by_the_config_and_read_back_from_it() -> None:
    table = runfold.Table(columns=["x", "y"], data=[[1, 2]])
    chart = runfold.plot_table("me/mine/v1", table, {"x": "x"}, {"title": "T"}, split_table=True)
    chart.set_key("k")
    assert chart.spec.table_key == "Custom Chart Tables/k_table"
    assert CustomChartSpec.from_config("k", chart.spec.config_value) == chart.spec
    assert chart.vega_lite() is None
    for odd in (
        None,
        3,
        {},
        {"panel_config": {}},
        {"panel_config": {"panelDefId": "x", "fieldSettings": []}},
    ):
        assert CustomChartSpec.from_config("k", odd) is None


def test_a_chart_draws_the_rows_of_its_table() -> None:
    table = runfold.Table(columns=["x", "y"], data=[[1, np.float32(2.5)]])
    spec = plot.scatter(table, "x", "y").vega_lite()
    assert spec is not None
    assert spec["data"]["values"] == [{"x": 1, "y": 2.5}]


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(runfold.Error, match="instead got list"):
        plot.line([[1]], "x", "y")  # type: ignore[arg-type]  # that is the point


def test_early_names_say_what_they_are_called_now(capsys: pytest.CaptureFixture[str]) -> None:
    terminal._said.clear()
    truth, scores = [0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
    early = runfold.plots.precision_recall(truth, scores, ["no", "yes"], plot_micro=False)
    assert early.table.data == plot.pr_curve(truth, scores, ["no", "yes"]).table.data
    assert "use runfold.plot.pr_curve" in capsys.readouterr().err
    assert runfold.plots.ROC(truth, scores).table.data == plot.roc_curve(truth, scores).table.data
    assert runfold.plots.confusion_matrix([0, 1], [1, 1]).table.data[1] == ["Class_1", "Class_2", 1.0]

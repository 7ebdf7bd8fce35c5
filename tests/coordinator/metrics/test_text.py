"""Gauges as text, read back by the client library's strict parser."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from runfold_coordinator.metrics.text import MAX_LABEL_CHARS, GaugeText, label_text, sample


def page(labels: dict, value: float, *, is_openmetrics: bool) -> str:
    text = GaugeText(is_openmetrics=is_openmetrics)
    lines = text.family("x_seconds", "A time.", unit="seconds")
    lines.append(sample("x_seconds", label_text(labels), value))
    text.family("empty", "Has no samples.")
    info = text.family("thing", "A thing.", kind="info")
    info.append(sample("thing_info", label_text(labels), 1))
    return text.render() + ("# EOF\n" if is_openmetrics else "")


@given(st.text(alphabet=st.characters(), max_size=40), st.floats() | st.integers(-(2**70), 2**70))
def test_any_label_and_value_come_back(label, value):
    for is_openmetrics, parse in ((True, parse_openmetrics), (False, parse_text)):
        families = {
            f.name: f for f in parse(page({"a": label, "b": None}, value, is_openmetrics=is_openmetrics))
        }
        (found,) = families["x_seconds"].samples
        # The library's own parser takes lines apart at more than "\n"; a lone surrogate has no UTF-8.
        assert found.labels["a"] == label.encode("utf-8", "replace").decode() and found.labels["b"] == ""
        assert float(found.value) == float(value) or (math.isnan(value) and math.isnan(found.value))
        assert "empty" not in families


def test_units_and_infos_in_both_formats():
    new, old = (page({"a": "1"}, 2.5, is_openmetrics=each) for each in (True, False))
    assert "# UNIT x_seconds seconds" in new and "# UNIT" not in old
    assert "# TYPE thing info" in new and "# TYPE thing_info gauge" in old
    assert 'thing_info{a="1"} 1' in new and 'thing_info{a="1"} 1' in old


def test_a_long_label_is_cut():
    assert len(label_text({"a": "x" * 10_000})) == MAX_LABEL_CHARS + len('a=""')


def test_long_labels_that_begin_alike_stay_apart():
    found = {label_text({"a": "x" * 300 + end}) for end in "123"}
    assert len(found) == 3 and all(text.startswith('a="' + "x" * 150) for text in found)

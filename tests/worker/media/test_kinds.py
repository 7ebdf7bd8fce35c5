"""The names of W&B's data types: what is a medium, and what runfold has no part for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import runfold
from runfold import data_types
from runfold.errors import UnsupportedError


def test_kinds_are_told_apart_as_by_the_client() -> None:
    batchable = {"Image", "Audio", "Video", "Html", "Object3D", "Molecule"}
    for name in batchable | {"Plotly", "Table", "Graph", "Bokeh", "JoinedTable"}:
        kind = getattr(data_types, name)
        assert issubclass(kind, data_types.Media)
        assert issubclass(kind, data_types.BatchableMedia) == (name in batchable)
    assert issubclass(data_types.Histogram, data_types.WBValue)
    assert not issubclass(data_types.Histogram, data_types.Media)


@pytest.mark.parametrize("name", ["EvalTable", "WBTraceTree"])
def test_what_belongs_to_other_products_names_the_way_out(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"Log a runfold\.Table"):
        getattr(data_types, name)(columns=["a"])


def test_a_histogram_among_media_is_stored_with_them(run: runfold.Run) -> None:
    histogram = runfold.Histogram([1, 2, 3], num_bins=2)
    run.log({"mixed": [histogram, runfold.Html("a"), runfold.Html("b")]})
    run.summary["same"] = {"mixed": [runfold.Html("c"), histogram]}
    first, second, third = run.summary["mixed"]
    assert (first, second["_type"], third["_type"]) == (histogram.to_json(), "html-file", "html-file")
    page, counted = run.summary["same"]["mixed"]
    assert counted == histogram.to_json()
    assert page["path"].startswith("media/html/same.mixed_summary_")


def test_sounds_tell_how_long_they_are() -> None:
    pytest.importorskip("soundfile")
    sounds = [runfold.Audio(np.zeros(n), sample_rate=100) for n in (50, 0)]
    assert runfold.Audio.durations(sounds) == [0.5, 0.0]
    assert runfold.Audio.sample_rates(sounds) == [100, 100]


def test_a_bokeh_plot_is_its_document(run: runfold.Run) -> None:
    plotting: Any = pytest.importorskip("bokeh.plotting")
    figure = plotting.figure()
    figure.line([1, 2], [3, 4])
    run.log({"plot": data_types.Bokeh(figure)})
    assert run.summary["plot"]["_type"] == "bokeh-file"
    assert run.summary["plot"]["path"].endswith(".bokeh.json")

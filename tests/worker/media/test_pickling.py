"""Media and tables go to other processes with all they hold: ranks, loaders and remote tasks return them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runfold
from runfold.media import content

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def made(tmp_path: Path) -> list[Any]:
    file = tmp_path / "page.html"
    file.write_text("<p>file</p>")
    mask = {"truth": {"mask_data": np.zeros((2, 4), dtype=np.uint8), "class_labels": {0: "zero"}}}
    return [
        runfold.Html("<p>text</p>"),
        runfold.Html(str(file)),
        runfold.Image(PIXELS, caption="c", masks=mask),
        runfold.Object3D(np.zeros((3, 3))),
    ]


def test_a_pickled_value_is_logged_as_the_first_one(run: runfold.Run, tmp_path: Path) -> None:
    for value in made(tmp_path):
        run.log({"first": value})
        packed = pickle.dumps(value)
        for arrived in (pickle.loads(packed), copy.deepcopy(value)):
            run.log({"arrived": arrived})
            first, second = (dict(run.summary[key]) for key in ("first", "arrived"))
            assert first.pop("path") != second.pop("path")
            assert (first.pop("masks", None) is None) == (second.pop("masks", None) is None)
            assert first == second


def test_a_users_file_need_not_be_there_any_more(run: runfold.Run, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("<p>file</p>")
    packed = pickle.dumps(runfold.Html(str(file)))
    file.unlink()
    run.log({"page": pickle.loads(packed)})
    assert run.summary["page"]["_type"] == "html-file"


def test_a_table_that_was_logged_arrives_as_one_that_was_not(run: runfold.Run) -> None:
    for mode in ("IMMUTABLE", "MUTABLE", "INCREMENTAL"):
        table = runfold.Table(columns=["a", "page"], data=[[1, runfold.Html("x")]], log_mode=mode)
        run.log({mode: table})
        arrived = pickle.loads(pickle.dumps(table))
        arrived.add_data(2, runfold.Html("y"))
        assert [row[0] for row in arrived.data] == [1, 2]
        assert [row[0] for row in table.data] == [1]
        run.log({f"{mode}-arrived": arrived})
        assert run.summary[f"{mode}-arrived"]["nrows"] == 2


def test_what_is_too_large_is_not_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    value = runfold.Html("x" * 100)
    monkeypatch.setattr(content, "MAX_CAPTURED_BYTES", 50)
    with pytest.raises(ValueError, match="at most 50 are pickled"):
        pickle.dumps(value)

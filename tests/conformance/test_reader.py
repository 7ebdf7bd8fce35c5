"""What the reader leaves out for a runner from elsewhere is exactly what was made up."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from reader import as_recorded
from stored_form import StoredRun, empty_run

from runfold.naming import readable_name


def stored(name: str, *output: list[str]) -> StoredRun:
    return {**empty_run(), "run": {"id": "abc12345", "name": name}, "output": list(output)}


def test_a_made_up_name_is_the_one_of_the_run_s_id() -> None:
    assert as_recorded(stored(readable_name("abc12345")))["run"] == {"id": "abc12345", "name": ""}
    for given in ("calm-otter-7", readable_name("other"), ""):
        assert as_recorded(stored(given))["run"]["name"] == given


def test_a_printed_line_is_its_text_and_a_newline() -> None:
    said = stored("n", ["output_raw", "a\n"], ["output_raw", "\n"], ["output_logger", "b\n"])
    told = [["output_raw", "a"], ["output_raw", "\n"], ["output_raw", "\n"], ["output_logger", "b\n"]]
    assert as_recorded(said)["output"] == told

"""Every recorded scenario gives what the real client gave, but for the differences that a rule explains."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from compare import Difference, differences
from divergence_map import NOT_YET, explained, without_made_up_names
from run_scenarios import Result, ran, scenarios
from server_view import StoredRuns
from spool_view import read_run, runs_of, writers

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("conformance"), pytest.mark.timeout(300)]

ORACLE: dict[str, Any] = {
    name: result
    for file in (
        "oracle.json",
        "artifact_oracle.json",
        "client_oracle.json",
        "family_oracle.json",
        "media_oracle.json",
        "table_oracle.json",
    )
    for name, result in json.loads((Path(__file__).parent / file).read_text())["scenarios"].items()
}
EXPLAINED = explained()
NAMES = [name for name in scenarios() if name not in NOT_YET]


@pytest.fixture(scope="module")
def results() -> Iterator[dict[str, tuple[Path, Result]]]:
    """Run every scenario in a process of its own."""
    with ran(NAMES) as done:
        yield done


def unexplained(name: str, result: Result) -> list[Difference]:
    return without_made_up_names(differences(ORACLE[name], result))


def test_every_scenario_is_compared_or_listed() -> None:
    assert set(scenarios()) == set(ORACLE)
    assert set(EXPLAINED) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_spooled(name: str, results: dict[str, tuple[Path, Result]]) -> None:
    folder, result = results[name]
    stored = runs_of(writers(folder), read_run)
    assert unexplained(name, {**result, "runs": stored}) == EXPLAINED.get(name, []), result["stderr"]


@pytest.fixture(scope="module")
def delivered(results: dict[str, tuple[Path, Result]], stored_runs: StoredRuns) -> StoredRuns:
    """Send everything to one server."""
    stored_runs.deliver([spool for folder, _ in results.values() for spool in writers(folder)])
    return stored_runs


@pytest.mark.parametrize("name", NAMES)
def test_stored(name: str, results: dict[str, tuple[Path, Result]], delivered: StoredRuns) -> None:
    folder, result = results[name]
    stored = runs_of(writers(folder), delivered.read)
    assert unexplained(name, {**result, "runs": stored}) == EXPLAINED.get(name, []), result["stderr"]
    for run in stored:
        assert run["state"] == ("failed" if run["exit_code"] else "finished")

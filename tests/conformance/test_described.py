"""The described behaviours, live in the process and read back from a server: both must give the same."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from described import DESCRIBED, OWN_KEYS, RESERVED_ROWS, log_reserved_keys, shown
from server_view import StoredRuns
from spool_view import identity, spools_in

import runfold
from runfold.live_fold import LiveFold


def same(value: Any) -> Any:
    """Return a value that compares with NaN equal to NaN."""
    if isinstance(value, dict):
        return {key: same(item) for key, item in value.items()}
    if isinstance(value, list):
        return [same(item) for item in value]
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def own(tree: dict[str, Any]) -> Any:
    """Leave out what every row and summary has by itself."""
    return same({key: value for key, value in tree.items() if key not in OWN_KEYS})


@pytest.fixture(scope="module")
def spools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Carry out everything once; return the spool of each case."""
    home = tmp_path_factory.mktemp("described")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RUNFOLD_DIR", str(home))
        monkeypatch.setenv("RUNFOLD_SILENT", "true")
        for name, case in DESCRIBED.items():
            run = runfold.init(project="described", id=name, mode="offline")
            try:
                case.act(run)
                LIVE[name] = shown(run)
            finally:
                run.finish()
        with runfold.init(project="described", id="reserved", mode="offline") as run:
            log_reserved_keys(run)
    return {identity(spool).run_id: spool for spool in spools_in(home)}


#: What each case saw just before finish().
LIVE: dict[str, dict[str, Any]] = {}


@pytest.mark.parametrize("name", DESCRIBED)
def test_in_the_process(name: str, spools: dict[str, Path]) -> None:
    case, fold = DESCRIBED[name], LiveFold(spools[name], identity(spools[name]).started_unix_ns)
    assert same(LIVE[name]) == same(case.live)
    assert own(fold.summary()) == same(case.summary)
    if case.rows is not None:
        assert {row["_step"]: own(row) for row in fold.rows()} == same(case.rows)
    fold.close()


def test_reserved_keys_in_the_process(spools: dict[str, Path]) -> None:
    fold = LiveFold(spools["reserved"], identity(spools["reserved"]).started_unix_ns)
    check_reserved(fold.rows(), fold.summary())
    fold.close()


def check_reserved(rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    assert all(0 <= row.pop("_runtime") < 60 for row in rows)
    assert rows[1].pop("_timestamp") == summary.pop("_timestamp") > 1.6e9
    assert rows == RESERVED_ROWS
    assert 0 <= summary.pop("_runtime") < 60
    assert summary == {"_step": 1, "_wandb": {"x": 1, "runtime": 0}, "_own": 2, "y": 2}


@pytest.mark.journey
@pytest.mark.xdist_group("conformance")
def test_on_a_server(spools: dict[str, Path], stored_runs: StoredRuns) -> None:
    stored_runs.deliver(spools.values())
    reserved = stored_runs.api.run("local/described/reserved")
    check_reserved(list(reserved.scan_history()), dict(reserved.summary_metrics))
    for name, case in DESCRIBED.items():
        stored = stored_runs.api.run(f"local/described/{name}")
        assert own(stored.summary_metrics) == same(case.summary), name
        if case.rows is not None:
            assert {row["_step"]: own(row) for row in stored.scan_history()} == same(case.rows), name

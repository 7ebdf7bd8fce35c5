"""For random programs, delivered in pieces, the server gives the rows and the summary that the process itself read."""

from __future__ import annotations

import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from server_view import StoredRuns
from spool_view import identity, spools_in

import runfold
from runfold.live_fold import LiveFold

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("conformance"), pytest.mark.timeout(300)]

RUNS = 40
STEPS = 30
IDS = [f"fuzz{number}" for number in range(RUNS)]
KEYS = ("a", "b", "t/loss", "t/acc", "epoch", "a.b")
KINDS = ("min", "max", "mean", "best", "last", "first", "none", "copy")


class Program:
    """One run, its random choices and what it does next."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)
        self.run = runfold.init(project="fuzz", id=IDS[number], mode="offline", reinit="create_new")
        #: Some programs never go back, as most scripts.
        self.has_late_steps = number % 2 == 1
        self.step = 0

    def go_on(self, count: int) -> None:
        for _ in range(count):
            act = self.random.choice(
                [self.log, self.log, self.log, self.log_many, self.define, self.set_or_delete]
            )
            act()

    def value(self) -> Any:
        number = self.random.uniform(-5, 5)
        return self.random.choice(
            [
                number,
                number,
                round(number),
                number > 0,
                None,
                "text",
                math.nan,
                math.inf,
                -0.0,
                2**62,
                [1, number],
            ]
        )

    def row(self) -> dict[str, Any]:
        row = {key: self.value() for key in self.random.sample(KEYS, self.random.randint(0, 3))}
        if self.random.random() < 0.3:
            row["n"] = {"x": self.value(), "deep": {"y": self.random.random()}}
        return row

    def log(self) -> None:
        step = None
        if self.random.random() < 0.4:
            self.step = max(self.step, self.run.step) + self.random.randint(0, 2)
            step = self.step
            if self.has_late_steps and self.random.random() < 0.4:
                step = self.random.randint(0, self.step)
        self.run.log(self.row(), step=step, commit=self.random.choice([None, None, True, False]))

    def log_many(self) -> None:
        keys = self.random.sample(KEYS, 2)
        for _ in range(self.random.randint(2, 40)):
            self.run.log({key: self.random.gauss(0, 1) for key in keys})

    def define(self) -> None:
        said: dict[str, Any] = {"summary": ",".join(self.random.sample(KINDS, self.random.randint(1, 4)))}
        if self.random.random() < 0.4:
            said["step_metric"] = self.random.choice(["epoch", "b", "n.x", "loop"])
        if self.random.random() < 0.2:
            said["overwrite"] = True
        if self.random.random() < 0.3:
            said["goal"] = "maximize"
        self.run.define_metric(self.random.choice([*KEYS, "n.x", "n.deep.y", "t/*", "*", r"a\.b"]), **said)

    def set_or_delete(self) -> None:
        key = self.random.choice([*KEYS, "n", "own"])
        if self.random.random() < 0.5:
            self.run.summary[key] = self.random.choice([1, None, {"x": 2}, "text"])
        else:
            del self.run.summary[key]


def comparable(value: Any) -> Any:
    """Return a value in which everything must be equal, types included, and NaN equals NaN."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return ("NaN",) if isinstance(value, float) and math.isnan(value) else (type(value).__name__, value)


@dataclass
class Told:
    """What the server and the process said of one run: after each delivery, and at the end."""

    summaries: list[tuple[Any, Any]]
    rows: tuple[Any, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, stored_runs: StoredRuns) -> dict[int, Told]:
    """Run the programs side by side, deliver what they said in pieces, and ask both sides after each."""
    home = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RUNFOLD_DIR", str(home))
        monkeypatch.setenv("RUNFOLD_SILENT", "true")
        programs = [Program(number) for number in range(RUNS)]
        spools = {identity(spool).run_id: spool for spool in spools_in(home)}
        folds = [LiveFold(spool, identity(spool).started_unix_ns) for spool in map(spools.get, IDS) if spool]
        found = {number: Told([], ([], [])) for number in range(RUNS)}
        for piece in range(4):
            for program in programs:
                program.go_on(STEPS // 3) if piece < 3 else program.run.finish()
            stored_runs.deliver(spools.values())
            for number, fold in enumerate(folds):
                stored = stored_runs.api.run(f"local/fuzz/{IDS[number]}")
                found[number].summaries.append((stored.summary_metrics, fold.summary()))
                found[number].rows = (list(stored.scan_history()), fold.rows())
        for fold in folds:
            fold.close()
    return found


@pytest.mark.parametrize("number", range(RUNS))
def test_rows_and_summary(number: int, told: dict[int, Told]) -> None:
    for stored, live in told[number].summaries:
        assert comparable(stored) == comparable(live)
    stored_rows, live_rows = told[number].rows
    assert comparable(stored_rows) == comparable(live_rows)

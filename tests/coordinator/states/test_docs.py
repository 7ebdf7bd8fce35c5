"""docs/states.md names all that there is."""

from __future__ import annotations

import re
from pathlib import Path

from runfold.protocol.evidence import SOURCES
from runfold_coordinator.evidence_table import MAX_PER_SOURCE
from runfold_coordinator.states import CERTAIN, INFERRED, PREEMPTING, RUNNING, SAID, TERMINAL
from runfold_coordinator.states import run_verdict as run

DOCS = (Path(__file__).parents[3] / "docs" / "states.md").read_text()


def test_every_state_confidence_and_source_is_described() -> None:
    assert all(f"**{state}**" in DOCS for state in (RUNNING, PREEMPTING, *TERMINAL))
    assert all(f"| `{confidence}` |" in DOCS for confidence in (CERTAIN, SAID, INFERRED))
    evidence = DOCS.partition("## Evidence")[2].partition("\n## ")[0]
    listed = {
        name
        for row in re.findall(r"^\| (`[^|]*) \|", evidence, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert listed == SOURCES


def test_the_limits_are_those_of_the_code() -> None:
    assert f"At most {MAX_PER_SOURCE} rows" in DOCS
    assert f"{run.INDUCED_WITHIN_S:.0f} s after ({run.SEEN_BEFORE_S:.0f} s before" in DOCS
    assert f"{run.PEER_LOSS_WITHIN_S / 60:.0f} min after ({run.PEER_LOSS_BEFORE_S:.0f} s before" in DOCS
    assert f"{run.REACTION_S * 1000:.0f} ms to" in DOCS

"""Which differences from the real client are meant, difference by difference, each with the rule that explains it.

divergences.json: scenario -> [{"rule", "place", "client", "runfold"}]. A scenario that is not in it gives the
client's result exactly.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from compare import Difference

#: Rules, in short: where runfold departs from the client on purpose.
RULES = {
    "1": "late and out-of-order steps are kept: they merge into their row",
    "2": "shared mode works offline, honours step= and has a readable run.step",
    "3": "a summary value set by hand stays until it is deleted",
    "4": 'summary="best" with goal= works',
    "5": "names that the client dropped exist",
    "6": "the recorded end is the true one",
    "7": "min, max and mean of nothing numeric are absent",
    "8": "the stored summary equals the live one",
    "9": "what the client leaves to chance is settled: longest glob, chains of step metrics",
    "10": "every run has a readable name, offline too",
    "11": "a long alert title is cut, wait_duration=0 means no wait",
    "caption": "the caption that a copy of an Image is given is kept",
    "local": 'the entity is "local" where none is given',
}

#: Scenarios of what runfold does not have yet.
NOT_YET: frozenset[str] = frozenset()

_NAME_PLACE = re.compile(r"(runs\.\d+\.run|obs)\.name")
_MADE_UP_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")


def explained() -> dict[str, list[Difference]]:
    """Return the differences that must be there, by scenario."""
    table = json.loads((Path(__file__).parent / "divergences.json").read_text())
    for entries in table.values():
        for entry in entries:
            assert entry["rule"] in RULES, f"no rule {entry['rule']}"
    return {
        name: sorted(
            ((entry["place"], entry["client"], entry["runfold"]) for entry in entries), key=lambda d: d[0]
        )
        for name, entries in table.items()
    }


def without_made_up_names(differences: list[Difference]) -> list[Difference]:
    """Leave out rule 10: where the client has no name there is a random one."""
    return [
        (place, theirs, ours)
        for place, theirs, ours in differences
        if not (_NAME_PLACE.fullmatch(place) and not theirs and _MADE_UP_NAME.fullmatch(str(ours)))
    ]

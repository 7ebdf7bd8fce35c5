"""The verdicts on a run as lines for people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from runfold.cli.output import duration_text


def verdict_lines(verdicts: Mapping[str, Any], *, now_unix_s: float | None = None) -> Iterator[str]:
    """Yield what the server found: nothing where all is well."""
    now_s = time.time() if now_unix_s is None else now_unix_s
    stall = verdicts.get("stall")
    if stall:
        until_s = stall.get("until_unix_s") or now_s
        lasted = duration_text(max(0.0, until_s - stall["since_unix_s"]))
        yield f"stalled for {lasted} at step {stall.get('step')}"
        for found in stall.get("waiting_for") or ():
            yield f"  waiting for {who(found)}: {found['why']}"
        waiting = stall.get("others") or 0
        if waiting:
            yield f"  {waiting} other{'s' if waiting > 1 else ''} without progress"
        for stack in stall.get("stacks") or ():
            yield f"  stack of {who(stack)} ({stack['tool']}):"
            yield from (f"    {line}" for line in stack["text"].splitlines())
    for slow in verdicts.get("stragglers") or ():
        yield f"slow: {who(slow)}, +{slow['excess_s']:.3g} s a step ({slow['why']})"
    for found in verdicts.get("desync") or ():
        names = ", ".join(
            label or f"rank {rank}" for rank, label in zip(found["ranks"], found["labels"], strict=True)
        )
        expected = "no majority" if found["expected"] is None else f"others {found['expected']}"
        values = ", ".join(map(str, found["values"]))
        yield f"not equal: {found['metric']} at step {found['step']}: {names} {values} ({expected})"
    if verdicts.get("stall_count"):
        total = duration_text(verdicts.get("stalled_s") or 0.0)
        yield f"stalled before: {verdicts['stall_count']} times, {total} in all"


def who(found: Mapping[str, Any]) -> str:
    """Return how a rank is named: its label, else its rank; with its host."""
    rank = found.get("rank")
    name = found.get("label") or (f"rank {rank}" if rank is not None else str(found.get("writer"))[:8])
    return f"{name} on {found['host']}" if found.get("host") else str(name)

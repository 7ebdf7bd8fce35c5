"""Verdicts as the rows of writers keep them: from a judgement into columns, and back for who reads them."""

from __future__ import annotations

from typing import Any

from runfold.protocol.values import pack_value
from runfold_coordinator.states import Ending, Member, Verdict
from runfold_coordinator.store.model import WriterRow
from runfold_coordinator.store.names import clean_text


def verdict_columns(verdict: Verdict, induced: str | None) -> dict[str, Any]:
    """Return the columns of a verdict.

    Args:
        induced: The reason as it reads where the death followed from another's; None where it did not.
    """
    reason = clean_text(verdict.reason)
    ending = verdict.ending.to_map()
    if induced is not None:
        ending["reason"] = reason
    return {
        "state": verdict.state,
        "reason": reason if induced is None else clean_text(induced),
        "unreachable": verdict.unreachable,
        "ended_unix_ns": verdict.ended_unix_ns,
        "confidence": verdict.confidence,
        "ending": pack_value(ending) if verdict.is_terminal else None,
    }


def verdict_of(writer: WriterRow) -> Verdict:
    """Return the verdict that a writer's row keeps, without what its run has added to the reason."""
    return Verdict(
        writer.state,
        writer.ending.get("reason", writer.reason),
        writer.unreachable,
        writer.ended_unix_ns,
        writer.confidence,
        Ending.from_map(writer.ending),
    )


def member_of(writer: WriterRow, verdict: Verdict | None = None, *, clock_offset_ns: int = 0) -> Member:
    """Return the writer as its run sees it; with its stored verdict where none is given."""
    return Member(
        verdict=verdict_of(writer) if verdict is None else verdict,
        decides=writer.update_finish_state,
        rank=writer.rank,
        label=writer.label,
        host=writer.host,
        writer_id=writer.writer_id,
        traceback=(writer.exit or {}).get("traceback"),
        clock_offset_ns=clock_offset_ns,
    )

"""What the server found out about a run that it watches: hangs, slow ranks, values that differ."""

from __future__ import annotations

from typing import Any

from runfold.api.said import Said


class Verdicts:
    """As of loading; see docs/verdicts.md for what each is made from."""

    _document: dict[str, Any]

    stalled = Said[bool]("A process lives and makes no progress, for longer than it ever needed.")

    @property
    def verdicts(self) -> dict[str, Any]:
        """Everything found: stall, stragglers, desync, stalls (that ended), stall_count, stalled_s, pace."""
        return dict(self._document["verdicts"])

    @property
    def stall(self) -> dict[str, Any] | None:
        """The hang that goes on, or that lasted to the run's end; None: there is none.

        since_unix_s, step; waiting_for: whom the others wait for, a dict each (rank, label, writer, host,
        kind: stopped, gone, unreachable, phase, step, stack or alone, why), [] where nobody stands out;
        others: how many more are stalled; stacks: a dict each (rank, label, writer, host, tool, text);
        until_unix_s where the run ended in it.
        """
        found: dict[str, Any] | None = self._document["verdicts"].get("stall")
        return found

    @property
    def stragglers(self) -> list[dict[str, Any]]:
        """The ranks that are slow, worst first, a dict each.

        rank, label, writer, host; excess_s: what it takes longer a step than the others' median; timer: where
        ("": outside of timers); share: of the steps in which it was slow; score: how far out, in units of the
        others' spread; why.
        """
        return list(self._document["verdicts"].get("stragglers") or ())

    @property
    def desync(self) -> list[dict[str, Any]]:
        """Metrics that must be equal on all ranks and were not: a dict each, of the first such step.

        metric, step; ranks, labels, values: of those that differ from the majority; expected: the majority's
        value, None in a tie, where all are listed.
        """
        return list(self._document["verdicts"].get("desync") or ())

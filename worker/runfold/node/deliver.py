"""Ship given spools now and wait for it: what `runfold sync` does. Any number of times, with the same result.

In: spool or target directories, settings that name the server. Out: a report with counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from runfold.spool import list_writers
from runfold.spool.format import HEADER_NAME

from . import lock
from .agent import Agent
from .failures import LinkError
from .settings import NodeSettings

#: No link for this long: give up, seconds.
CONNECT_PATIENCE_S = 10.0
PROGRESS_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class DeliveryProgress:
    """Counts in records. `acked` includes what the server had before."""

    spools: int
    records: int
    acked: int


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What `deliver_all` did. Everything is delivered when `pending` is 0 and nothing was unreadable."""

    spools: int
    records: int
    #: durably at the server now; `delivered` of them since the call.
    acked: int
    delivered: int
    pending: int
    #: directories that are no spool or could not be read.
    unreadable: tuple[Path, ...]


def deliver_all(
    directories: Iterable[Path],
    settings: NodeSettings,
    on_progress: Callable[[DeliveryProgress], None] | None = None,
    *,
    timeout_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> DeliveryReport:
    """Ship what the spools hold now; return when the server has it durably, or the time is over.

    Spools stay where they are. An agent that works on them meanwhile does no harm: what arrives
    twice counts once.

    Args:
        directories: Spool directories, or target directories, whose spools are all meant.
        timeout_s: Give up after this; None: go on while the server can be reached.

    Raises:
        LinkError: No server could be reached.
    """
    spools = _spools(directories)
    # Nothing is removed here: the agent of the target does that.
    patient = replace(settings, keep_spool_s=float("inf"), keep_spool_bytes=2**63)
    agent = Agent(patient, None, spools=spools, clock=clock)
    locks = [lock.AgentLock(directory) for directory in {spool.parent for spool in spools}]
    for each in locks:
        _try_lock(each)
    began_s = clock()
    try:
        return _Delivering(agent, spools, on_progress, clock).run(began_s, timeout_s)
    finally:
        agent.close()
        for each in locks:
            each.release()


class _Delivering:
    """The loop of one `deliver_all`."""

    def __init__(
        self,
        agent: Agent,
        spools: list[Path],
        on_progress: Callable[[DeliveryProgress], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._agent = agent
        self._spools = spools
        self._on_progress = on_progress
        self._clock = clock
        self._shown_s = -1e9
        self._wanted: dict[bytes, int] = {}
        #: What was seen of processes by this call: the agent's own spools.
        self._own: dict[bytes, int] = {}
        self._has_ended_duties = False
        self._had = 0

    def run(self, began_s: float, timeout_s: float | None) -> DeliveryReport:
        agent = self._agent
        while agent.find_writers(every_s=0.0):
            pass
        # What a live process writes from now on is its agent's business.
        self._wanted = {writer: tail.head_seq() for writer, tail in agent.writers.tails.items()}
        self._had = self._acked()
        linked_s = began_s
        while not (self._is_done() and self._is_own_delivered()):
            agent.step(agent.pause_s())
            now_s = self._clock()
            self._show(now_s)
            if agent.trouble is None:
                linked_s = now_s
            elif now_s - linked_s >= CONNECT_PATIENCE_S:
                raise LinkError(agent.trouble)
            if timeout_s is not None and now_s - began_s >= timeout_s:
                break
        self._show(float("inf"))
        return self._report()

    def _is_done(self) -> bool:
        if not self._wanted:
            return True
        # An ack in a spool's header may be another server's: this one has to say what it has.
        agent = self._agent
        is_told = agent.writers.are_deaths_told() and agent.deaths.are_told() and agent.witness.is_heard()
        return is_told and not self._pending() and agent.shipper.are_confirmed()

    def _is_own_delivered(self) -> bool:
        """What was seen of the processes is written down, and has to arrive like their rows."""
        agent = self._agent
        if not self._has_ended_duties:
            self._has_ended_duties = True
            spools = agent.end_duties()
            agent.writers.include(spools)
            agent.find_writers(every_s=0.0)
            tails = agent.writers.tails.items()
            self._own = {writer: tail.head_seq() for writer, tail in tails if tail.directory in spools}
        shipper = agent.shipper
        return all(writer in shipper and shipper.acked(writer) >= head for writer, head in self._own.items())

    def _pending(self) -> int:
        return sum(self._wanted.values()) - self._acked()

    def _acked(self) -> int:
        shipper = self._agent.shipper
        return sum(
            min(head, shipper.acked(writer)) if writer in shipper else 0
            for writer, head in self._wanted.items()
        )

    def _show(self, now_s: float) -> None:
        if self._on_progress is not None and now_s - self._shown_s >= PROGRESS_EVERY_S:
            self._shown_s = now_s
            self._on_progress(DeliveryProgress(len(self._wanted), sum(self._wanted.values()), self._acked()))

    def _report(self) -> DeliveryReport:
        acked, records = self._acked(), sum(self._wanted.values())
        known = {tail.directory for tail in self._agent.writers.tails.values()}
        return DeliveryReport(
            spools=len(self._wanted),
            records=records,
            acked=acked,
            delivered=max(0, acked - self._had),
            pending=records - acked,
            unreadable=tuple(spool for spool in self._spools if spool not in known),
        )


def _spools(directories: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for directory in directories:
        is_spool = (directory / HEADER_NAME).exists()
        for spool in [directory] if is_spool else list_writers(directory):
            found[spool.resolve()] = None
    return list(found)


def _try_lock(each: lock.AgentLock) -> None:
    """Keep an agent from starting on these spools meanwhile; one that works already goes on beside us."""
    try:
        each.acquire(patience_s=0.0)
    except OSError:  # a directory that may only be read
        pass

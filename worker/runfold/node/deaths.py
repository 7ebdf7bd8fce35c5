"""The duty that says how processes ended: as soon as one is gone, and once for each, whoever ships its spool.

In: writers found and ended; what the kernel, the parent, the memory cgroup and torchelastic's error file say.
Out: evidence, and a mark in the spool of each writer of which it was given.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from runfold.protocol.evidence import ELASTIC, GONE, OOM, REBOOT, WAIT
from runfold.protocol.failpoints import hit

from .elastic_error import read_elastic_error
from .exit_status import End
from .marks import is_marked, mark
from .oom import OomWatch
from .parents import Parents, will_tell
from .processes import ProcessWatch
from .tail import WriterTail
from .witness import Witness

logger = logging.getLogger(__name__)

#: The kernel or the parent may take so long to tell a status; then the process counts as gone, seconds.
PATIENCE_S = 2.0
#: A turn takes no longer, seconds: after a long absence a thousand ends may be found at once.
MOST_AT_ONCE_S = 0.1
#: What is remembered of processes whose spools are gone is forgotten this often, seconds.
FORGET_EVERY_S = 60.0


@dataclass(slots=True)
class _Dead:
    """A process that is gone and of which more may be told."""

    tail: WriterTail
    since_s: float
    is_gone_told: bool = False


class Deaths:
    """Testifies of every process of this place that is gone, whether or not it said so itself."""

    def __init__(
        self,
        witness: Witness,
        watch: ProcessWatch,
        parents: Parents,
        *,
        boot: str,
        oom: OomWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`watch` watches the writers by their ids; `boot` is this boot's id."""
        self._witness = witness
        self._watch = watch
        self._parents = parents
        self._boot = boot
        self._oom = oom or OomWatch()
        self._clock = clock
        self._dead: dict[bytes, _Dead] = {}
        #: Told, and perhaps not written down yet; not marked as told.
        self._unmarked: dict[bytes, WriterTail] = {}
        self._now_s = self._forgot_s = 0.0
        #: On ends since the last turn.
        self._spent_s = 0.0

    def writer_found(self, tail: WriterTail) -> None:
        """Remember how things stand while it lives."""
        if tail.identity.role == "process" and tail.is_alive and tail.identity.pid:
            self._oom.begin(tail.writer, tail.identity.pid)

    def writer_ended(self, tail: WriterTail) -> None:
        """Say what can be known of the end: now, or when it is known, or when a thousand others are told."""
        if tail.identity.role != "process" or tail.writer in self._dead or tail.writer in self._unmarked:
            return
        if is_marked(tail):
            return
        dead = self._dead[tail.writer] = _Dead(tail, self._now_s)
        if self._spent_s < MOST_AT_ONCE_S:
            began_s = self._clock()
            self._parents.refresh()
            self._look(dead)
            self._spent_s += self._clock() - began_s

    def step(self, now_s: float) -> None:
        """Look again at those whose end was not told yet."""
        self._now_s = now_s
        self._spent_s = 0.0
        ends_s = self._clock() + MOST_AT_ONCE_S
        self._oom.follow()
        if now_s - self._forgot_s > FORGET_EVERY_S:
            self._forgot_s = now_s
            self._oom.keep_only(self._witness.knows)
        if self._dead:
            self._parents.refresh()
        for dead in list(self._dead.values()):
            if self._clock() >= ends_s:
                return
            self._look(dead)
        while self._unmarked and self._witness.keep() and self._clock() < ends_s:
            _writer, tail = self._unmarked.popitem()
            mark(tail)

    def are_told(self) -> bool:
        """Return True when something was said of every end."""
        return all(dead.is_gone_told for dead in self._dead.values())

    def close(self) -> None:
        """Say of the last ones that they are gone; what is not said now, the next agent says."""
        for dead in list(self._dead.values()):
            dead.since_s = self._now_s - PATIENCE_S
        self.step(self._now_s)
        self._oom.close()

    def _look(self, dead: _Dead) -> None:
        tail, writer = dead.tail, dead.tail.writer
        said_boot = tail.identity.boot_id
        if said_boot and said_boot != self._boot:
            self._tell_end(tail, REBOOT, {"boot_id": said_boot, "now": self._boot})
            del self._dead[writer]
            return
        end, may_come = self._end_of(tail)
        if end is None and may_come and self._now_s - dead.since_s < PATIENCE_S:
            return
        if not dead.is_gone_told:
            try:
                self._tell_causes(tail, end)
            except Exception:
                # The end is told whatever became of its cause.
                logger.exception("the cause of an end can't be told", extra={"event": "cause_not_told"})
        if end is not None:
            self._tell_end(tail, WAIT, {"status": end.status, "by": end.by})
        elif not dead.is_gone_told:
            dead.is_gone_told = True
            self._tell_end(tail, GONE, {})
        if end is not None or not may_come or not self._witness.knows(writer):
            del self._dead[writer]
            self._oom.forget(writer)

    def _end_of(self, tail: WriterTail) -> tuple[End | None, bool]:
        """Return the status, and whether it may still be told. The parent's word is the best."""
        who = tail.identity
        notes = self._parents.about([(who.pid, who.pid_start)]) if who.pid else []
        for note in notes:
            if note.status is not None:
                return End(note.status, "parent"), False
        end = self._watch.end_of(tail.writer)
        may_come = self._watch.may_tell_later(tail.writer) or any(map(will_tell, notes))
        return end, may_come and end is None

    def _tell_causes(self, tail: WriterTail, end: End | None) -> None:
        """Say before the end what it came from, so that nobody takes it for something else for a moment."""
        who = tail.identity
        is_killed = end is None or (os.WIFSIGNALED(end.status) and os.WTERMSIG(end.status) == signal.SIGKILL)
        if is_killed and who.pid and (facts := self._oom.facts_of(tail.writer, who.pid)) is not None:
            self._witness.testify(tail.writer, OOM, facts)
        has_failed = end is None or end.status != 0
        if has_failed and who.launcher.error_file:
            error = read_elastic_error(who.launcher.error_file)
            if error is not None:
                self._witness.testify(tail.writer, ELASTIC, error)

    def _tell_end(self, tail: WriterTail, source: str, facts: dict[str, object]) -> None:
        hit("agent.before_testimony")
        self._witness.testify(tail.writer, source, facts)
        hit("agent.after_testimony")
        self._unmarked[tail.writer] = tail

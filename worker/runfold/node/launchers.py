"""The duty that says what befell those who started the processes: torchrun and the like, `runfold run`.

In: the launcher that a writer names, notes of `runfold run` about it or a process above it. Out: LAUNCHER
evidence for each writer below: a signal that came and was passed on, or how the launcher itself ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runfold.protocol.evidence import LAUNCHER

from .marks import is_marked
from .parents import Parents
from .processes import ProcessWatch, ancestors_of
from .tail import WriterTail
from .witness import Witness

#: What befalls a launcher later than this after a process ended is not told of that process, seconds.
AFTERMATH_S = 120.0
#: A turn takes no longer, seconds: a thousand processes may end at once.
MOST_AT_ONCE_S = 0.1

#: (pid, start), as `start_of` says it.
Process = tuple[int, float | None]


@dataclass(slots=True)
class _Child:
    writer: bytes
    itself: Process
    #: Itself, its launcher, and whatever was above it when it was found.
    kin: set[Process]
    launcher: Process | None
    ended_s: float | None = None
    told: set[tuple[tuple[str, Any], ...]] = field(default_factory=set)


class Launchers:
    """Watches launchers for the writers below them. Not thread-safe."""

    def __init__(
        self, witness: Witness, parents: Parents, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._witness = witness
        self._parents = parents
        self._clock = clock
        self._watch = ProcessWatch()
        self._children: dict[bytes, _Child] = {}
        #: Writers by the launcher that is watched for them.
        self._below: dict[Process, set[bytes]] = {}
        #: Launchers of whose end more may come to be known.
        self._open: set[Process] = set()
        #: Those of whom notes may tell more than they did.
        self._unread: dict[bytes, _Child] = {}
        #: Version of the notes that all but those were told of.
        self._read_version = 0
        self._now_s = 0.0
        #: On ends since the last turn.
        self._spent_s = 0.0

    def writer_found(self, tail: WriterTail) -> None:
        """Note who is above it."""
        who = tail.identity
        if who.role != "process" or tail.is_alive is None or not who.pid:
            return
        if tail.is_alive is False and is_marked(tail):
            return  # told by an agent before this one
        itself = (who.pid, who.pid_start)
        child = self._children[tail.writer] = _Child(tail.writer, itself, {itself}, None)
        self._unread[tail.writer] = child
        if tail.is_alive:
            child.kin.update(ancestors_of(who.pid))
        above = who.launcher
        if above.launcher_pid and above.launcher_start:
            child.kin.add((above.launcher_pid, above.launcher_start))
            # Without a launcher's name it is the shell, or whatever started the script.
            if above.source is not None and tail.is_alive:
                child.launcher = (above.launcher_pid, above.launcher_start)
                if child.launcher not in self._below:
                    self._watch.watch(child.launcher, above.launcher_pid, above.launcher_start)
                self._below.setdefault(child.launcher, set()).add(tail.writer)
                self._open.add(child.launcher)

    def writer_ended(self, tail: WriterTail) -> None:
        """Say at once what is known of those above: they may be why."""
        child = self._children.get(tail.writer)
        if child is None or child.ended_s is not None:
            return
        child.ended_s = self._now_s
        self._unread[child.writer] = child
        if self._spent_s < MOST_AT_ONCE_S:
            began_s = self._clock()
            self._parents.refresh()
            self._tell_notes(self._unread.pop(child.writer))
            self._look()
            self._spent_s += self._clock() - began_s

    def step(self, now_s: float) -> None:
        """Look at launchers and notes."""
        self._now_s = now_s
        self._spent_s = 0.0
        self._parents.refresh()
        if self._read_version != self._parents.version:
            self._read_version = self._parents.version
            self._unread = dict(self._children)
        self._look()
        ends_s = self._clock() + MOST_AT_ONCE_S
        while self._unread and self._clock() < ends_s:
            self._tell_notes(self._unread.popitem()[1])
        for child in list(self._children.values()):
            is_over = child.ended_s is not None and now_s - child.ended_s > AFTERMATH_S
            if is_over or not self._witness.knows(child.writer):
                self._let_go(child)

    def close(self) -> None:
        """Watch nobody any more."""
        self._watch.close()

    def _look(self) -> None:
        self._watch.wait(0.0)
        for launcher in list(self._open):
            end = self._watch.end_of(launcher)
            if end is None and self._watch.may_tell_later(launcher):
                continue
            self._open.discard(launcher)
            if end is not None and end.status != 0:  # else it ended as it should, or nobody can tell
                for writer in self._below[launcher]:
                    self._tell(self._children[writer], {"pid": launcher[0], "status": end.status})

    def _tell_notes(self, child: _Child) -> None:
        for note in self._parents.about(child.kin):
            for signal in note.signals:
                facts = {
                    "pid": note.parent_pid,
                    "signum": signal.signum,
                    "sender_pid": signal.sender_pid,
                    "sender_uid": signal.sender_uid,
                }
                self._tell(child, facts, signal.t_ns)
            # Of the process itself, its end says that.
            if note.status and (note.pid, note.pid_start) != child.itself:
                self._tell(child, {"pid": note.pid, "status": note.status}, note.ended_ns)

    def _tell(self, child: _Child, facts: dict[str, Any], t_ns: int | None = None) -> None:
        known = tuple(facts.items())
        if known not in child.told:
            child.told.add(known)
            self._witness.testify(child.writer, LAUNCHER, facts, t_ns=t_ns)

    def _let_go(self, child: _Child) -> None:
        del self._children[child.writer]
        self._unread.pop(child.writer, None)
        if child.launcher is not None:
            below = self._below[child.launcher]
            below.discard(child.writer)
            if not below:
                del self._below[child.launcher]
                self._open.discard(child.launcher)
                self._watch.forget(child.launcher)

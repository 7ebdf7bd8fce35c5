"""The duty that carries out stop requests: SIGTERM at once, SIGKILL when the grace is over, and says so.

In: requests for writers of this node, from the server. Out: signals to their processes (stop_plan.py tells
which and when), evidence of each, and a file from which the next agent goes on where this one was killed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runfold.protocol.evidence import STOP_REFUSED, STOP_SIGNAL
from runfold.protocol.records import RecordKind, SignalRecord
from runfold.protocol.streams import StopRequest
from runfold.spool import SpoolReader

from .process_signals import Process, Signals, is_launcher_program
from .processes import boot_id
from .stop_plan import LAUNCHER_PATIENCE_S, Step, Stop
from .tail import WriterTail
from .witness import Witness

logger = logging.getLogger(__name__)

#: In the target directory: what was begun.
STATE_NAME = "stops.json"
NOT_ALLOWED = "stop requests are not carried out on this node (RUNFOLD_ALLOW_STOP=0)"
#: Launchers that start processes again when these end.
_RESTARTING: Final = frozenset({"torchrun"})
#: How much of a spool is searched for a signal that its process caught.
_SEARCHED_BATCHES: Final = 50
_SEARCHED_BYTES: Final = 1_000_000


@dataclass(slots=True)
class _Launcher:
    """A launcher whose processes are asked to end."""

    #: Writers and their requests.
    stops: dict[bytes, Stop] = field(default_factory=dict)
    deadline_s: float = 0.0
    is_terminated: bool = False


class Stopping:
    """Stops processes of this node. Not thread-safe: for the agent's thread."""

    def __init__(
        self,
        witness: Witness,
        target_dir: Path,
        *,
        is_allowed: bool = True,
        signals: Signals | None = None,
        clock: Callable[[], float] = time.monotonic,
        may_signal_launcher: Callable[[int], bool] = is_launcher_program,
    ) -> None:
        """Prepare; what an earlier agent began is taken up as its writers are found."""
        self._witness = witness
        self._path = target_dir / STATE_NAME
        self._is_allowed = is_allowed
        self._signals = signals or Signals()
        self._clock = clock
        self._may_signal_launcher = may_signal_launcher
        self._tails: dict[bytes, WriterTail] = {}
        self._stops: dict[bytes, Stop] = {}
        self._launchers: dict[Process, _Launcher] = {}
        #: (writer, request) that were refused.
        self._refused: set[tuple[bytes, str]] = set()
        self._begun = _load(self._path)

    # --- the agent's calls ------------------------------------------------------------------------------

    def take(self, requests: Mapping[bytes, StopRequest]) -> None:
        """The server asks these writers to end; it may ask the same again and again."""
        now_s = self._clock()
        is_changed = False
        for writer, request in requests.items():
            tail = self._tails.get(writer)
            known = self._stops.get(writer)
            if tail is None or tail.is_alive is not True or _has_ended(tail):
                continue
            if known is not None and known.request == request:
                continue
            why = self._why_not(tail)
            if why is not None:
                self._refuse(writer, request, why)
                continue
            launcher = self._launcher_of(tail) if request.is_whole else None
            if known is None:
                known = self._stops[writer] = _begin(tail, request, launcher, now_s)
            else:
                known.take(request, launcher, now_s)
            self._note_launcher(writer, known)
            is_changed = True
        if is_changed:
            self._save()
            self.step(now_s)

    def writer_found(self, tail: WriterTail) -> None:
        """Remember it, and go on with what an earlier agent began."""
        if tail.identity.role != "process":
            return
        self._tails[tail.writer] = tail
        begun = self._begun.pop(tail.writer.hex(), None)
        if (
            begun is not None
            and tail.is_alive
            and tail.writer not in self._stops
            and self._why_not(tail) is None
        ):
            self._stops[tail.writer] = begun
            self._note_launcher(tail.writer, begun)

    def writer_ended(self, tail: WriterTail) -> None:
        """It is done; its launcher may be next."""
        self._tails.pop(tail.writer, None)
        if self._stops.pop(tail.writer, None) is not None:
            self._save()
            self._step_launchers(self._clock())

    def step(self, now_s: float) -> None:
        """Send what is due."""
        before = {writer: len(stop.done) for writer, stop in self._stops.items()}
        for writer, stop in list(self._stops.items()):
            if _has_ended(self._tails.get(writer)):
                # Its run has ended as asked. What the process does after finish() is no business of ours.
                del self._stops[writer]
                continue
            launcher = stop.launcher
            lives = launcher is not None and self._signals.is_alive(launcher)
            for step in stop.due(now_s, launcher_lives=lives):
                self._do(writer, stop, step)
        self._step_launchers(now_s)
        if {writer: len(stop.done) for writer, stop in self._stops.items()} != before:
            self._save()

    def close(self) -> None:
        """Nothing is open; the file tells the next agent what was begun."""

    # --- what may be stopped ----------------------------------------------------------------------------

    def _why_not(self, tail: WriterTail) -> str | None:
        if not self._is_allowed:
            return NOT_ALLOWED
        if not tail.identity.pid or not tail.identity.pid_start:
            return "it is not known when the process started: its pid may be another's by now"
        if not self._is_owners(tail, Process(tail.identity.pid, tail.identity.pid_start)):
            return "the process does not belong to the user whose spool says so"
        return None

    def _is_owners(self, tail: WriterTail, process: Process) -> bool:
        """An agent that runs as root must not end a process because somebody else's spool names its pid."""
        if os.geteuid() != 0:
            return True
        try:
            owner = tail.directory.stat().st_uid
        except OSError:
            return False
        return self._signals.owner_uid(process) in (owner, None)

    def _refuse(self, writer: bytes, request: StopRequest, why: str) -> None:
        if (writer, request.request) not in self._refused:
            self._refused.add((writer, request.request))
            self._witness.testify(writer, STOP_REFUSED, {"request": request.request, "why": why})

    def _launcher_of(self, tail: WriterTail) -> Process | None:
        said = tail.identity.launcher
        if said.source not in _RESTARTING or not said.launcher_pid or not said.launcher_start:
            return None
        launcher = Process(said.launcher_pid, said.launcher_start)
        is_one = self._signals.is_alive(launcher) and self._may_signal_launcher(launcher.pid)
        return launcher if is_one and self._is_owners(tail, launcher) else None

    def _note_launcher(self, writer: bytes, stop: Stop) -> None:
        if stop.launcher is not None:
            found = self._launchers.setdefault(stop.launcher, _Launcher())
            found.stops[writer] = stop
            found.deadline_s = max(found.deadline_s, stop.deadline_s)
            found.is_terminated = found.is_terminated or Step.LAUNCHER_TERM in stop.done

    # --- what is done -----------------------------------------------------------------------------------

    def _do(self, writer: bytes, stop: Stop, step: Step) -> None:
        stop.done.add(step)
        if step is Step.LAUNCHER_TERM:
            assert stop.launcher is not None, "a step of launchers is due where there is one"
            if self._launchers[stop.launcher].is_terminated:
                # Once, whoever of its processes is asked: a second one would interrupt it while it ends them.
                self._say(writer, stop, signal.SIGTERM, stop.launcher, "launcher")
            else:
                self._end_launcher(stop.launcher, signal.SIGTERM)
        elif step is Step.KILL:
            self._signal(writer, stop, signal.SIGKILL)
        elif not (stop.is_launcher_first and self._has_caught(writer, stop)):
            # A process that is stopped could not react.
            self._signal(writer, stop, signal.SIGTERM, signal.SIGCONT)

    def _signal(self, writer: bytes, stop: Stop, *signums: signal.Signals) -> None:
        try:
            if self._signals.send(stop.process, *signums):
                self._say(writer, stop, signums[0], stop.process, "process")
        except OSError as error:
            self._refuse(writer, stop.request, f"the agent may not signal the process: {error}")

    def _step_launchers(self, now_s: float) -> None:
        """A launcher must not start anew what has ended; one that is stuck after all is killed."""
        for process, launcher in list(self._launchers.items()):
            if not self._signals.is_alive(process):
                del self._launchers[process]
            elif launcher.stops.keys() & self._stops.keys():
                continue
            elif not launcher.is_terminated:
                launcher.deadline_s = now_s
                self._end_launcher(process, signal.SIGTERM)
            elif now_s >= launcher.deadline_s + LAUNCHER_PATIENCE_S:
                self._end_launcher(process, signal.SIGKILL)
                del self._launchers[process]

    def _end_launcher(self, process: Process, signum: signal.Signals) -> None:
        launcher = self._launchers[process]
        launcher.is_terminated = True
        more = (signal.SIGCONT,) if signum is signal.SIGTERM else ()
        try:
            was_sent = self._signals.send(process, signum, *more)
        except OSError as error:
            logger.info("a launcher can't be signalled: %s", error, extra={"event": "launcher_kept"})
            return
        if was_sent:
            for writer, stop in launcher.stops.items():
                stop.done.add(Step.LAUNCHER_TERM)
                self._say(writer, stop, signum, process, "launcher")

    def _say(self, writer: bytes, stop: Stop, signum: int, process: Process, to: str) -> None:
        facts = {"request": stop.request.request, "signum": int(signum), "pid": process.pid, "to": to}
        self._witness.testify(writer, STOP_SIGNAL, facts)

    def _has_caught(self, writer: bytes, stop: Stop) -> bool:
        """Return whether the process says that it has got SIGTERM: a second one would disturb its saving."""
        tail = self._tails.get(writer)
        return tail is not None and _says_it_was_signalled(tail, stop.head_seq + 1)

    # --- what the next agent goes on with ---------------------------------------------------------------

    def _save(self) -> None:
        found = {writer.hex(): stop.to_map() for writer, stop in self._stops.items()}
        temporary = self._path.with_name(f".{STATE_NAME}.{os.getpid()}")
        try:
            if not found:
                self._path.unlink(missing_ok=True)
                return
            flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
            with open(os.open(temporary, flags, 0o600), "w") as file:
                json.dump({"boot_id": boot_id(), "stops": found}, file)
            temporary.replace(self._path)
        except OSError as error:  # full, or read-only: after a death of this agent a grace begins anew
            logger.info("what was begun can't be kept: %s", error, extra={"event": "stops_not_kept"})


def _begin(tail: WriterTail, request: StopRequest, launcher: Process | None, now_s: float) -> Stop:
    process = Process(tail.identity.pid or 0, tail.identity.pid_start or 0)
    return Stop(request, process, launcher, now_s, now_s + request.grace_s, tail.head_seq())


def _has_ended(tail: WriterTail | None) -> bool:
    try:
        return tail is not None and tail.has_ended()
    except (OSError, ValueError):  # it can't be read now
        return False


def _says_it_was_signalled(tail: WriterTail, from_seq: int) -> bool:
    """Look for a SIGNAL record of SIGTERM from this seq on."""
    try:
        reader = SpoolReader(tail.directory)
    except (OSError, ValueError):
        return False
    try:
        for _ in range(_SEARCHED_BATCHES):
            batch = reader.read(from_seq, max_bytes=_SEARCHED_BYTES)
            if batch is None:
                return False
            for record in batch.others:
                if record.kind == RecordKind.SIGNAL:
                    return SignalRecord.unpack(record.payload).signum == signal.SIGTERM
            from_seq = batch.hi + 1
    except (OSError, ValueError):  # a second SIGTERM does less harm than none
        pass
    finally:
        reader.close()
    return False


def _load(path: Path) -> dict[str, Stop]:
    """Return what an agent of this boot began, by writer id (hex)."""
    try:
        found = json.loads(path.read_text())
        if found["boot_id"] != boot_id():
            return {}
        return {str(writer): Stop.from_map(stop) for writer, stop in found["stops"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}

"""The duty that tells each process of the node that the machine will be taken away.

In: sources, asked in a thread of their own while processes run. Out: NOTICE evidence, once for each process.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from runfold.node.tail import WriterTail
from runfold.node.witness import Witness
from runfold.protocol.evidence import NOTICE

from .notice import NeverError, Notice, Source

logger = logging.getLogger(__name__)

#: A source that fails is asked less and less often, up to this, seconds.
LONGEST_WAIT_S = 60.0


class Notices:
    """Watches the sources. The thread starts with the first process that runs, and ends with the agent."""

    def __init__(
        self,
        witness: Witness,
        sources: Sequence[Source],
        *,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._witness = witness
        self._sources = list(sources)
        self._unix_clock = unix_clock
        #: What a source said: the notice that stands, or None.
        self._said: queue.SimpleQueue[tuple[str, Notice | None]] = queue.SimpleQueue()
        #: By system: the facts of the notice that stands.
        self._standing: dict[str, tuple[Notice, dict[str, object]]] = {}
        self._told: set[tuple[bytes, str, str]] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def writer_found(self, tail: WriterTail) -> None:
        """Begin to watch with the first process that runs."""
        if self._thread is None and self._sources and tail.is_alive and tail.identity.role == "process":
            self._thread = threading.Thread(target=self._watch, name="runfold-notices", daemon=True)
            self._thread.start()

    def writer_ended(self, tail: WriterTail) -> None:
        """Nothing to do: a notice tells why an end comes, not that it came."""

    def step(self, now_s: float) -> None:
        """Tell what was said; also processes that start while a notice stands."""
        del now_s
        while True:
            try:
                system, notice = self._said.get_nowait()
            except queue.Empty:
                break
            self._take(system, notice)
        if not self._standing:
            return
        for writer, _, is_alive in self._witness.processes():
            for system, (notice, facts) in self._standing.items():
                told = (writer, system, notice.ident)
                if is_alive and told not in self._told:
                    self._told.add(told)
                    self._witness.testify(writer, NOTICE, facts)

    def close(self) -> None:
        """Let the thread end; it is not waited for."""
        self._stop.set()

    def _take(self, system: str, notice: Notice | None) -> None:
        known = self._standing.get(system)
        if notice is None:
            self._standing.pop(system, None)
        elif known is None or known[0].ident != notice.ident:
            # Told later to another process it is the same notice, with the grace that was left now.
            self._standing[system] = (notice, notice.facts(self._unix_clock()))
            logger.warning("%s", notice.text, extra={"event": "preemption_notice", "system": system})

    # --- in the thread ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        left = {source.system: (source, 0.0) for source in self._sources}
        due_s = dict.fromkeys(left, 0.0)
        while left and not self._stop.is_set():
            for system, (source, wait_s) in list(left.items()):
                if time.monotonic() < due_s[system] or self._stop.is_set():
                    continue
                found = self._look(source, wait_s)
                if found is None:
                    del left[system], due_s[system]
                    continue
                left[system] = (source, found)
                due_s[system] = time.monotonic() + (found or source.every_s)
            if due_s:
                self._stop.wait(max(0.05, min(due_s.values()) - time.monotonic()))

    def _look(self, source: Source, wait_s: float) -> float | None:
        """Ask once; return how long to wait after a failure, 0 after an answer, None: never again."""
        try:
            self._said.put((source.system, source.look()))
        except NeverError as error:
            logger.warning(
                "no notices of %s: %s",
                source.system,
                error,
                extra={"event": "notices_off", "why": str(error)},
            )
            return None
        except (OSError, ValueError) as error:
            if not wait_s:
                logger.info("no notices of %s now: %s", source.system, error, extra={"event": "notices_away"})
            return min(LONGEST_WAIT_S, max(source.every_s, 2 * wait_s))
        except Exception:
            logger.exception("an answer of %s", source.system, extra={"event": "notices_fault"})
            return LONGEST_WAIT_S
        return 0.0

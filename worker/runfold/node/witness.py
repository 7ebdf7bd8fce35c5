"""What the agent has to say of processes: at once to the server, and durably into its own spool.

In: evidence from the duties. Out: control messages for the next exchange, records in the `NodeSpool`. The
message arrives within moments and may be lost; the record arrives once, whatever happens, and says the same.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from runfold.protocol.evidence import Evidence
from runfold.protocol.identity import Identity

from .node_spool import NodeSpool
from .writers import Writers

#: Messages that wait for a server; the oldest go first, since their records arrive anyway.
MAX_WAITING = 1000
#: Evidence that waits for room on the disk; of more, the oldest is lost, but for its message.
MAX_UNKEPT = 2000
#: Messages in one exchange.
MAX_AT_ONCE = 100
#: A server that refused messages so often in a row does not know them: it gets the records only.
MAX_REFUSALS = 20


class Witness:
    """Where the duties leave what they saw.

    `testify` and `processes` are thread-safe, the rest is for the agent's thread.
    """

    def __init__(
        self,
        writers: Writers,
        spool: NodeSpool,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.spool = spool
        self._writers = writers
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._waiting: deque[tuple[bytes, bytes]] = deque(maxlen=MAX_WAITING)
        self._offered: list[tuple[bytes, bytes]] = []
        self._unkept: deque[Evidence] = deque(maxlen=MAX_UNKEPT)
        self._refusals = 0

    def testify(
        self, writer: bytes, source: str, facts: Mapping[str, Any], *, t_ns: int | None = None
    ) -> bool:
        """Say what was seen of a writer's process; the same said twice is the same evidence.

        Args:
            t_ns: When it was seen (unix); None: now.

        Returns:
            Whether it will arrive even if the message is lost. If not, `keep` tries again.

        Raises:
            ProtocolError: Facts that can't be packed, or are too large. Nothing was said.
        """
        evidence = Evidence(writer, source, self._clock_ns() if t_ns is None else t_ns, facts)
        message = evidence.pack()
        is_kept = self.spool.add_evidence(evidence)
        with self._lock:
            if not is_kept:
                self._unkept.append(evidence)
            self._waiting.append((writer, message))
        return is_kept

    def keep(self) -> bool:
        """Write down what could not be when it was seen (the disk was full); return whether all is now."""
        while self._unkept:
            first = self._unkept[0]
            if not self.spool.add_evidence(first):
                return False
            with self._lock:
                if self._unkept[0] is first:  # else it has just made room for a newer one
                    self._unkept.popleft()
        return True

    def knows(self, writer: bytes) -> bool:
        """Return whether the agent still has this writer's spool before it."""
        return writer in self._writers.tails

    def processes(self) -> list[tuple[bytes, Identity, bool]]:
        """Return (writer id, identity, whether it is alive) of the processes that this node runs or ran."""
        return self._writers.processes()

    def offer(self) -> list[tuple[int, bytes]]:
        """Return (partition, message) to be sent with the next exchange."""
        with self._lock:
            self._offered = [self._waiting[at] for at in range(min(MAX_AT_ONCE, len(self._waiting)))]
        tails = self._writers.tails
        # Of a writer that was forgotten meanwhile, the record tells.
        return [(tails[writer].partition, message) for writer, message in self._offered if writer in tails]

    def answered(self, *, were_taken: bool) -> None:
        """The server took what was offered, or refused some of it: then all of it is offered again."""
        with self._lock:
            self._refusals = 0 if were_taken else self._refusals + 1
            if not were_taken and self._refusals < MAX_REFUSALS:
                return
            for one in self._offered:
                if self._waiting and self._waiting[0] is one:
                    self._waiting.popleft()
            self._offered = []

    def is_heard(self) -> bool:
        """Return True when no message waits."""
        return not self._waiting

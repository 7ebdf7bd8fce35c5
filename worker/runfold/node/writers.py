"""All writers of a target directory: found as they appear, watched while they live, removed when long acked.

In: the directory, what the shipper says is acked. Out: tails by writer id, news for the heartbeat, and
whether anything is still to be done.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from runfold.protocol.failpoints import hit
from runfold.protocol.identity import Identity
from runfold.protocol.streams import partition_of
from runfold.spool import list_writers
from runfold.spool.format import NO_SERVER

from . import retention
from .heartbeat import WriterNews
from .neighbours import ASK_EVERY_S, Neighbours
from .processes import ProcessWatch, boot_id, pid_namespace
from .shipper import Shipper
from .tail import WriterTail

logger = logging.getLogger(__name__)

#: A directory that can't be read as a spool (being made, damaged) is looked at again after this, seconds.
RETRY_SPOOL_S = 2.0
#: The heartbeat speaks of an ended and acked writer for this long after it was seen so.
REPORT_ENDED_S = 120.0
#: Writers that are taken in at once: an agent that comes to thousands must not be silent meanwhile. Fewer
#: would take longer in all, since a step costs something for every writer.
MOST_FOUND = 256
#: The spools of ended writers are looked at for no longer at once, seconds.
LONGEST_LOOK_S = 0.1


@dataclass(slots=True)
class _Life:
    """What the agent remembers of one writer beside its tail."""

    tail: WriterTail
    #: it ended, and everything in it was acked; since when (monotonic), at which seq.
    is_drained: bool = False
    drained_s: float = 0.0
    drained_at_seq: int = -1
    is_reported_dead: bool = False
    #: of another place: whether it still writes can't be seen from here.
    is_foreign: bool = False


class Writers:
    """The writers of one target directory, or of given spool directories. Not thread-safe."""

    def __init__(
        self,
        target_dir: Path | None,
        *,
        watch: ProcessWatch,
        shipper: Shipper,
        spools: Iterable[Path] = (),
        clock: Callable[[], float] = time.monotonic,
        host: str | None = None,
        boot: str | None = None,
        namespace: int | None = None,
    ) -> None:
        self.tails: dict[bytes, WriterTail] = {}
        self.partitions = 1
        self._target_dir = target_dir
        self._spools = list(spools)
        self._watch = watch
        self._shipper = shipper
        self._clock = clock
        self._neighbours = Neighbours(
            target_dir,
            host=host or socket.gethostname(),
            boot=boot or boot_id(),
            namespace=namespace or pid_namespace(),
            clock=clock,
        )
        self._lives: dict[bytes, _Life] = {}
        self._by_directory: dict[Path, bytes] = {}
        self._retry_s: dict[Path, float] = {}
        self._listed_mark: tuple[int, int] | None = None
        self._listed_s = -1e9
        #: those that will write no more, as the last `settle` found.
        self._ended: set[bytes] = set()

    # --- finding ----------------------------------------------------------------------------------------

    def discover(self, *, every_s: float = 1.0) -> list[WriterTail]:
        """Look for new writers; return those found, or the first of many: then the next look finds more.

        A look at an unchanged directory costs one stat.
        """
        now_s = self._clock()
        mark = self._directory_mark()
        due = now_s - self._listed_s >= every_s
        if mark == self._listed_mark and not due:
            return []
        self._listed_mark, self._listed_s = mark, now_s
        self._give_back()
        found = []
        for directory in self._directories():
            if directory in self._by_directory or self._retry_s.get(directory, -1e9) > now_s:
                continue
            tail = self._open(directory, now_s)
            if tail is not None:
                found.append(tail)
            if len(found) >= MOST_FOUND:
                self._listed_mark, self._listed_s = None, -1e9
                break
        return found

    def include(self, spools: Iterable[Path]) -> None:
        """Take in these spools too, where spools were named one by one."""
        self._spools += spools

    def _directories(self) -> list[Path]:
        if self._target_dir is None:
            return self._spools
        try:
            return list_writers(self._target_dir)
        except OSError:
            return []

    def _directory_mark(self) -> tuple[int, int] | None:
        if self._target_dir is None:
            return None
        try:
            stat = self._target_dir.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_nlink

    def _open(self, directory: Path, now_s: float) -> WriterTail | None:
        try:
            tail = WriterTail(directory)
            ack = tail.reader.header.ack
        except (OSError, ValueError) as error:
            if directory not in self._retry_s:
                logger.info(
                    "a directory is no spool that can be read, or not yet",
                    extra={"event": "spool_unreadable", "path": str(directory), "reason": str(error)},
                )
            self._retry_s[directory] = now_s + RETRY_SPOOL_S
            return None
        self._retry_s.pop(directory, None)
        if tail.writer in self.tails:  # the same spool under another path
            tail.close()
            self._by_directory[directory] = tail.writer
            return None
        if not self._neighbours.may_ship(tail.identity):
            tail.close()
            self._retry_s[directory] = now_s + ASK_EVERY_S
            return None
        tail.is_alive = self._begin_to_watch(tail)
        tail.partition = self._partition(tail)
        self.tails[tail.writer] = tail
        self._lives[tail.writer] = _Life(tail, is_foreign=not self._neighbours.is_here(tail.identity))
        self._by_directory[directory] = tail.writer
        server_id = b"" if ack.server_id == NO_SERVER else ack.server_id
        self._shipper.add(tail.writer, partition=tail.partition, acked=ack.seq, server_id=server_id)
        hit("agent.after_discover")
        return tail

    def _give_back(self) -> None:
        """The agent of another place is back: its spools are its own again."""
        for writer, life in list(self._lives.items()):
            if life.is_foreign and not self._neighbours.may_ship(life.tail.identity):
                self._retry_s[life.tail.directory] = self._clock() + ASK_EVERY_S
                self.forget(writer)

    # --- living and dying -------------------------------------------------------------------------------

    def _begin_to_watch(self, tail: WriterTail) -> bool | None:
        who = tail.identity
        if self._neighbours.is_of_an_earlier_boot(who):
            return False
        if not self._neighbours.is_here(who) or not who.pid:
            return None
        return self._watch.watch(tail.writer, who.pid, who.pid_start)

    def ended(self, writers: Iterable[bytes]) -> list[WriterTail]:
        """Processes ended: what their spools hold is now all there will be. Return their tails."""
        tails = [self.tails[writer] for writer in writers if writer in self.tails]
        for tail in tails:
            tail.is_alive = False
        return tails

    def news(self) -> list[WriterNews]:
        """Return what the heartbeat should say, of all but those that were acked whole a while ago."""
        now_s = self._clock()
        return [
            WriterNews(
                writer,
                life.tail.partition,
                life.tail.head_seq(),
                life.tail.is_alive,
                life.tail.phase(),
                is_stopped=life.tail.is_stopped,
            )
            for writer, life in self._lives.items()
            if not life.is_drained
            or now_s - life.drained_s < REPORT_ENDED_S
            or (life.tail.is_alive is False and not life.is_reported_dead)
        ]

    def reported(self, news: Iterable[WriterNews]) -> None:
        """The server took these news."""
        for one in news:
            if one.alive is False and one.writer in self._lives:
                self._lives[one.writer].is_reported_dead = True

    # --- what is left to do -----------------------------------------------------------------------------

    def settle(self) -> bool:
        """Note which writers ended, and let the readers of those rest that were acked whole.

        Call now and then. Returns True when one ended since the last call.
        """
        ended_before, self._ended = self._ended, set()
        ends_s = self._clock() + LONGEST_LOOK_S
        for writer, life in list(self._lives.items()):
            try:
                if life.tail.has_ended():
                    self._ended.add(writer)
                    if life.is_drained or self._clock() < ends_s:
                        self._settle_ended(life)
            except (OSError, ValueError):
                self.forget_broken(writer)
        return not self._ended <= ended_before

    def _settle_ended(self, life: _Life) -> None:
        acked = self._shipper.acked(life.tail.writer)
        if life.is_drained and life.drained_at_seq == acked:
            return
        life.is_drained = self._is_drained(life, acked)
        if life.is_drained:
            life.drained_at_seq, life.drained_s = acked, self._clock()
            life.tail.rest()

    def _is_drained(self, life: _Life, acked: int) -> bool:
        # It ended before this looks: what was written can be read now, and nothing will follow.
        return (
            acked >= life.tail.head_seq()
            and self._shipper.sent(life.tail.writer) == acked
            and life.tail.next_frame(acked + 1, 1) is None
        )

    def remove_old(self, *, now_unix_s: float, keep_s: float, keep_bytes: int) -> int:
        """Remove what retention lets go; return how many spools went."""
        held = []
        share_bytes = keep_bytes // max(1, len(self._lives))
        for writer, life in list(self._lives.items()):
            try:
                if life.is_drained:
                    held.append(retention.measure(writer, life.tail.directory))
                else:
                    # A live process may want to read back what it logged: only the quota takes that.
                    age_s = keep_s if life.is_foreign else float("inf")
                    life.tail.reader.remove_acked(age_s, share_bytes)
            except (OSError, ValueError):
                self.forget_broken(writer)
        chosen = retention.choose(held, now_unix_s=now_unix_s, keep_s=keep_s, keep_bytes=keep_bytes)
        for one in chosen:
            if retention.remove(one.directory):
                self.forget(one.writer)
        return len(chosen)

    def forget(self, writer: bytes) -> None:
        """Let go of a writer: its spool was removed, or can't be used."""
        life = self._lives.pop(writer)
        del self.tails[writer]
        self._by_directory = {at: found for at, found in self._by_directory.items() if found != writer}
        self._watch.forget(writer)
        self._shipper.remove(writer)
        life.tail.close()

    def forget_broken(self, writer: bytes) -> None:
        """Let go of a writer whose spool can't be used now, and look at its directory again later."""
        directory = self.tails[writer].directory
        self.forget(writer)
        self._retry_s[directory] = self._clock() + RETRY_SPOOL_S

    def close(self) -> None:
        """Close every reader; what was not delivered stays in the spools."""
        self._neighbours.close()
        for tail in self.tails.values():
            tail.close()

    def processes(self) -> list[tuple[bytes, Identity, bool]]:
        """Return (writer id, identity, whether it is alive) of this place's processes. Thread-safe."""
        return [
            (life.tail.writer, life.tail.identity, life.tail.is_alive)
            for life in list(self._lives.values())
            if life.tail.is_alive is not None and life.tail.identity.role == "process"
        ]

    def open_count(self) -> int:
        """Return how many writers of this place may still write, as the last `settle` found.

        Agents write for others only: what they keep is a reason to deliver, none to stay.
        """
        return sum(
            writer not in self._ended and not self._is_not_awaited(life)
            for writer, life in self._lives.items()
        )

    def are_all_acked(self) -> bool:
        """Return True when everything that was written so far is acked."""
        return all(self._shipper.acked(writer) >= tail.head_seq() for writer, tail in self.tails.items())

    def are_deaths_told(self) -> bool:
        """Return True when the server was told of every process that is gone."""
        return all(life.is_reported_dead or life.tail.is_alive is not False for life in self._lives.values())

    def are_all_drained(self) -> bool:
        """Return True when every writer ended and was acked whole, and every death was told.

        Of those that nobody here waits for (of another place, an agent's own) what they wrote so far counts.
        """
        return self.are_deaths_told() and all(
            life.is_drained
            or (self._is_not_awaited(life) and self._shipper.acked(writer) >= life.tail.head_seq())
            for writer, life in self._lives.items()
        )

    def _is_not_awaited(self, life: _Life) -> bool:
        is_own = life.tail.identity.role == "node"
        return life.is_foreign or (is_own and life.tail.writer not in self._ended)

    def is_all_sent(self) -> bool:
        """Return True when everything that was written so far is at least on its way."""
        return all(self._shipper.sent(writer) >= tail.head_seq() for writer, tail in self.tails.items())

    # --- partitions -------------------------------------------------------------------------------------

    def set_partitions(self, count: int) -> None:
        """The server spreads runs over another number of streams: everything goes to its new place."""
        if count == self.partitions:
            return
        self.partitions = count
        for writer, tail in self.tails.items():
            partition = self._partition(tail)
            if partition != tail.partition:
                tail.partition = partition
                ack = tail.reader.header.ack
                self._shipper.remove(writer)
                server_id = b"" if ack.server_id == NO_SERVER else ack.server_id
                self._shipper.add(writer, partition=partition, acked=ack.seq, server_id=server_id)

    def _partition(self, tail: WriterTail) -> int:
        return partition_of(tail.identity.run_path, tail.identity.group, self.partitions)

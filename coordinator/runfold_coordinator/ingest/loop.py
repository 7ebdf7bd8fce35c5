"""One partition's thread: read, apply, trim, acknowledge; judge silence; wait out what passes.

Delivery rule: commit, then trim, then ack. What is lost in between is sent again and found to be a duplicate.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from runfold.protocol import failpoints
from runfold.protocol.errors import ProtocolError
from runfold.protocol.evidence import Evidence, control_kind
from runfold.protocol.streams import Heartbeat
from runfold_coordinator.clock import Clock
from runfold_coordinator.downlink import Downlink
from runfold_coordinator.ingest.measures import ControlCounts, Durations
from runfold_coordinator.ingest.transaction import Counts, Ingest
from runfold_coordinator.liveness import Liveness
from runfold_coordinator.state_board import StateBoard
from runfold_coordinator.store.errors import FencedError, StoreError, StoreFullError
from runfold_coordinator.stream_reader import (
    BATCH_ENTRIES,
    START,
    Read,
    StreamReader,
    StreamUnavailableError,
    is_behind,
)

logger = logging.getLogger(__name__)

#: Longest wait in Redis for something to read.
BLOCK_S = 0.1
TICK_EVERY_S = 0.5
#: How often a loop that commits nothing asks whether the partition is still its own.
OWNER_EVERY_S = 5.0
MAX_BACKOFF_S = 2.0
#: A turn of the loop that took longer was a stall: nobody could have been heard meanwhile.
STALL_S = 5.0
#: Deaths over one single entry that make it a dead letter.
MAX_DEATHS = 5


@dataclass(slots=True)
class Attempt:
    """The batch being worked on, in a file: if it is there after a death, the batch may have been the cause.

    The file needs no sync: it has to outlive the process, not the machine.
    """

    path: Path
    cursor: str = ""
    entry_count: int = 0
    deaths: int = 0

    @classmethod
    def load(cls, path: Path) -> Attempt:
        try:
            found = json.loads(path.read_text())
            return cls(path, str(found["cursor"]), int(found["entry_count"]), int(found["deaths"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path)

    def save(self, cursor: str, entry_count: int) -> None:
        self.cursor, self.entry_count = cursor, entry_count
        text = json.dumps({"cursor": cursor, "entry_count": entry_count, "deaths": self.deaths})
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(fd, text.ljust(120).encode(), 0)
            finally:
                os.close(fd)
        except OSError:  # a full disk: the count is a help against poison, no condition
            pass


class ReadAhead:
    """Reads one batch ahead, in a thread of its own, on a connection of its own."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="runfold-read-ahead")
        self._cursor = ""
        self._batch: Future[Read] | None = None
        #: When the batch was asked for.
        self.asked_s = 0.0

    def fetch(self, cursor: str, max_entries: int, now_s: float) -> None:
        """Start to read what lies after the cursor."""
        self.take("")
        self._cursor, self.asked_s = cursor, now_s
        self._batch = self._pool.submit(
            self._reader.read, START, cursor, block_s=0.001, max_entries=max_entries
        )

    def take(self, cursor: str) -> Read | None:
        """Return the batch after the cursor if that one was fetched; what was fetched for another is dropped.

        Raises:
            StreamUnavailableError: It was, in vain.
        """
        batch, self._batch = self._batch, None
        if batch is None:
            return None
        if self._cursor == cursor:
            return batch.result()
        wait([batch])
        return None

    def close(self) -> None:
        """End the thread and drop the connection; idempotent."""
        self._pool.shutdown(cancel_futures=True)
        self._reader.close()


class IngestLoop:
    """Runs until stop(). `is_connected` and `fault` tell how it stands; a fenced loop ends by itself."""

    def __init__(
        self,
        reader: StreamReader,
        ingest: Ingest,
        downlink: Downlink,
        *,
        liveness: Liveness,
        board: StateBoard,
        clock: Clock,
        attempt_path: Path,
        free_ballast: Callable[[], None],
        ahead: StreamReader | None = None,
        on_fenced: Callable[[str], None] = lambda _why: None,
    ) -> None:
        """Prepare; start() claims the partition.

        Args:
            ahead: A second connection, which fetches the next batch of a backlog while one is committed.
            on_fenced: Told, in this loop's thread, that another coordinator owns the partition now, and why
                this is known.
        """
        self._reader = reader
        self._ingest = ingest
        self._downlink = downlink
        self._liveness = liveness
        self._board = board
        self._clock = clock
        self._attempt = Attempt.load(attempt_path)
        self._free_ballast = free_ballast
        self._ahead = None if ahead is None else ReadAhead(ahead)
        self._on_fenced = on_fenced
        self._max_entries = BATCH_ENTRIES
        self._untrimmed: str | None = None
        self._next_tick_s = 0.0
        self._next_check_s = 0.0
        self._next_owner_s = 0.0
        #: Called in this loop's thread at each tick, after the states are judged.
        self.judges: list[Callable[[], None]] = []
        self._judge_fault = ""
        #: For whoever watches the coordinator: read without a lock.
        self.commits = Durations()
        self.control = ControlCounts()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runfold-ingest", daemon=True)
        self.cursor = START
        self.is_connected = False
        self.is_fenced = False
        #: Why it waits, "" while it works.
        self.fault = ""

    @property
    def beat(self) -> int:
        """Grows while the loop lives."""
        return self._downlink.beat

    @property
    def stacks(self) -> bytes:
        """Open requests for stacks, packed; b"" while there are none."""
        return self._downlink.stacks

    @property
    def counts(self) -> Counts:
        """What happened to entries since start."""
        return self._ingest.counts

    def start(self) -> None:
        """Claim the partition and start the thread."""
        self.cursor = self._ingest.claim()
        attempt = self._attempt
        if attempt.cursor == self.cursor and attempt.entry_count:
            # The process died in this batch: go on in smaller ones, until the entry at fault stands alone.
            self._max_entries = max(1, attempt.entry_count // 2)
            attempt.deaths = attempt.deaths + 1 if attempt.entry_count == 1 else 0
        else:
            attempt.deaths = 0
        self._liveness.renew()
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """End after the batch in work; idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._ahead is not None:
            self._ahead.close()

    def _run(self) -> None:
        delay_s = 0.0
        last_turn_s = self._clock.mono_s()
        while not self._stopping.is_set():
            now_s = self._clock.mono_s()
            if now_s - last_turn_s > STALL_S:
                self._liveness.renew()
            last_turn_s = now_s
            try:
                self.turn()
                delay_s, self.fault = 0.0, ""
                continue
            except FencedError as error:
                self.fault, self.is_fenced = str(error), True
                logger.error(  # noqa: TRY400 - no bug of ours: the message says it all
                    "another coordinator has taken the partition",
                    extra={"event": "ingest_fenced", "why": str(error)},
                )
                self._on_fenced(str(error))
                return
            except StreamUnavailableError as error:
                self.is_connected = False
                self._liveness.renew()
                self._note_fault("redis_unavailable", error)
            except StoreError as error:
                self._liveness.renew()
                if isinstance(error, StoreFullError):
                    self._free_ballast()
                self._note_fault("store_unavailable", error)
                self._reload_cursor()
            except Exception as error:
                logger.exception("a turn of the ingest loop failed", extra={"event": "ingest_failed"})
                self._note_fault("ingest_failed", error)
                self._reload_cursor()
            delay_s = min(MAX_BACKOFF_S, max(0.05, delay_s * 2))
            self._stopping.wait(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    def turn(self) -> None:
        """Do one round; also what tests call."""
        asked_s = self._clock.mono_s() if self._ahead is None else self._ahead.asked_s
        found = None if self._ahead is None else self._ahead.take(self.cursor)
        if found is None:
            asked_s = self._clock.mono_s()
            # Control is trimmed as soon as it is heard: what is there is new, whatever its ids.
            found = self._reader.read(START, self.cursor, block_s=BLOCK_S, max_entries=self._max_entries)
        self.is_connected = True
        failpoints.hit("ingest.after_read")
        heard = [evidence for message in found.control if (evidence := self._hear(message)) is not None]
        if not found.has_more_control:
            # Whoever spoke before this was asked for has been heard; what this process sleeps through from
            # here on is nobody's silence.
            self._liveness.listened(asked_s)
        has_entries = bool(found.entries)
        if has_entries:
            self._apply(found)
        now_s = self._clock.mono_s()
        is_due = now_s >= self._next_tick_s
        if heard or is_due or self._liveness.is_urgent:
            self._tick(heard)
        if is_due:
            self._next_tick_s = now_s + TICK_EVERY_S
            self._judge()
        if self._untrimmed is not None:
            self._reader.trim(cursor=self._untrimmed)
            self._untrimmed = None
            failpoints.hit("ingest.after_trim")
        if found.control:
            self._reader.trim(control_cursor=found.control_cursor)
        if not has_entries and now_s >= self._next_check_s:
            self._next_check_s = now_s + TICK_EVERY_S
            self._check_cursor()
        if now_s >= self._next_owner_s:
            self._next_owner_s = now_s + OWNER_EVERY_S
            if not has_entries:
                self._ingest.ask_owner()
        self._downlink.publish(self.cursor)
        if has_entries:
            failpoints.hit("ingest.after_ack")

    def _apply(self, found: Read) -> None:
        self._attempt.save(self.cursor, len(found.entries))
        if self._ahead is not None and found.is_full:
            self._ahead.fetch(found.cursor, self._max_entries, self._clock.mono_s())
        if len(found.entries) == 1 and self._attempt.deaths >= MAX_DEATHS:
            reason = f"the coordinator died {self._attempt.deaths} times over this entry"
            applied = self._ingest.bury(found.entries[0], found.cursor, reason)
        else:
            began_s = self._clock.mono_s()
            applied = self._ingest.apply(found.entries, found.cursor)
            self.commits.note(self._clock.mono_s() - began_s)
        self._attempt.deaths = 0
        self._max_entries = min(BATCH_ENTRIES, self._max_entries * 2)
        self.cursor = self._untrimmed = applied.cursor
        self._downlink.note(applied.acks)

    def _hear(self, message: bytes) -> Evidence | None:
        """Take a heartbeat; return evidence, which has to be stored before the message may go."""
        try:
            kind, found = control_kind(message)
            if kind == "evidence":
                evidence = Evidence.from_message(found)
                self.control.evidence += 1
                return evidence
            self._liveness.hear(Heartbeat.from_message(found))
            self.control.heartbeats += 1
        except ProtocolError as error:
            self.control.bad += 1
            logger.warning(
                "a control message does not decode", extra={"event": "bad_control", "why": str(error)}
            )
        return None

    def _tick(self, heard: list[Evidence]) -> None:
        try:
            self._board.tick(heard)
        except StoreError:
            raise
        except Exception:
            if not heard:
                raise
            # It must not stop the stream: the agent's spool brings it once more, and there it
            # would become a dead letter.
            logger.exception("evidence could not be stored", extra={"event": "evidence_failed"})
            self._board.tick()

    def _judge(self) -> None:
        """Let others judge what the states do not tell; a fault of theirs stops nothing."""
        for judge in self.judges:
            try:
                judge()
            except StoreError:
                raise
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                if text != self._judge_fault:
                    logger.exception("a judge failed", extra={"event": "judge_failed"})
                self._judge_fault = text

    def _check_cursor(self) -> None:
        """Begin anew on a stream that has begun anew; what it still has of old is found to be duplicates."""
        if is_behind(self._reader.last_id(), self.cursor):
            logger.info("the stream has begun anew", extra={"event": "cursor_reset", "cursor": self.cursor})
            self.cursor = START

    def _reload_cursor(self) -> None:
        try:
            self.cursor = self._ingest.committed_cursor()
        except StoreError:  # still away; the next turn reads from the old cursor, which is safe too
            pass

    def _note_fault(self, event: str, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != self.fault:
            logger.warning("ingest waits", extra={"event": event, "why": text})
        self.fault = text

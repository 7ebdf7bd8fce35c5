"""Recorder: one writer of one run in this process. In: log() calls and records. Out: bytes in its spool.

Owns the lock, the step counter and the cache of row schemas; knows nothing of networks.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from runfold import terminal
from runfold.errors import UsageError
from runfold.family_step import FamilyStep
from runfold.log_arguments import check_commit, check_step
from runfold.log_values import Cell, flatten
from runfold.media.encoder import encoder
from runfold.media.media import Media, MediaList
from runfold.media.media_row import MediaCells, MediaRow, OpenMedia, hold
from runfold.protocol.errors import LimitError
from runfold.protocol.records import RecordKind, RowMap
from runfold.protocol.rows import COMMIT_FALSE, COMMIT_TRUE, STEP_GIVEN, RowSchema
from runfold.recorder_spool import Spool
from runfold.row_schemas import NO_WAY, RowSchemas, Way

#: What a slot refuses, before anything was written: an int over 64 bits, a value that is no number after all.
_MISFIT = (struct.error, OverflowError, TypeError, ValueError)
_WARN_EVERY_S = 60.0
_MAX_STEP = 2**63 - 1


class Recorder:
    """Appends what one process says of one run. Thread-safe, and safe in signal handlers and after fork.

    A call that finds its own thread inside an append (a signal handler, a destructor) is carried out right
    after it. A fork's child opens a spool of its own when it first says something.
    """

    __slots__ = (
        "_append_row",
        "_busy",
        "_deferred",
        "_family",
        "_family_words",
        "_last_way",
        "_lock",
        "_open_media",
        "_open_spool",
        "_row_schemas",
        "_spool",
        "_step",
        "_ways",
        "is_ended",
        "left_out_count",
        "on_left_out",
        "on_media",
        "on_pickle",
        "rows_count",
        "run_id",
    )

    def __init__(
        self, run_id: str, open_spool: Callable[[int], Spool], *, start_step: int = 0, is_lazy: bool = False
    ) -> None:
        """Open the spool, at once or with the first record; again in a fork's child, with its first step."""
        self.run_id = run_id
        self._open_spool = open_spool
        self._step = start_step
        #: Rows that log() took in this process, kept or not.
        self.rows_count = 0
        #: Set once this process may have children that log into the same run.
        self._family: FamilyStep | None = None
        self._family_words: memoryview | None = None
        #: Takes what follows a row that holds media, inside of an append: it must return at once.
        self.on_media: Callable[[MediaRow], None] = _forget_media
        #: Values that were too large for their rows, and who tells of them: step, then (key, reason) of each.
        self.left_out_count = 0
        self.on_left_out: Callable[[int, list[tuple[str, LimitError]]], None] = _forget_left_out
        #: Returns what stands for this in a pickle: `run.log` is a method of the recorder.
        self.on_pickle: Callable[[], tuple[Any, ...]] = _refuse_pickle
        #: No more records: the run is finished for this process.
        self.is_ended = False
        self._reset_lock()
        self._take(None if is_lazy else open_spool(start_step))

    def __reduce__(self) -> tuple[Any, ...]:
        return self.on_pickle()

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def _reset_lock(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: deque[Callable[[], None]] = deque()
        #: Rows whose media have not followed yet.
        self._open_media = OpenMedia()
        self._row_schemas = RowSchemas()
        #: (keys, types of the values) of a flat dict -> its schema; empty when no row may be logged.
        self._ways = self._row_schemas.by_types
        #: That of the last row: most rows are like the one before, and comparing costs less than hashing.
        self._last_way: Way = NO_WAY

    def _take(self, spool: Spool | None) -> None:
        self._spool = spool
        self._append_row: Callable[[RowSchema, int, int, Any], bool] = (
            _go_the_slow_way if spool is None else spool.append_row
        )

    def _forget_ways(self) -> None:
        self._ways = {}
        self._last_way = NO_WAY
        # A log() of another thread may have found its way before, or remember it only now.
        self._append_row = _go_the_slow_way

    @property
    def spool(self) -> Spool | None:
        """The spool; None in a fork's child that has said nothing yet."""
        return self._spool

    @property
    def step(self) -> int:
        """The step that the next log() without `step` will use."""
        family = self._family
        return max(self._step, family.next_step) if family is not None and family.has_children else self._step

    def log(self, data: Any, step: Any = None, commit: Any = None, sync: Any = None) -> None:  # noqa: ARG002
        """Append one row. See Run.log."""
        # The hot path: 8 floats in about 2 us. Everything unusual goes to _log_slowly.
        if type(data) is dict and commit is None:
            values = data.values()
            keys, types, schema = self._last_way
            if [*data] != keys or [*map(type, values)] != types:
                self._last_way = way = self._ways.get((*data, *map(type, values)), NO_WAY)
                schema = way[2]
            if schema is not None and (step is None or (type(step) is int and 0 <= step <= _MAX_STEP)):
                with self._lock:
                    family = self._family_words
                    if not self._busy and (family is None or not family[0]):
                        self._busy = True
                        try:
                            current = self._step
                            if step is None:
                                kept = self._append_row(schema, 0, current, values)
                                self._step = current + 1
                            else:
                                kept = self._append_row(schema, STEP_GIVEN, step, values)
                                if step > current:
                                    self._step = step
                            if family is not None:
                                family[1] = self._step
                            self.rows_count += 1
                            if not kept:
                                self._tell_loss()
                            return
                        except _MISFIT:
                            pass  # nothing was written: a value needs the slow way
                        finally:
                            self._busy = False
                            if self._deferred:
                                self._run_deferred()
        self._log_slowly(data, step, commit)

    def _log_slowly(self, data: Any, step: Any, commit: Any) -> None:
        self.check_active("log")
        left_out: list[tuple[str, LimitError]] = []
        cells = flatten(data, lambda key, error: left_out.append((key, error)))
        said_step, said_commit = check_step(step), check_commit(commit)
        if said_step is not None and said_step < 0:
            terminal.warn(
                f"Tried to log to step {said_step}: steps begin at 0, so this data will be ignored."
            )
            return
        if left_out:
            self.left_out_count += len(left_out)
            self.on_left_out(self._step if said_step is None else said_step, left_out)
        media = [cell for cell in cells if isinstance(cell[1], (Media, MediaList))]
        if media:
            hold(media)
            self._append(lambda: self._append_with_media(cells, said_step, said_commit, media))
            encoder.relieve()
            return
        key = (*data, *map(type, data.values())) if type(data) is dict else None
        self._append(lambda: self._append_plain(cells, said_step, said_commit, key))

    def append_media(self, row: MediaRow, said: MediaCells) -> None:
        """Append what follows a row with media. Does not count as a call of log().

        Args:
            said: Under the path of each medium that could be stored, its leaves.
        """
        self._append(lambda: self._append_rest(row, said))

    def begin(self) -> None:
        """Open the spool if nothing was said in this process yet: from then on it has a writer of its own."""
        self._append(lambda: None)

    def append(self, kind: RecordKind, payload: bytes) -> None:
        """Append one record that is not a row."""
        self._append(lambda: self._append_payload(kind, payload))

    def append_if_active(self, kind: RecordKind, payload: bytes, *, timeout_s: float = 1.0) -> None:
        """Append from a signal handler: without raising, and without waiting long for another thread."""
        if self.is_ended or not self._lock.acquire(timeout=timeout_s):
            return
        try:
            self._append(lambda: self._append_payload(kind, payload))
        except UsageError:
            return
        finally:
            self._lock.release()

    def defer(self, action: Callable[[], None]) -> bool:
        """Run `action` after the append that is under way in this thread; False when none is."""
        # Only the owner of the lock sees itself busy; another thread's append is none of ours.
        if not self._busy or not self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001  # as Condition does
            return False
        self._deferred.append(action)
        return True

    def check_active(self, call: str) -> None:
        """Raise UsageError when the run is finished."""
        if self.is_ended:
            raise UsageError(
                f"Run ({self.run_id}) is finished. The call to `{call}` will be ignored. "
                "Please make sure that you are using an active run."
            )

    def end(self, last: bytes | None) -> None:
        """Append the EXIT record, if there is one, and close the spool. Harmless when repeated."""
        with self._lock:
            if self.is_ended:
                return
            if self._spool is None:  # a fork's child that said nothing
                self.is_ended = True
                return
            if last is not None:
                self._append(lambda: self._append_payload(RecordKind.EXIT, last))
            self.is_ended = True
            self._forget_ways()
            self._spool.close(final=True)

    def end_with_status(self, last: bytes, at_last: Callable[[int], bool]) -> None:
        """End as `end` does, with the status in the EXIT record that the process turns out to have.

        Where that can't be learnt it is 0: what left by SystemExit was most often main()'s 0.
        """
        with self._lock:
            if not self.is_ended and self._spool is not None and self._spool.close_with_status(last, at_last):
                self.is_ended = True
                self._forget_ways()
        self.end(last)

    @property
    def family(self) -> FamilyStep | None:
        """The counter that is shared with children."""
        return self._family

    def share_step(self, family: FamilyStep) -> None:
        """Count together with children from now on: a fork's, or those that get the run by pickle."""
        with self._lock:
            if self._spool is not None and not family.has_children:
                family.publish(self._step)
            self._family, self._family_words = family, family.words

    def reset_after_fork(self) -> None:
        """In the child of a fork: forget the parent's spool and whatever lock another thread held."""
        self._reset_lock()
        self.rows_count = self.left_out_count = 0
        self._take(None)

    def _append(self, action: Callable[[], None]) -> None:
        with self._lock:
            if self._busy:
                self._deferred.append(lambda: self._append(action))
                return
            self._busy = True
            try:
                if self._spool is None:
                    self._open()
                self._run(action)
            finally:
                self._busy = False
                if self._deferred:
                    self._run_deferred()

    def _open(self) -> None:
        if self._family is not None:
            self._step = max(self._step, self._family.join())
        self._take(self._open_spool(self._step))

    def _run(self, action: Callable[[], None]) -> None:
        """Run an append, in turn with the other processes of the family."""
        family = self._family
        if family is None:
            action()
        elif not family.has_children:
            action()
            family.publish(self._step)
        else:
            with family.turn():
                self._step = max(self._step, family.next_step)
                action()
                family.publish(self._step)

    def _run_deferred(self) -> None:
        while self._deferred and not self._busy:
            self._deferred.popleft()()

    def _append_payload(self, kind: RecordKind, payload: bytes) -> None:
        assert self._spool is not None, "_append opens the spool"
        if not self._spool.append_record(kind, payload):
            self._tell_loss()

    def _append_cells(
        self, cells: list[Cell], step: int | None, commit: bool | None, key: tuple[object, ...] | None
    ) -> None:
        spool = self._spool
        assert spool is not None, "_append opens the spool"
        current = self._step
        row = current if step is None else step
        flags = STEP_GIVEN if step is not None else 0
        if commit is not None:
            flags |= COMMIT_TRUE if commit else COMMIT_FALSE
        schema = self._row_schemas.find(cells, key)
        if schema is not None:
            kept = spool.append_row(schema, flags, row, [value for _, value in cells])
        else:
            kept = spool.append_record(RecordKind.ROW_MAP, RowMap(row, tuple(cells)).pack(), flags)
        if step is None:
            if commit is not False:
                self._step = current + 1
        elif step >= current:
            self._step = step + 1 if commit else step
        self.rows_count += 1
        if not kept:
            self._tell_loss()

    def _append_plain(
        self, cells: list[Cell], step: int | None, commit: bool | None, key: tuple[object, ...] | None
    ) -> None:
        self._open_media.supersede(self._step if step is None else step, cells)
        self._append_cells(cells, step, commit, key)

    def _append_with_media(
        self, cells: list[Cell], step: int | None, commit: bool | None, media: MediaCells
    ) -> None:
        """Append a row with the kinds of its media only; it stays open until they, or a later row, come.

        Open, it takes them in its turn; what comes to a closed row makes readers fold everything again.
        """
        number = self._step
        row = number if step is None else step
        commits = step is None if commit is None else commit
        following = MediaRow(row, number, commits, media)
        self._append_cells(self._open_media.open(following, cells), row, False, None)
        if commits and row >= number:
            self._step = row + 1
        # Until then every row goes the slow way, and is looked at: it may say something else for their keys.
        self._append_row = _go_the_slow_way
        self.on_media(following)

    def _append_rest(self, row: MediaRow, said: MediaCells) -> None:
        self._append_cells(self._open_media.close(row, said), row.step, row.commits, None)
        self.rows_count -= 1
        if not self._open_media and self._spool is not None and not self.is_ended:
            self._append_row = self._spool.append_row

    def _tell_loss(self) -> None:
        dropped = self._spool.dropped_count if self._spool is not None else 0
        terminal.warn_at_most_every(
            _WARN_EVERY_S,
            "loss",
            f"run {self.run_id}: {dropped} records could not be kept (disk full or quota reached). "
            "Training goes on; the loss is counted and shown on the run",
        )


def _forget_media(_: MediaRow) -> None:
    return


def _refuse_pickle() -> tuple[Any, ...]:
    raise TypeError("a recorder belongs to its process")


def _forget_left_out(_step: int, _left_out: list[tuple[str, LimitError]]) -> None:
    return


def _go_the_slow_way(*_: Any) -> bool:
    raise struct.error("no spool is open: the slow way opens it, or tells that the run is finished")

"""FamilySpools: what processes said that share a run by fork or pickle, in the order in which they said it.

In: the spool of the process that made the run; its children enrol in a file there, 16 bytes each. Out: pieces
for a WriterFold. A run without children costs a look for that file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from runfold.node.processes import is_alive, pid_namespace
from runfold.protocol.history.seq_order import in_seq_order
from runfold.protocol.history.time_order import Piece, TimeOrder
from runfold.protocol.identity import Identity
from runfold.protocol.limits import WRITER_ID_BYTES
from runfold.protocol.records import RecordKind
from runfold.spool.errors import SpoolDamagedError
from runfold.spool.format import HEADER_NAME
from runfold.spool.header import read_progress
from runfold.spool.reader import RELEASED, SpoolReader

#: Name of the file in the maker's spool: the ids of its children's writers, and of theirs, as they joined.
ROLL_NAME = "family"
#: Read of one spool at a time, at least.
_LEAST_BYTES = 4096
#: With more processes than this spools are not kept open, and it is looked whether processes still live.
_MANY = 16


def enrol(family: Path, directory: Path) -> None:
    """Add a child's spool to the file in the maker's. Raises OSError."""
    fd = os.open(family / ROLL_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, bytes.fromhex(directory.name))
    finally:
        os.close(fd)


class FamilySpools:
    """Reads the spools of a family, always on from where it stopped before. Not thread-safe."""

    def __init__(self, directory: Path, family: Path | None) -> None:
        """Take the spool of this process, and of the one that made the run; None: this one alone is read."""
        self._family = family
        self._roll = os.fspath(family / ROLL_NAME) if family is not None else None
        #: Those of which more may come, by number.
        self._members: dict[int, _Member] = {}
        self._names: set[str] = set()
        self._roll_read = 0
        self._order = TimeOrder()
        #: False once something is missing: it was delivered and released, or its spool is gone.
        self.is_whole = True
        maker = family or directory
        self._add(maker, is_maker=True, is_own=directory == maker)
        self._add(directory, is_maker=directory == maker, is_own=True)

    def read(self, max_bytes: int) -> list[Piece]:
        """Return the next pieces, about `max_bytes` of them; none when there is nothing new."""
        self._look_at_the_roll()
        members = list(self._members.items())
        share = max(_LEAST_BYTES, max_bytes // max(1, len(members)))
        for number, member in members:
            if not self._order.is_waiting(number):
                self._order.add(number, self._read(number, member, share))
        return self._order.take()

    def close(self) -> None:
        """Let go of the files; the next read opens them again."""
        for member in self._members.values():
            member.close()

    def _read(self, number: int, member: _Member, max_bytes: int) -> list[Piece]:
        are_many = len(self._members) > _MANY
        try:
            pieces = member.read(max_bytes, is_living_asked=are_many)
        except (OSError, SpoolDamagedError) as error:
            # No descriptors left, or a segment that was released at this moment, say: next time.
            pieces, member.is_over = [], isinstance(error, SpoolDamagedError) or member.is_gone
            self.is_whole = self.is_whole and not member.is_over
        self.is_whole = self.is_whole and member.is_whole
        if member.is_over:
            del self._members[number]
        if member.is_over or are_many:
            member.close()
        return pieces

    def _add(self, directory: Path, *, is_maker: bool = False, is_own: bool = False) -> None:
        if directory.name not in self._names:
            self._members[len(self._names)] = _Member(directory, is_maker=is_maker, is_own=is_own)
            self._names.add(directory.name)

    def _look_at_the_roll(self) -> None:
        # Most runs have none: a look must cost less than an exception.
        if self._family is None or self._roll is None or not os.access(self._roll, os.F_OK):
            return
        for name in _names_in(self._roll, self._roll_read):
            self._roll_read += WRITER_ID_BYTES
            self._add(self._family.with_name(name))


class _Member:
    """One spool of a family."""

    def __init__(self, directory: Path, *, is_maker: bool, is_own: bool) -> None:
        self._directory = directory
        self._is_own = is_own
        self._is_maker = is_maker
        self._reader: SpoolReader | None = None
        self._who: Identity | None = None
        self._next_seq = 1
        self.is_whole = True
        #: All of it was read, and no more will come.
        self.is_over = False

    def read(self, max_bytes: int, *, is_living_asked: bool) -> list[Piece]:
        """Return what was said next. Raises OSError, SpoolDamagedError."""
        if self._reader is None:
            if not self._has_more():
                # Looked at once more: it may have said something just before it died.
                self.is_over = is_living_asked and self._has_died() and not self._has_more()
                return []
            self._reader = SpoolReader(self._directory)
            self._who = self._reader.identity
        reader = self._reader
        # Asked before reading: what came in between is found by the next read. This process goes on itself.
        is_over = not self._is_own and (reader.header.closed or (is_living_asked and self._has_died()))
        while (batch := reader.read(self._next_seq, max_bytes=max_bytes)) is not None:
            self._next_seq = batch.hi + 1
            if any(gap.why == RELEASED for gap in batch.gaps):
                self.is_whole = False
            others = batch.others
            if not self._is_maker:  # a child's end is not the run's: its open row waits for the next one
                others = [record for record in others if record.kind != RecordKind.EXIT]
            if pieces := in_seq_order(batch.blocks, others):
                return list(pieces)
        self.is_over = is_over
        return []

    @property
    def is_gone(self) -> bool:
        """Whether the spool was removed."""
        return not self._directory.exists()

    def close(self) -> None:
        """Let go of the files. Harmless when repeated."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _has_more(self) -> bool:
        if self._next_seq == 1:
            return True
        progress = read_progress(self._directory / HEADER_NAME)
        return progress is None or progress[0].is_closed or progress[0].head_seq >= self._next_seq

    def _has_died(self) -> bool:
        who = self._who
        if self._is_own or who is None or who.pid is None or who.pid_namespace != pid_namespace():
            return False
        return not is_alive(who.pid, who.pid_start)


def _names_in(roll: str, offset: int) -> Iterator[str]:
    try:
        fd = os.open(roll, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        data = os.pread(fd, max(0, os.fstat(fd).st_size - offset), offset)
    except OSError:
        return
    finally:
        os.close(fd)
    for at in range(0, len(data) - WRITER_ID_BYTES + 1, WRITER_ID_BYTES):
        yield data[at : at + WRITER_ID_BYTES].hex()

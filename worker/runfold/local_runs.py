"""What the spools of this machine know of a run: how far it is, what it said. In: folders. Out: `LocalRun`.

For runs that go on offline, and for rows that the server has not got yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runfold.live_fold import LiveFold
from runfold.node.processes import is_alive
from runfold.node.settings import OFFLINE_TARGET, NodeSettings
from runfold.protocol.branching import REWIND
from runfold.protocol.errors import ProtocolError
from runfold.protocol.identity import Identity
from runfold.protocol.records import ConfigRecord, Record, RecordKind, RowMap
from runfold.spool.directory import list_writers, segment_sizes
from runfold.spool.format import HEADER_NAME, IDENTITY_NAME
from runfold.spool.header import read_progress
from runfold.spool.reader import SpoolReader

#: Spools larger than this, all of a run's together, in bytes, are not read for what they said.
MAX_READ_BYTES = 256 * 1024 * 1024
#: Records at the end of a spool in which the last step is looked for.
_TAIL_RECORDS = 4096
#: What reading a spool raises that is being made, being removed, or damaged.
_UNREADABLE = (OSError, ValueError, ProtocolError)


@dataclass(frozen=True, slots=True)
class LocalWriter:
    """A spool of the run: of one process."""

    directory: Path
    identity: Identity
    head_seq: int
    acked_seq: int

    @property
    def is_behind(self) -> bool:
        """Whether no server has all of it."""
        return self.acked_seq < self.head_seq


@dataclass(frozen=True, slots=True)
class LocalRun:
    """Of the process that went on with the run last, as far as its spool tells.

    `last_step`: its newest row's, or the last one before it; `words`: what all of them said, if asked for.
    """

    last_step: int = -1
    runtime_s: float = 0.0
    begins_unix_ns: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    newest: Identity | None = None


def find_writers(node: NodeSettings, identity: Identity, run_id: str | None = None) -> list[LocalWriter]:
    """Return the spools of a run's processes before this one, oldest first.

    Of the ranks of a job only the asker's own: the others have asked, or will, for themselves.
    """
    path = f"{identity.entity}/{identity.project}/{run_id or identity.run_id}"
    found = [
        writer
        for target in _targets(node)
        for directory in list_writers(target)
        if (writer := _open(directory, path)) is not None
    ]
    if identity.mode == "shared" and identity.rank is None and any(map(_lives, found)):
        return []  # beside it, not before it
    of_rank = [writer for writer in found if writer.identity.rank == identity.rank]
    return sorted(of_rank or found, key=lambda writer: writer.identity.begins_unix_ns)


def identities_in(folders: Iterable[Path]) -> Iterator[Identity]:
    """Yield who wrote the spools in these folders, or the folders themselves; of processes only."""
    for folder in folders:
        for directory in list_writers(folder) or [folder]:
            try:
                identity = Identity.unpack((directory / IDENTITY_NAME).read_bytes())
            except _UNREADABLE:
                continue
            if identity.role == "process":
                yield identity


def tail_of(writer: LocalWriter) -> tuple[int, int]:
    """Return a spool's last step, or the one before it where it has no row; and its newest time, unix ns."""
    step, t_ns = writer.identity.start_step - 1, writer.identity.started_unix_ns
    try:
        reader = SpoolReader(writer.directory)
    except _UNREADABLE:
        return step, t_ns
    try:
        at = max(1, writer.head_seq - _TAIL_RECORDS, reader.first_held_seq())
        while (batch := reader.read(at)) is not None:
            for block in batch.blocks:
                step = max(step, *memoryview(block.steps).cast("q"))
                t_ns = max(t_ns, *memoryview(block.t_ns).cast("Q"))
            for record in batch.others:
                step, t_ns = max(step, _step_of(record)), max(t_ns, record.t_ns)
            at = batch.hi + 1
    except _UNREADABLE:
        pass  # what could be read has been
    finally:
        reader.close()
    return step, t_ns


def read_run(writers: Iterable[LocalWriter]) -> LocalRun:
    """Return what the spools of a run know; their config and summary too, where they are not too large."""
    listed = list(writers)
    newest = listed[-1]
    last_step, t_ns = tail_of(newest)
    before = newest.identity.branch
    gone_on_s = before.runtime_s or 0.0 if before is not None else 0.0
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    rewound = [at for at, one in enumerate(listed) if _has_rewound(one)]
    listed = listed[rewound[-1] :] if rewound else listed
    if sum(map(_size, listed)) <= MAX_READ_BYTES:
        for writer in listed:
            config.update(_config_of(writer))
            fold = LiveFold(writer.directory, writer.identity.zero_unix_ns, family=writer.directory)
            summary.update(fold.summary())
    return LocalRun(
        last_step=last_step,
        runtime_s=gone_on_s + max(0.0, (t_ns - newest.identity.started_unix_ns) / 1e9),
        begins_unix_ns=newest.identity.begins_unix_ns,
        config=config,
        summary=summary,
        newest=newest.identity,
    )


def _targets(node: NodeSettings) -> list[Path]:
    """Return where spools of this run may lie: another server's run of the same name is none of it."""
    if node.target != OFFLINE_TARGET:
        return [node.target_dir, node.spool_root / OFFLINE_TARGET]
    try:
        return sorted(path for path in node.spool_root.iterdir() if path.is_dir())
    except OSError:
        return []


def _lives(writer: LocalWriter) -> bool:
    pid = writer.identity.pid
    return pid is not None and is_alive(pid, writer.identity.pid_start)


def _open(directory: Path, run_path: str) -> LocalWriter | None:
    try:
        identity = Identity.unpack((directory / IDENTITY_NAME).read_bytes())
        if identity.run_path != run_path or identity.role != "process" or identity.forked_from is not None:
            return None
        progress = read_progress(directory / HEADER_NAME)
    except _UNREADABLE:
        return None  # being made, being removed, or damaged: the agent says so
    words, acked_seq = progress if progress is not None else (None, 0)
    return LocalWriter(directory, identity, 0 if words is None else words.head_seq, acked_seq)


def _has_rewound(writer: LocalWriter) -> bool:
    return writer.identity.branch is not None and writer.identity.branch.kind == REWIND


def _size(writer: LocalWriter) -> int:
    try:
        return sum(size for size, _ in segment_sizes(writer.directory).values())
    except OSError:
        return 0


def _step_of(record: Record) -> int:
    if record.kind != RecordKind.ROW_MAP:
        return -1
    try:
        return RowMap.unpack(record.payload).step
    except ProtocolError:
        return -1


def _config_of(writer: LocalWriter) -> dict[str, Any]:
    config = dict(writer.identity.config)
    try:
        reader = SpoolReader(writer.directory)
    except _UNREADABLE:
        return config
    at = 1
    try:
        while (batch := reader.read(at)) is not None:
            for record in batch.others:
                if record.kind == RecordKind.CONFIG:
                    said = ConfigRecord.unpack(record.payload)
                    config.update(said.set or {})
                    for key in said.delete:
                        config.pop(key, None)
            at = batch.hi + 1
    except _UNREADABLE:
        pass  # what could be read has been
    finally:
        reader.close()
    return config

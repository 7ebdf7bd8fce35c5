"""The agent's own spool: what it sees of its node and of other processes, delivered like any writer's rows.

In: samples (numbers by name) and evidence, from any thread. Out: rows and records of a writer of role "node",
in a run of its own in the reserved entity. It survives kill -9 of the agent: the next one ships the rest.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runfold.protocol.evidence import Evidence
from runfold.protocol.identity import NODE_ENTITY, Identity
from runfold.protocol.records import NodeRecord, RecordKind
from runfold.protocol.rows import RowSchema
from runfold.row_schemas import RowSchemas
from runfold.spool.errors import SpoolUnavailableError
from runfold.spool.writer import SpoolWriter
from runfold.version import VERSION

from .processes import boot_id, pid_namespace, start_of

#: A spool is ended and another begun after this long, or after so many keys: a run of every process that a
#: service ever watched would grow for ever.
ROTATE_S = 24 * 3600.0
ROTATE_KEYS = 20_000
#: Where no spool can be made, this long passes before the next attempt, seconds.
RETRY_S = 30.0


class NodeSpool:
    """Made with the first thing to keep. Thread-safe; nothing here raises for the file system."""

    def __init__(
        self,
        target_dir: Path,
        *,
        host: str,
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._target_dir = target_dir
        self._host = host
        self._clock = clock
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._writer: SpoolWriter | None = None
        self._opened_s = -1e9
        self._retry_s = -1e9
        self._step = 0
        self._keys: set[str] = set()
        self._schemas = RowSchemas()
        self._node: NodeRecord | None = None
        #: Time of the record that is being appended, where it is not now.
        self._stamp_ns: int | None = None
        #: Rows that no spool could be made for.
        self.lost_count = 0

    @property
    def writer_id(self) -> bytes | None:
        """Id of the writer that is open now."""
        writer = self._writer
        return None if writer is None else writer.writer_id

    @property
    def is_open(self) -> bool:
        """Whether there is a writer that may still grow."""
        return self._writer is not None

    def describe(self, node: NodeRecord) -> None:
        """Say what the node consists of; said again in each new spool."""
        with self._lock:
            if node == self._node:
                return
            self._node = node
            if self._writer is not None:
                self._writer.append_record(RecordKind.NODE, node.pack())

    def add_sample(self, values: Mapping[str, float]) -> None:
        """Keep one row of numbers. A sample that lacks a value simply lacks its key."""
        with self._lock:
            writer = self._open(len(self._keys.union(values)))
            if writer is None:
                self.lost_count += 1
                return
            self._keys.update(values)
            names = sorted(values)
            schema = self._schemas.find([((name,), float(values[name])) for name in names], None)
            if schema is None:
                schema = RowSchema([(name,) for name in names], "d" * len(names))
            writer.append_row(schema, 0, self._step, [float(values[name]) for name in names])
            self._step += 1

    def add_evidence(self, evidence: Evidence) -> bool:
        """Keep what was seen of a process, with the time at which it was seen; return whether it is kept."""
        with self._lock:
            writer = self._open(len(self._keys))
            if writer is None:
                return False
            self._stamp_ns = evidence.t_ns
            try:
                return writer.append_record(RecordKind.EVIDENCE, evidence.to_record().pack())
            finally:
                self._stamp_ns = None

    def close(self) -> list[Path]:
        """End the spool, so that it is delivered whole and then removed; return its directory, if any.

        Another is made if more comes.
        """
        with self._lock:
            ended = [] if self._writer is None else [self._target_dir / self._writer.writer_id.hex()]
            self._end()
            return ended

    def _open(self, key_count: int) -> SpoolWriter | None:
        now_s = self._clock()
        if self._writer is not None and (now_s - self._opened_s > ROTATE_S or key_count > ROTATE_KEYS):
            self._end()
        if self._writer is None and now_s >= self._retry_s:
            try:
                self._writer = self._make()
            except SpoolUnavailableError:
                self._retry_s = now_s + RETRY_S
                return None
            self._opened_s = now_s
        return self._writer

    def _make(self) -> SpoolWriter:
        pid = os.getpid()
        writer_id = os.urandom(16)
        identity = Identity(
            entity=NODE_ENTITY,
            project="agents",
            run_id=writer_id.hex(),
            role="node",
            label=self._host,
            host=self._host,
            pid=pid,
            pid_start=start_of(pid),
            boot_id=boot_id(),
            pid_namespace=pid_namespace(),
            started_unix_ns=self._clock_ns(),
            python=".".join(map(str, sys.version_info[:3])),
            sdk_version=VERSION,
        )
        found: dict[str, Any] = {**identity.to_map(), "tags": list(identity.tags)}
        root, target = self._target_dir.parent, self._target_dir.name
        writer = SpoolWriter.create(root, target, found, writer_id=writer_id, clock_ns=self._record_time_ns)
        if self._node is not None:
            writer.append_record(RecordKind.NODE, self._node.pack())
        return writer

    def _record_time_ns(self) -> int:
        return self._clock_ns() if self._stamp_ns is None else self._stamp_ns

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._keys.clear()
            self._schemas = RowSchemas()
            self._step = 0

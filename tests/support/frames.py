"""Frames as an agent would send them, and an ingest over a store without Redis."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runfold.protocol.blocks import Gap, RowBlock
from runfold.protocol.frames import Frame, encode_frame
from runfold.protocol.identity import Identity, Launcher
from runfold.protocol.records import Record, RecordKind, RowMap
from runfold_coordinator.ingest.transaction import Applied, Entry, Ingest
from runfold_coordinator.liveness import Liveness
from runfold_coordinator.state_board import StateBoard
from runfold_coordinator.states import Limits
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

START_NS = 1_700_000_000_000_000_000


class FakeClock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def mono_s(self) -> float:
        return self.now_s

    def unix_s(self) -> float:
        return START_NS / 1e9 + self.now_s


def float_block(
    first_seq: int,
    columns: dict[str, Sequence[float]],
    *,
    steps: Iterable[int] | None = None,
    seqs: Sequence[int] | None = None,
    flags: int = 0,
) -> RowBlock:
    """Rows of float columns; steps count from 0 at seq 2 unless given."""
    n = len(next(iter(columns.values())))
    listed = list(seqs) if seqs is not None else list(range(first_seq, first_seq + n))
    said = list(steps) if steps is not None else [seq - 2 for seq in listed]
    return RowBlock(
        paths=tuple((name,) for name in columns),
        kinds="d" * len(columns),
        n=n,
        seqs=first_seq if seqs is None else np.array(listed, dtype="<u8").tobytes(),
        t_ns=(np.array(listed, dtype="<u8") * 1000 + START_NS).tobytes(),
        steps=np.array(said, dtype="<i8").tobytes(),
        flags=flags,
        columns=tuple(np.array(values, dtype="<f8").tobytes() for values in columns.values()),
    )


@dataclass
class Speaker:
    """One writer: numbers its records and makes frames of them."""

    writer: bytes
    run_path: str = "local/demo/run1"
    seq: int = 0
    said: list[Record] = field(default_factory=list)

    @property
    def writer_id(self) -> str:
        return self.writer.hex()

    def hello(self, **facts: Any) -> Frame:
        """The WRITER record."""
        entity, project, run_id = self.run_path.split("/")
        facts.setdefault("started_unix_ns", START_NS)
        launcher = facts.pop("launcher", None)
        identity = Identity(
            entity=entity, project=project, run_id=run_id, launcher=Launcher(**(launcher or {})), **facts
        )
        return self.others((RecordKind.WRITER, identity.pack()))

    def others(self, *records: tuple[int, bytes]) -> Frame:
        """Non-row records."""
        lo = self.seq + 1
        made = []
        for kind, payload in records:
            self.seq += 1
            made.append(Record(self.seq, START_NS + self.seq * 1000, int(kind), 0, payload))
        return Frame(self.writer, self.run_path, lo, self.seq, others=tuple(made))

    def rows(
        self, columns: dict[str, Sequence[float]], *, steps: Iterable[int] | None = None, flags: int = 0
    ) -> Frame:
        """Rows of floats."""
        block = float_block(self.seq + 1, columns, steps=steps, flags=flags)
        lo, self.seq = self.seq + 1, self.seq + block.n
        return Frame(self.writer, self.run_path, lo, self.seq, blocks=(block,))

    def maps(self, *rows: tuple[int, dict[str, Any]]) -> Frame:
        """Rows of anything."""
        packed = [
            (RecordKind.ROW_MAP, RowMap(step, tuple(((key,), value) for key, value in values.items())).pack())
            for step, values in rows
        ]
        return self.others(*packed)

    def gap(self, count: int, why: str = "disk full") -> Frame:
        """Records that will never come."""
        lo, self.seq = self.seq + 1, self.seq + count
        return Frame(self.writer, self.run_path, lo, self.seq, gaps=(Gap(lo, self.seq, why),))


class Bench:
    """An ingest over a store, fed by hand. Unless said otherwise, no wait status is waited for."""

    def __init__(self, store: Store, *, owner: str = "test", limits: Limits | None = None) -> None:
        self.store = store
        self.clock = FakeClock()
        self.liveness = Liveness(self.clock)
        self.board = StateBoard(store, self.liveness, self.clock, limits or Limits(status_wait_s=0.0))
        self.ingest = Ingest(store, 0, self.board, self.clock, owner=owner)
        self.cursor = self.ingest.claim()
        self._next = 1

    def feed(self, *frames: Frame | bytes) -> Applied:
        """Apply frames as one batch."""
        entries = []
        for frame in frames:
            data = frame if isinstance(frame, bytes) else encode_frame(frame)
            entries.append(Entry(f"{self._next}-0", data, zlib.crc32(data).to_bytes(4, "little")))
            self._next += 1
        applied = self.ingest.apply(entries, f"{self._next - 1}-0")
        self.cursor = applied.cursor
        return applied


def only_run(store: Store) -> RunRow:
    (run,) = store.list_runs()
    return run


def values_of(store: Store, key: str, **bounds: Any) -> dict[int, Any]:
    """seq -> value."""
    found: dict[int, Any] = {}
    for cells in store.read_cells(only_run(store).run_pk, key, **bounds):
        assert (np.diff(cells.seq.astype(np.int64)) > 0).all()
        found |= dict(zip(cells.seq.tolist(), list(cells.values), strict=True))
    return found

"""A process of local/demo/run1 with a clock of its own, as an ingest hears it."""

from __future__ import annotations

from typing import Any

from runfold.protocol.frames import Frame
from runfold.protocol.identity import Identity
from runfold.protocol.records import ConfigRecord, Record, RecordKind, RowMap, RunRecord, SummaryRecord
from support.frames import Bench

WRITER = b"w" * 16


class Process:
    """A writer whose clock is `ahead_s` wrong; what it says is delivered at once, or held back."""

    def __init__(
        self, bench: Bench, writer: bytes = WRITER, *, host: str = "h", ahead_s: float = 0.0
    ) -> None:
        self.bench = bench
        self.writer = writer
        self.host = host
        self.ahead_s = ahead_s
        self.seq = 0
        self.held: list[Record] = []

    def hello(self, **facts: Any) -> None:
        started = int((self.bench.clock.unix_s() + self.ahead_s) * 1e9)
        identity = Identity(
            "local", "demo", "run1", host=self.host, boot_id="b", started_unix_ns=started, **facts
        )
        self.say(RecordKind.WRITER, identity.pack())

    def config(
        self, values: dict[str, Any] | None = None, delete: tuple[str, ...] = (), *, hold: bool = False
    ) -> None:
        self.say(RecordKind.CONFIG, ConfigRecord(values, delete).pack(), hold=hold)

    def run(self, **fields: Any) -> None:
        self.say(RecordKind.RUN, RunRecord(**fields).pack())

    def summary(self, *changes: Any, hold: bool = False) -> None:
        self.say(RecordKind.SUMMARY, SummaryRecord(changes).pack(), hold=hold)

    def log(self, step: int, hold: bool = False, **values: Any) -> None:
        cells = tuple(((key,), value) for key, value in values.items())
        self.say(RecordKind.ROW_MAP, RowMap(step, cells).pack(), hold=hold)

    def say(self, kind: int, payload: bytes, *, hold: bool = False) -> None:
        self.seq += 1
        t_ns = int((self.bench.clock.unix_s() + self.ahead_s) * 1e9)
        self.held.append(Record(self.seq, t_ns, int(kind), 0, payload))
        if not hold:
            self.deliver()

    def deliver(self) -> None:
        lo = self.held[0].seq
        self.bench.feed(Frame(self.writer, "local/demo/run1", lo, self.seq, others=tuple(self.held)))
        self.held = []

"""What could not be stored as said: a row with the reason and the bytes, so that nothing is lost silently."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from runfold.protocol.file_records import ArtifactRecord, ArtifactUseRecord, FileRecord
from runfold.protocol.frames import Envelope
from runfold.protocol.identity import Identity
from runfold.protocol.records import (
    AlertRecord,
    ConfigRecord,
    ConsoleRecord,
    EvidenceRecord,
    ExitRecord,
    GapRecord,
    MetricRecord,
    NodeRecord,
    PreemptingRecord,
    Record,
    RecordKind,
    RunRecord,
    SignalRecord,
    SummaryRecord,
)
from runfold_coordinator.store.names import clean_text

#: Bytes of a reason that are kept.
MAX_REASON_CHARS = 500
PEEK_TIMEOUT_S = 30.0

_DECODERS: dict[int, Any] = {
    RecordKind.WRITER: Identity.unpack,
    RecordKind.RUN: RunRecord.unpack,
    RecordKind.CONFIG: ConfigRecord.unpack,
    RecordKind.SUMMARY: SummaryRecord.unpack,
    RecordKind.METRIC: MetricRecord.unpack,
    RecordKind.EXIT: ExitRecord.unpack,
    RecordKind.SIGNAL: SignalRecord.unpack,
    RecordKind.GAP: GapRecord.unpack,
    RecordKind.PREEMPTING: PreemptingRecord.unpack,
    RecordKind.ALERT: AlertRecord.unpack,
    RecordKind.CONSOLE: ConsoleRecord.unpack,
    RecordKind.EVIDENCE: EvidenceRecord.unpack,
    RecordKind.NODE: NodeRecord.unpack,
    RecordKind.FILE: FileRecord.unpack,
    RecordKind.ARTIFACT: ArtifactRecord.unpack,
    RecordKind.ARTIFACT_USE: ArtifactUseRecord.unpack,
}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Records lo..hi of a writer, or bytes that are nobody's (all None)."""

    run_pk: int | None
    writer_pk: int | None
    lo: int | None
    hi: int | None
    reason: str
    raw: bytes

    def to_row(self, dead_letter_pk: int, received_unix_s: float) -> dict[str, Any]:
        """Return the row of the dead_letters table."""
        return {
            "dead_letter_pk": dead_letter_pk,
            "run_pk": self.run_pk,
            "writer_pk": self.writer_pk,
            "lo": self.lo,
            "hi": self.hi,
            "reason": clean_text(self.reason)[:MAX_REASON_CHARS],
            "raw": self.raw,
            "received_unix_s": received_unix_s,
        }


def decode_record(record: Record) -> Any:
    """Return the decoded payload; None for kinds that this version does not know (they are kept raw).

    Raises:
        ProtocolError: The payload is not what its kind says.
    """
    decode = _DECODERS.get(record.kind)
    return None if decode is None else decode(record.payload)


def peek_in_child(frame: bytes) -> Envelope | None:
    """Return whose records a frame holds, decoding it in a process that may die of it."""
    code = (
        "import sys;from runfold.protocol.frames import peek_frame;"
        "e=peek_frame(sys.stdin.buffer.read());"
        "print('' if e is None else f'{e.writer.hex()} {e.lo} {e.hi} {e.run_path}')"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], input=frame, capture_output=True, timeout=PEEK_TIMEOUT_S, check=True
        )
        writer, lo, hi, run_path = done.stdout.decode("utf-8").strip("\n").split(" ", 3)
        return Envelope(bytes.fromhex(writer), run_path, int(lo), int(hi))
    except (subprocess.SubprocessError, OSError, ValueError):
        return None

"""The values behind the golden bytes: what decoding has to give, for ever."""

from __future__ import annotations

import math
import struct
from typing import Any

from runfold.protocol.blocks import Gap, RowBlock
from runfold.protocol.file_records import ArtifactRecord, ArtifactUseRecord, FileRecord
from runfold.protocol.frames import Frame
from runfold.protocol.identity import Identity, Launcher
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
    RowMap,
    RunRecord,
    SignalRecord,
    SummaryRecord,
)
from runfold.protocol.rows import COMMIT_FALSE, COMMIT_TRUE, STEP_GIVEN, RowSchema
from runfold.protocol.streams import Heartbeat, WriterBeat

WRITER = bytes(range(16))
RUN_PATH = "local/demo/golden-1"

IDENTITY = Identity(
    entity="local",
    project="demo",
    run_id="golden-1",
    mode="shared",
    group="g",
    job_type="train",
    fold=2,
    name="brave-lion-7",
    notes="ü\n",
    tags=("a", "b"),
    config={"lr": 0.1, "layers": [1, 2], "big": 10**30, "nested": {"none": None, "flag": True}},
    label="rank 3",
    rank=3,
    local_rank=1,
    world_size=8,
    node_rank=1,
    primary=False,
    update_finish_state=False,
    launcher=Launcher("torchrun", "job-9", 1, 4242, 1763650000.25),
    host="node-1",
    pid=1234,
    pid_start=1763650001.5,
    boot_id="0f0e0d0c-0b0a-4908-8706-050403020100",
    started_unix_ns=1763650002123456789,
    program="train.py",
    python="3.11.7",
    sdk_version="0.1.0",
    start_step=5,
)

PAYLOADS: dict[RecordKind, Any] = {
    RecordKind.ROW_MAP: RowMap(
        7, ((("loss",), math.inf), (("a", "b.c"), {"x": [None, True, 1, 2.5, "s"]}), (("n",), 2**64))
    ),
    RecordKind.WRITER: IDENTITY,
    RecordKind.RUN: RunRecord(name="n", notes=None, tags=("x",)),
    RecordKind.CONFIG: ConfigRecord(set={"a": {"b": 1}}, delete=("old",)),
    RecordKind.SUMMARY: SummaryRecord((("set", ("a", "b"), -0.0), ("del", ("c",)), ("set", ("d",), None))),
    RecordKind.METRIC: MetricRecord(
        name="val/*",
        step_metric="epoch",
        step_sync=True,
        hidden=False,
        summary=("min", "best"),
        goal="minimize",
        overwrite=False,
        reduce="mean",
        weight="tokens",
    ),
    RecordKind.EXIT: ExitRecord(1, "exception", "ValueError", "Traceback ...", 12.5),
    RecordKind.SIGNAL: SignalRecord(15, "SIGTERM", 1, 0),
    RecordKind.GAP: GapRecord(10, 19, "disk full"),
    RecordKind.PREEMPTING: PreemptingRecord("slurm", 30.0, "requeue"),
    RecordKind.ALERT: AlertRecord("title", "text", "WARN", 60.0),
    RecordKind.CONSOLE: ConsoleRecord("stderr", 3, ("one", "two ü")),
    RecordKind.EVIDENCE: EvidenceRecord(WRITER.hex(), "wait", {"status": 9, "by": "pidfd"}),
    RecordKind.NODE: NodeRecord(
        "node-1", "boot", ({"index": 0, "uuid": "GPU-1", "memory_bytes": 2**37},), {"cpu_count": 8}
    ),
    RecordKind.FILE: FileRecord("media/images/a_0.png", "live", 12, "0f" * 32, "media"),
    RecordKind.ARTIFACT: ArtifactRecord(
        "0e" * 16, "model", "model", "0d" * 32, 2**40, 3, ("latest", "best"), ("a b",), "group-1", False
    ),
    RecordKind.ARTIFACT_USE: ArtifactUseRecord("0e" * 16, "input"),
}

SCHEMA = RowSchema([("loss",), ("train", "a.b"), ("steps",), ("ok",)], "ddq?")
SCHEMA_ID = 77


def _u64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def _i64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def _f64(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


#: Seqs contiguous and listed, flags shared and listed, all kinds, one row and several, a block without keys.
FRAME = Frame(
    writer=WRITER,
    run_path=RUN_PATH,
    lo=100,
    hi=119,
    blocks=(
        RowBlock(
            SCHEMA.paths,
            SCHEMA.kinds,
            3,
            100,
            _u64(1, 2, 3),
            _i64(-1, 0, 2**63 - 1),
            COMMIT_TRUE,
            (_f64(math.inf, -math.inf, -0.0), _f64(1.5, 5e-324, 0.1), _i64(-(2**63), 0, 1), _i64(0, 1, 0)),
        ),
        RowBlock(
            (("k",),),
            "d",
            2,
            _u64(103, 105),
            _u64(4, 2**64 - 1),
            _i64(4, 5),
            bytes([STEP_GIVEN, COMMIT_FALSE]),
            (_f64(0.25, 0.5),),
        ),
        RowBlock((("k",), ("j",)), "dq", 1, 104, _u64(5), _i64(6), 0, (_f64(2.0), _i64(-3))),
        RowBlock((), "", 1, 106, _u64(7), _i64(8), COMMIT_TRUE, ()),
    ),
    others=(
        Record(107, 8, RecordKind.CONFIG, 0, PAYLOADS[RecordKind.CONFIG].pack()),
        Record(108, 9, 999, 65535, b"from the future"),
        Record(119, 10, RecordKind.EXIT, 0, b""),
    ),
    gaps=(Gap(109, 112, "disk full"), Gap(113, 118, "damaged")),
    auth=b"\x01\x02",
)

HEARTBEAT = Heartbeat(
    "node-1",
    "host",
    "boot",
    1763650000.5,
    2.0,
    (WriterBeat(WRITER, 9, True), WriterBeat(bytes(16), 0, None), WriterBeat(b"\xff" * 16, 2**40, False)),
)

#: (schema, flags, step, values) as appended to the golden spool after its WRITER record, with a clock that counts.
SPOOL_ROWS = [(SCHEMA, COMMIT_TRUE, step, (step / 8, math.inf, -step, step % 2 == 0)) for step in range(40)]

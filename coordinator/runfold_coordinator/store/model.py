"""What the store hands to its readers: catalogue rows, cells, blocks, rollups. Values only, no database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from runfold.protocol.branching import FORK

#: "d" float64, "q" int64, "?" bool (numpy arrays); "o" anything else (a Python list of decoded values).
ColumnKind = Literal["d", "q", "?", "o"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]

#: Row flag beside the protocol's STEP_GIVEN=1, COMMIT_FALSE=2, COMMIT_TRUE=4: a cell `step_sync` added to
#: the committing call's row. Readers that show rows "as each writer logged them" leave such cells out.
INSERTED = 0x80


#: Time of deletion of a run whose purge has begun: what is left of it is not shown as a run again.
PURGING_UNIX_S = 0.0


@dataclass(frozen=True, slots=True)
class Cells:
    """Values of one key, from one stored piece of one writer, ascending in seq.

    Pieces of one writer may interleave in seq (alternating key sets): merge by seq, not by arrival.
    """

    writer_pk: int
    seq: U64
    step: I64
    t_ns: U64
    flags: U8
    kind: ColumnKind
    values: npt.NDArray[Any] | list[Any]


@dataclass(frozen=True, slots=True)
class RowTimes:
    """When rows of one stored piece of one writer were logged, ascending in seq; one array element each."""

    seq: U64
    step: I64
    t_ns: U64


@dataclass(frozen=True, slots=True)
class Column:
    """One key's values inside a block: `rows` is None when every row has one, else their indices."""

    kind: ColumnKind
    values: npt.NDArray[Any] | list[Any]
    rows: U32 | None


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one writer as stored together, ascending in seq. A key may have a column per kind."""

    writer_pk: int
    seq: U64
    step: I64
    t_ns: U64
    flags: U8
    columns: Mapping[str, Sequence[Column]]


@dataclass(frozen=True, slots=True)
class Rollup:
    """Extremes of one numeric key over runs of at most 256 rows of one stored piece; one array element each.

    `count` leaves NaN out and `nan_count` counts it; where count is 0, min, max are NaN and sum is 0. To look
    inside a bucket, read_cells(seq_after=seq_first - 1, seq_max=seq_last).
    """

    writer_pk: int
    kind: ColumnKind
    seq_first: U64
    seq_last: U64
    step_min: I64
    step_max: I64
    step_first: I64
    step_last: I64
    #: Each step is above the one before it: no value in the bucket was overwritten by another of it.
    is_rising: npt.NDArray[np.bool_]
    count: U32
    nan_count: U32
    sum: F64
    min: F64
    max: F64
    argmin_step: I64
    argmax_step: I64


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One metric key of a run: the canonical text of its path (`protocol.keypath`); kinds e.g. "dq"."""

    key_pk: int
    key: str
    kinds: str


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One non-row record as received. `payload` is what the writer packed."""

    writer_pk: int
    seq: int
    t_ns: int
    kind: int
    flags: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class GapRow:
    writer_pk: int
    lo: int
    hi: int
    why: str


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """`writer_pk`, `lo`, `hi` are None where the bytes did not say whose they are."""

    dead_letter_pk: int
    run_pk: int | None
    writer_pk: int | None
    lo: int | None
    hi: int | None
    reason: str
    raw: bytes
    received_unix_s: float


@dataclass(frozen=True, slots=True)
class Accounting:
    """In records. acknowledged = stored + declared_gaps + dead_letters + pending."""

    acknowledged: int
    stored: int
    declared_gaps: int
    dead_letters: int
    pending: int


@dataclass(frozen=True, slots=True)
class RunRow:
    """The projection of a run's records. Absent text is None; `config` holds plain Python values.

    `state` is the state over the newest attempt's writers; `reason` is never empty on a terminal state.
    `version` grows with every commit that touched the run: equal versions mean equal content.
    """

    run_pk: int
    entity: str
    project: str
    run_id: str
    mode: str
    group: str | None
    job_type: str | None
    fold: Any
    name: str | None
    notes: str | None
    tags: tuple[str, ...]
    config: dict[str, Any]
    config_conflicts: dict[str, Any]
    #: METRIC payloads in the order they apply: by rank, then writer start, then seq.
    definitions: tuple[dict[str, Any], ...]
    primary_writer_pk: int | None
    state: str
    reason: str
    first_failure: dict[str, Any] | None
    unreachable: bool
    #: Wall clock of the earliest writer's start.
    started_unix_ns: int
    ended_unix_ns: int | None
    #: Coordinator's wall clock at the last commit that touched the run.
    updated_unix_s: float
    #: Newest wall-clock time said by a record of the run; 0 when none.
    last_record_unix_ns: int
    #: Highest step stored, -1 when none.
    last_step: int
    row_count: int
    version: int
    program: str | None
    host: str | None
    #: Projection of the folded summary, as saved by `save_fold`; {} before the first fold.
    summary: dict[str, Any]
    #: How sure the state is: certain, said, inferred; "" while it runs.
    confidence: str = ""
    stalled: bool = False
    #: {stall, stragglers, desync} as judged last.
    verdicts: dict[str, Any] = field(default_factory=dict)
    #: Id of the sweep that it was started for.
    sweep: str | None = None
    #: Since when it is hidden, None: it is not; and who asked for that.
    deleted_unix_s: float | None = None
    deleted_by: str | None = None
    #: Where it was resumed, rewound or forked from (ingest/branch_points.py); the fork, if any, comes first.
    branches: tuple[dict[str, Any], ...] = ()

    @property
    def fork(self) -> dict[str, Any] | None:
        """The moment of another run that it begins with: run_id, step, begins_unix_ns."""
        return next((point for point in self.branches if point["kind"] == FORK), None)


@dataclass(frozen=True, slots=True)
class WriterRow:
    """One writer: its identity as said, its watermark and the evidence about its process."""

    writer_pk: int
    writer_id: str
    run_pk: int
    label: str | None
    rank: int | None
    local_rank: int | None
    world_size: int | None
    node_rank: int | None
    primary: bool | None
    update_finish_state: bool
    mode: str
    #: launcher.source, .job_id, .restart_hint, .launcher_pid, .launcher_start
    launcher: dict[str, Any]
    host: str | None
    pid: int | None
    pid_start: Any
    boot_id: str | None
    started_unix_ns: int
    start_step: int
    #: The identity map of the WRITER record less its config; {} when the record was lost.
    identity: dict[str, Any] = field(repr=False)
    #: Highest seq committed; everything up to it is stored, a declared gap or a dead letter.
    last_seq: int
    #: Highest seq the node agent has seen in the spool (>= last_seq once heartbeats arrive), else 0.
    head_seq: int
    row_count: int
    gap_count: int
    dead_letter_count: int
    #: Steps over stored rows; None when no such row. "given": rows with `step=`; "auto": rows without.
    step_min: int | None
    step_max: int | None
    given_step_min: int | None
    given_step_max: int | None
    auto_step_min: int | None
    auto_step_max: int | None
    #: Newest t_ns of any record; 0 when none.
    last_record_unix_ns: int
    #: EXIT payload (+ "t_ns", "seq"), None while there is none.
    exit: dict[str, Any] | None
    #: The agent's word on the process: True alive, False gone, None unknown.
    alive: bool | None
    #: Coordinator's wall clock when the writer was last heard of (persisted every few seconds).
    last_seen_unix_s: float
    state: str
    reason: str
    unreachable: bool
    ended_unix_ns: int | None
    confidence: str = ""
    stalled: bool = False
    #: protocol.identity.ROLES; a console writer keeps the output of the writer `console_of`.
    role: str = "process"
    console_of: str | None = None
    #: How the process ended (states.Ending, see stored_verdicts.py); {} while it goes on.
    ending: dict[str, Any] = field(default_factory=dict)

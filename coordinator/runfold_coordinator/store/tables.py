"""The tables, as queries see them. Migrations create them; a test keeps the two equal."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData()

#: JSON that filters may look into: exact values live in the packed blob beside it.
Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
Blob = sa.LargeBinary
Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # INTEGER is the rowid itself
Seconds = sa.Double


def index_where(name: str, *columns: str, where: str) -> sa.Index:
    """Return an index of the few rows for which the condition, in SQL, is true."""
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)

#: `next` of "ids": every surrogate key comes from it, in blocks (see writes.IdBlock).
counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("next", Big, nullable=False),
)

partitions = sa.Table(
    "partitions",
    metadata,
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("cursor", sa.String, nullable=False),
    sa.Column("owner_epoch", Big, nullable=False),
    sa.Column("owner", sa.String, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("entity", sa.String, nullable=False),
    sa.Column("project", sa.String, nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("mode", sa.String, nullable=False),
    sa.Column("group_name", sa.String),
    sa.Column("job_type", sa.String),
    sa.Column("name", sa.String),
    sa.Column("notes", sa.String),
    sa.Column("tags_json", Json, nullable=False),
    sa.Column("config_json", Json, nullable=False),
    sa.Column("summary_json", Json, nullable=False),
    sa.Column("primary_writer_pk", Big),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("unreachable", sa.Boolean, nullable=False),
    sa.Column("started_unix_ns", Big, nullable=False),
    sa.Column("ended_unix_ns", Big),
    sa.Column("updated_unix_s", Seconds, nullable=False),
    sa.Column("last_record_unix_ns", Big, nullable=False),
    sa.Column("last_step", Big, nullable=False),
    sa.Column("row_count", Big, nullable=False),
    sa.Column("version", Big, nullable=False),
    sa.Column("program", sa.String),
    sa.Column("host", sa.String),
    #: msgpack {rank, host, reason, traceback, ...} of the first primary failure
    sa.Column("first_failure", Blob),
    #: msgpack {config, conflicts, definitions, fold, tags, name, notes, group, job_type}
    sa.Column("projection", Blob, nullable=False),
    #: msgpack of the summary as saved with the fold
    sa.Column("summary", Blob),
    #: certain, said, inferred, or "" while it runs (see states.py)
    sa.Column("confidence", sa.String, nullable=False, server_default=""),
    sa.Column("stalled", sa.Boolean, nullable=False, server_default=sa.false()),
    #: msgpack {stall, stragglers, desync}, as judged last; NULL when nothing was
    sa.Column("verdicts", Blob),
    sa.Column("sweep", sa.String),
    #: Hidden since then, and purged some weeks later (edits/purge.py); NULL: it is there
    sa.Column("deleted_unix_s", Seconds),
    sa.Column("deleted_by", sa.String),
    #: What somebody said of its state; it holds until a process joins whose key is above said_state_pk
    sa.Column("said_state", sa.String),
    sa.Column("said_state_pk", Big),
    sa.UniqueConstraint("entity", "project", "run_id", name="runs_path"),
    sa.Index("runs_by_start", "entity", "project", "started_unix_ns"),
    sa.Index("runs_by_group", "entity", "project", "group_name"),
    sa.Index("runs_by_state", "state"),
    sa.Index("runs_by_end", "ended_unix_ns"),
    sa.Index("runs_by_sweep", "entity", "project", "sweep"),
    index_where("runs_deleted", "deleted_unix_s", where="deleted_unix_s IS NOT NULL"),
)

writers = sa.Table(
    "writers",
    metadata,
    sa.Column("writer_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("writer_id", sa.String(32), nullable=False, unique=True),
    sa.Column("run_pk", Big, nullable=False, index=True),
    sa.Column("partition", sa.Integer, nullable=False),
    #: msgpack identity map less its config; NULL while its WRITER record has not come
    sa.Column("identity", Blob),
    sa.Column("started_unix_ns", Big, nullable=False),
    sa.Column("last_seq", Big, nullable=False),
    sa.Column("head_seq", Big, nullable=False),
    sa.Column("row_count", Big, nullable=False),
    sa.Column("gap_count", Big, nullable=False),
    sa.Column("dead_letter_count", Big, nullable=False),
    sa.Column("given_step_min", Big),
    sa.Column("given_step_max", Big),
    sa.Column("auto_step_min", Big),
    sa.Column("auto_step_max", Big),
    sa.Column("last_record_unix_ns", Big, nullable=False),
    #: The EXIT record (+ "t_ns", "seq"), for readers; states come from the table of evidence
    sa.Column("exit", Blob),
    sa.Column("alive", sa.Boolean),
    sa.Column("last_seen_unix_s", Seconds, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("unreachable", sa.Boolean, nullable=False),
    sa.Column("ended_unix_ns", Big),
    #: State of the writer's own RowFold while it has step_sync definitions, else NULL
    sa.Column("row_fold", Blob),
    #: protocol.identity.ROLES
    sa.Column("role", sa.String, nullable=False, server_default="process"),
    #: Writer id of the process whose output a console writer keeps
    sa.Column("console_of", sa.String(32)),
    sa.Column("host", sa.String),
    sa.Column("boot_id", sa.String),
    sa.Column("confidence", sa.String, nullable=False, server_default=""),
    sa.Column("stalled", sa.Boolean, nullable=False, server_default=sa.false()),
    #: msgpack: how the process ended (states.Ending), what its run needs to tell whose failure came first
    sa.Column("ending", Blob),
    sa.Index("writers_by_place", "role", "host", "boot_id"),
)

#: What was seen of writers' processes (protocol/evidence.py). A writer need not be known yet.
evidence = sa.Table(
    "evidence",
    metadata,
    sa.Column("writer_id", sa.String(32), primary_key=True),
    sa.Column("source", sa.String, primary_key=True),
    #: Tells two of one source apart: Evidence.key
    sa.Column("ident", sa.String, primary_key=True),
    sa.Column("t_ns", Big, nullable=False),
    sa.Column("received_unix_s", Seconds, nullable=False),
    sa.Column("facts", Blob, nullable=False),
    #: Not judged yet: the partition of the writer's run does so with its next tick
    sa.Column("is_fresh", sa.Boolean, nullable=False),
    index_where("evidence_fresh", "is_fresh", where="is_fresh"),
    #: Of all evidence a small part, which is looked for at each start
    index_where("evidence_stops", "writer_id", where="source = 'stop'"),
)

#: What people were told, or were to be told: Run.alert() and the rules of the server.
alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("alert_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("run_pk", Big, nullable=False),
    #: Of Run.alert(): the record
    sa.Column("writer_pk", Big),
    sa.Column("seq", Big),
    #: "run": Run.alert(); else the rule's name
    sa.Column("source", sa.String, nullable=False),
    #: The same alert is raised once: (run, writer, seq), or (rule, run, what made it true)
    sa.Column("ident", sa.String, nullable=False, unique=True),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("text", sa.String, nullable=False),
    sa.Column("level", sa.String, nullable=False),
    sa.Column("wait_duration_s", Seconds, nullable=False),
    sa.Column("raised_unix_s", Seconds, nullable=False),
    #: Not delivered, as one with the same title was within wait_duration_s
    sa.Column("suppressed", sa.Boolean, nullable=False),
    sa.Index("alerts_by_title", "run_pk", "title", "raised_unix_s"),
    sa.Index("alerts_by_record", "writer_pk", "seq"),
)

#: What makes a rule true for a run now: it is raised anew only after it was false.
alert_causes = sa.Table(
    "alert_causes",
    metadata,
    sa.Column("run_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("rule", sa.String, primary_key=True),
    sa.Column("cause", sa.String, primary_key=True),
    sa.Column("since_unix_s", Seconds, nullable=False),
)

#: One alert to one receiver.
alert_deliveries = sa.Table(
    "alert_deliveries",
    metadata,
    sa.Column("alert_pk", Big, primary_key=True, autoincrement=False),
    #: Name of the receiver in the server's configuration
    sa.Column("receiver", sa.String, primary_key=True),
    #: waiting, delivered, given_up
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("enqueued_unix_s", Seconds, nullable=False),
    sa.Column("next_unix_s", Seconds, nullable=False),
    sa.Column("delivered_unix_s", Seconds),
    #: Of the last attempt that failed
    sa.Column("error", sa.String, nullable=False),
    sa.Index("alert_deliveries_due", "state", "next_unix_s"),
)

records = sa.Table(
    "records",
    metadata,
    sa.Column("writer_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("seq", Big, primary_key=True, autoincrement=False),
    sa.Column("run_pk", Big, nullable=False),
    sa.Column("t_ns", Big, nullable=False),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("flags", sa.Integer, nullable=False),
    sa.Column("payload", Blob, nullable=False),
    #: Of one kind, in the order in which a writer said them, from either end
    sa.Index("records_by_run", "run_pk", "kind", "writer_pk", "seq"),
    #: The few that are alerts (RecordKind.ALERT), of all runs
    index_where("records_alerts", "writer_pk", "seq", where="kind = 19"),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("key_pk", Big, primary_key=True, autoincrement=False),
    #: sha256 of the text: an index over 4 kB of text is refused by PostgreSQL
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("key", sa.String, nullable=False),
)

keysets = sa.Table(
    "keysets",
    metadata,
    sa.Column("keyset_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
)

keyset_keys = sa.Table(
    "keyset_keys",
    metadata,
    sa.Column("key_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("keyset_pk", Big, primary_key=True, autoincrement=False),
)

run_keys = sa.Table(
    "run_keys",
    metadata,
    sa.Column("run_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("key_pk", Big, primary_key=True, autoincrement=False),
    #: Subset of "dq?o", in that order
    sa.Column("kinds", sa.String(4), nullable=False),
)

chunks = sa.Table(
    "chunks",
    metadata,
    sa.Column("chunk_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("run_pk", Big, nullable=False),
    sa.Column("writer_pk", Big, nullable=False),
    #: 0: mixed; its keys are in the directory only
    sa.Column("keyset_pk", Big, nullable=False),
    sa.Column("seq_lo", Big, nullable=False),
    sa.Column("seq_hi", Big, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("step_min", Big, nullable=False),
    sa.Column("step_max", Big, nullable=False),
    #: Size class: pieces of one class merge into the next (see compaction.py)
    sa.Column("tier", sa.Integer, nullable=False),
    sa.Column("byte_count", Big, nullable=False),
    sa.Column("cold_file_pk", Big),
    sa.Column("row_group", sa.Integer),
    sa.Column("directory", Blob, nullable=False),
    #: Part 0 of a small chunk; NULL when the parts are in chunk_parts
    sa.Column("data", Blob),
    sa.Index("chunks_by_keyset", "run_pk", "keyset_pk", "writer_pk", "seq_lo"),
    sa.Index("chunks_by_writer", "writer_pk", "seq_lo"),
    sa.Index("chunks_by_tier", "tier", "writer_pk"),
)

#: part_id = chunk_pk * 4096 + slot, so that the parts of a chunk lie together.
chunk_parts = sa.Table(
    "chunk_parts",
    metadata,
    sa.Column("part_id", Big, primary_key=True, autoincrement=False),
    sa.Column("data", Blob, nullable=False),
)

cold_files = sa.Table(
    "cold_files",
    metadata,
    sa.Column("cold_file_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("run_pk", Big, nullable=False, index=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("byte_count", Big, nullable=False),
    sa.Column("row_count", Big, nullable=False),
    sa.Column("created_unix_s", Seconds, nullable=False),
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("dead_letter_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("run_pk", Big, index=True),
    sa.Column("writer_pk", Big),
    sa.Column("lo", Big),
    sa.Column("hi", Big),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("raw", Blob, nullable=False),
    sa.Column("received_unix_s", Seconds, nullable=False),
)

gaps = sa.Table(
    "gaps",
    metadata,
    sa.Column("writer_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("lo", Big, primary_key=True, autoincrement=False),
    sa.Column("hi", Big, nullable=False),
    sa.Column("run_pk", Big, nullable=False, index=True),
    sa.Column("why", sa.String, nullable=False),
)

run_folds = sa.Table(
    "run_folds",
    metadata,
    sa.Column("run_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("state", Blob, nullable=False),
    sa.Column("stale", sa.Boolean, nullable=False),
)

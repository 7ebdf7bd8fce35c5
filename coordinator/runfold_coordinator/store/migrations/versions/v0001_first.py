"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "chunk_parts",
        sa.Column("part_id", BIG, autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("part_id"),
    )
    op.create_table(
        "chunks",
        sa.Column("chunk_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("run_pk", BIG, nullable=False),
        sa.Column("writer_pk", BIG, nullable=False),
        sa.Column("keyset_pk", BIG, nullable=False),
        sa.Column("seq_lo", BIG, nullable=False),
        sa.Column("seq_hi", BIG, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("step_min", BIG, nullable=False),
        sa.Column("step_max", BIG, nullable=False),
        sa.Column("tier", sa.Integer(), nullable=False),
        sa.Column("byte_count", BIG, nullable=False),
        sa.Column("cold_file_pk", BIG, nullable=True),
        sa.Column("row_group", sa.Integer(), nullable=True),
        sa.Column("directory", sa.LargeBinary(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("chunk_pk"),
    )
    op.create_index(
        "chunks_by_keyset", "chunks", ["run_pk", "keyset_pk", "writer_pk", "seq_lo"], unique=False
    )
    op.create_index("chunks_by_tier", "chunks", ["tier", "writer_pk"], unique=False)
    op.create_index("chunks_by_writer", "chunks", ["writer_pk", "seq_lo"], unique=False)
    op.create_table(
        "cold_files",
        sa.Column("cold_file_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("run_pk", BIG, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("byte_count", BIG, nullable=False),
        sa.Column("row_count", BIG, nullable=False),
        sa.Column("created_unix_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("cold_file_pk"),
        sa.UniqueConstraint("name"),
    )
    op.create_index("ix_cold_files_run_pk", "cold_files", ["run_pk"], unique=False)
    op.create_table(
        "counters",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("next", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("dead_letter_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("run_pk", BIG, nullable=True),
        sa.Column("writer_pk", BIG, nullable=True),
        sa.Column("lo", BIG, nullable=True),
        sa.Column("hi", BIG, nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("received_unix_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("dead_letter_pk"),
    )
    op.create_index("ix_dead_letters_run_pk", "dead_letters", ["run_pk"], unique=False)
    op.create_table(
        "gaps",
        sa.Column("writer_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("lo", BIG, autoincrement=False, nullable=False),
        sa.Column("hi", BIG, nullable=False),
        sa.Column("run_pk", BIG, nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("writer_pk", "lo"),
    )
    op.create_index("ix_gaps_run_pk", "gaps", ["run_pk"], unique=False)
    op.create_table(
        "keys",
        sa.Column("key_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key_pk"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "keyset_keys",
        sa.Column("key_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("keyset_pk", BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("key_pk", "keyset_pk"),
    )
    op.create_table(
        "keysets",
        sa.Column("keyset_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("keyset_pk"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "partitions",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cursor", sa.String(), nullable=False),
        sa.Column("owner_epoch", BIG, nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("partition"),
    )
    op.create_table(
        "records",
        sa.Column("writer_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("run_pk", BIG, nullable=False),
        sa.Column("t_ns", BIG, nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("flags", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("writer_pk", "seq"),
    )
    op.create_index("records_by_run", "records", ["run_pk", "kind"], unique=False)
    op.create_table(
        "run_folds",
        sa.Column("run_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("stale", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_pk"),
    )
    op.create_table(
        "run_keys",
        sa.Column("run_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("key_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("kinds", sa.String(length=4), nullable=False),
        sa.PrimaryKeyConstraint("run_pk", "key_pk"),
    )
    op.create_table(
        "runs",
        sa.Column("run_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("group_name", sa.String(), nullable=True),
        sa.Column("job_type", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("notes", sa.String(), nullable=True),
        sa.Column("tags_json", JSON, nullable=False),
        sa.Column("config_json", JSON, nullable=False),
        sa.Column("summary_json", JSON, nullable=False),
        sa.Column("primary_writer_pk", BIG, nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("unreachable", sa.Boolean(), nullable=False),
        sa.Column("started_unix_ns", BIG, nullable=False),
        sa.Column("ended_unix_ns", BIG, nullable=True),
        sa.Column("updated_unix_s", sa.Double(), nullable=False),
        sa.Column("last_record_unix_ns", BIG, nullable=False),
        sa.Column("last_step", BIG, nullable=False),
        sa.Column("row_count", BIG, nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("program", sa.String(), nullable=True),
        sa.Column("host", sa.String(), nullable=True),
        sa.Column("first_failure", sa.LargeBinary(), nullable=True),
        sa.Column("projection", sa.LargeBinary(), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("run_pk"),
        sa.UniqueConstraint("entity", "project", "run_id", name="runs_path"),
    )
    op.create_index("runs_by_group", "runs", ["entity", "project", "group_name"], unique=False)
    op.create_index("runs_by_start", "runs", ["entity", "project", "started_unix_ns"], unique=False)
    op.create_table(
        "writers",
        sa.Column("writer_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("writer_id", sa.String(length=32), nullable=False),
        sa.Column("run_pk", BIG, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("identity", sa.LargeBinary(), nullable=True),
        sa.Column("started_unix_ns", BIG, nullable=False),
        sa.Column("last_seq", BIG, nullable=False),
        sa.Column("head_seq", BIG, nullable=False),
        sa.Column("row_count", BIG, nullable=False),
        sa.Column("gap_count", BIG, nullable=False),
        sa.Column("dead_letter_count", BIG, nullable=False),
        sa.Column("given_step_min", BIG, nullable=True),
        sa.Column("given_step_max", BIG, nullable=True),
        sa.Column("auto_step_min", BIG, nullable=True),
        sa.Column("auto_step_max", BIG, nullable=True),
        sa.Column("last_record_unix_ns", BIG, nullable=False),
        sa.Column("exit", sa.LargeBinary(), nullable=True),
        sa.Column("signal", sa.LargeBinary(), nullable=True),
        sa.Column("preempting", sa.Boolean(), nullable=False),
        sa.Column("alive", sa.Boolean(), nullable=True),
        sa.Column("last_seen_unix_s", sa.Double(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("unreachable", sa.Boolean(), nullable=False),
        sa.Column("ended_unix_ns", BIG, nullable=True),
        sa.Column("row_fold", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("writer_pk"),
        sa.UniqueConstraint("writer_id"),
    )
    op.create_index("ix_writers_run_pk", "writers", ["run_pk"], unique=False)
    if op.get_context().dialect.name == "postgresql":
        # Column blobs are compact already and are read in slices: never try to compress them.
        op.execute("ALTER TABLE chunk_parts ALTER COLUMN data SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE chunks ALTER COLUMN data SET STORAGE EXTERNAL")

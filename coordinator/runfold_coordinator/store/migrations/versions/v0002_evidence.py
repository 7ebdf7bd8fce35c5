"""Evidence about processes, roles of writers, verdicts on runs, alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for table in ("runs", "writers"):
        op.add_column(table, sa.Column("confidence", sa.String(), server_default="", nullable=False))
        op.add_column(table, sa.Column("stalled", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("runs", sa.Column("verdicts", sa.LargeBinary()))
    op.create_index("runs_by_state", "runs", ["state"])
    op.create_index("runs_by_end", "runs", ["ended_unix_ns"])
    op.add_column("writers", sa.Column("role", sa.String(), server_default="process", nullable=False))
    op.add_column("writers", sa.Column("console_of", sa.String(32)))
    op.add_column("writers", sa.Column("host", sa.String()))
    op.add_column("writers", sa.Column("boot_id", sa.String()))
    op.add_column("writers", sa.Column("ending", sa.LargeBinary()))
    op.create_index("writers_by_place", "writers", ["role", "host", "boot_id"])
    op.drop_index("records_by_run", "records")
    op.create_index("records_by_run", "records", ["run_pk", "kind", "writer_pk", "seq"])
    op.create_table(
        "evidence",
        sa.Column("writer_id", sa.String(32), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("ident", sa.String(), nullable=False),
        sa.Column("t_ns", BIG, nullable=False),
        sa.Column("received_unix_s", sa.Double(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("is_fresh", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("writer_id", "source", "ident"),
    )
    op.create_index(
        "evidence_fresh",
        "evidence",
        ["is_fresh"],
        sqlite_where=sa.text("is_fresh"),
        postgresql_where=sa.text("is_fresh"),
    )
    op.create_index(
        "evidence_stops",
        "evidence",
        ["writer_id"],
        sqlite_where=sa.text("source = 'stop'"),
        postgresql_where=sa.text("source = 'stop'"),
    )
    op.create_table(
        "alerts",
        sa.Column("alert_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("run_pk", BIG, nullable=False),
        sa.Column("writer_pk", BIG),
        sa.Column("seq", BIG),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("ident", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("wait_duration_s", sa.Double(), nullable=False),
        sa.Column("raised_unix_s", sa.Double(), nullable=False),
        sa.Column("suppressed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("alert_pk"),
        sa.UniqueConstraint("ident"),
    )
    op.create_index("alerts_by_title", "alerts", ["run_pk", "title", "raised_unix_s"])
    op.create_index("alerts_by_record", "alerts", ["writer_pk", "seq"])
    op.create_table(
        "alert_causes",
        sa.Column("run_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("since_unix_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_pk", "rule", "cause"),
    )
    op.create_index(
        "records_alerts",
        "records",
        ["writer_pk", "seq"],
        sqlite_where=sa.text("kind = 19"),
        postgresql_where=sa.text("kind = 19"),
    )
    op.create_table(
        "alert_deliveries",
        sa.Column("alert_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("receiver", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("enqueued_unix_s", sa.Double(), nullable=False),
        sa.Column("next_unix_s", sa.Double(), nullable=False),
        sa.Column("delivered_unix_s", sa.Double()),
        sa.Column("error", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("alert_pk", "receiver"),
    )
    op.create_index("alert_deliveries_due", "alert_deliveries", ["state", "next_unix_s"])
    # What processes said of their own ends becomes evidence: the payloads of EXIT, SIGNAL and PREEMPTING
    # records are its facts.
    op.execute(
        "INSERT INTO evidence (writer_id, source, ident, t_ns, received_unix_s, facts, is_fresh) "
        "SELECT writers.writer_id, "
        "CASE records.kind WHEN 15 THEN 'exit' WHEN 16 THEN 'signal' ELSE 'preempting' END, "
        "'seq:' || records.seq, records.t_ns, records.t_ns / 1e9, records.payload, false "
        "FROM records JOIN writers ON writers.writer_pk = records.writer_pk "
        "WHERE records.kind IN (15, 16, 18)"
    )
    op.drop_column("writers", "signal")
    op.drop_column("writers", "preempting")

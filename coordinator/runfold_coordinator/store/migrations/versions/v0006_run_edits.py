"""What people changed in runs through the API: fields, summaries, states, deletion; projects; sweeps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("runs", sa.Column("sweep", sa.String()))
    op.add_column("runs", sa.Column("deleted_unix_s", sa.Double()))
    op.add_column("runs", sa.Column("deleted_by", sa.String()))
    op.add_column("runs", sa.Column("said_state", sa.String()))
    op.add_column("runs", sa.Column("said_state_pk", BIG))
    op.create_index("runs_by_sweep", "runs", ["entity", "project", "sweep"])
    op.create_index(
        "runs_deleted",
        "runs",
        ["deleted_unix_s"],
        sqlite_where=sa.text("deleted_unix_s IS NOT NULL"),
        postgresql_where=sa.text("deleted_unix_s IS NOT NULL"),
    )
    op.create_table(
        "run_edits",
        sa.Column("edit_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("run_pk", BIG, nullable=False),
        sa.Column("t_ns", BIG, nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("said", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("edit_pk"),
    )
    op.create_index("ix_run_edits_run_pk", "run_edits", ["run_pk"])
    op.create_table(
        "projects",
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_unix_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("entity", "name"),
    )

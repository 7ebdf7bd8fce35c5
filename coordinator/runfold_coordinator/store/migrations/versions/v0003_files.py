"""Files of runs and the blobs that hold their content."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("md5", sa.String(24), nullable=False),
        sa.Column("object", sa.String(), nullable=False),
        sa.Column("size", BIG, nullable=False),
        sa.Column("touched_unix_s", sa.Double(), nullable=False),
        sa.Column("checked_unix_s", sa.Double(), nullable=False),
        sa.Column("hashed_unix_s", sa.Double(), nullable=False),
        sa.Column("damaged", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("blobs_by_touch", "blobs", ["touched_unix_s"])
    op.create_index("blobs_by_check", "blobs", ["checked_unix_s"])
    op.create_index("blobs_by_hash", "blobs", ["hashed_unix_s"])
    op.create_table(
        "run_files",
        sa.Column("run_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("size", BIG),
        sa.Column("mimetype", sa.String()),
        sa.Column("modified_unix_s", sa.Double()),
        sa.Column("taken_unix_s", sa.Double()),
        sa.Column("stored_unix_s", sa.Double()),
        sa.Column("writer_id", sa.String(32)),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("said_t_ns", BIG),
        sa.Column("error", sa.String()),
        sa.Column("failed_unix_s", sa.Double()),
        sa.PrimaryKeyConstraint("run_pk", "name"),
    )
    op.create_index("run_files_by_digest", "run_files", ["sha256"])
    op.create_index(
        "run_files_pending",
        "run_files",
        ["run_pk"],
        sqlite_where=sa.text("sha256 IS NULL"),
        postgresql_where=sa.text("sha256 IS NULL"),
    )
    op.create_index(
        "run_files_failed",
        "run_files",
        ["run_pk"],
        sqlite_where=sa.text("error IS NOT NULL"),
        postgresql_where=sa.text("error IS NOT NULL"),
    )

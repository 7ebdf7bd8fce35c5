"""Where runs were resumed, forked and rewound."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "branches",
        sa.Column("run_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("base_path", sa.String(), nullable=False),
        sa.Column("step", BIG, nullable=False),
        sa.PrimaryKeyConstraint("run_pk", "kind"),
    )
    op.create_index("branches_by_base", "branches", ["base_path", "kind"])

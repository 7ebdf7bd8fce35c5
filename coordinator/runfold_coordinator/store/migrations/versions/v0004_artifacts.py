"""Artifacts: collections, versions, aliases, lineage, parts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "artifact_collections",
        sa.Column("collection_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("live_name", sa.String()),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("description", sa.String()),
        sa.Column("tags_json", JSON, nullable=False),
        sa.Column("ttl_s", sa.Double()),
        sa.Column("next_index", BIG, nullable=False),
        sa.Column("created_unix_s", sa.Double(), nullable=False),
        sa.Column("updated_unix_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("collection_pk"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("entity", "project", "live_name", name="artifact_collections_path"),
    )
    op.create_table(
        "artifact_versions",
        sa.Column("version_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("collection_pk", BIG, nullable=False),
        sa.Column("client_id", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("content_digest", sa.String(64), nullable=False),
        sa.Column("manifest", sa.String(64)),
        sa.Column("size", BIG, nullable=False),
        sa.Column("count", BIG, nullable=False),
        sa.Column("description", sa.String()),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.Column("ttl_s", sa.Double()),
        sa.Column("ttl_is_inherited", sa.Boolean(), nullable=False),
        sa.Column("run_pk", BIG),
        sa.Column("distributed_id", sa.String()),
        sa.Column("incomplete", sa.LargeBinary()),
        sa.Column("created_unix_s", sa.Double(), nullable=False),
        sa.Column("updated_unix_s", sa.Double(), nullable=False),
        sa.Column("deleted_unix_s", sa.Double()),
        sa.PrimaryKeyConstraint("version_pk"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("artifact_versions_by_digest", "artifact_versions", ["collection_pk", "digest"])
    op.create_index("artifact_versions_by_content", "artifact_versions", ["collection_pk", "content_digest"])
    _create_partial_index(
        "artifact_versions_mortal",
        "artifact_versions",
        ["created_unix_s"],
        "deleted_unix_s IS NULL AND ttl_s IS NOT NULL",
    )
    _create_partial_index(
        "artifact_versions_deleted",
        "artifact_versions",
        ["deleted_unix_s"],
        "deleted_unix_s IS NOT NULL AND manifest IS NOT NULL",
    )
    op.create_table(
        "artifact_members",
        sa.Column("collection_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("version_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("index", BIG, nullable=False),
        sa.Column("since_unix_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("collection_pk", "version_pk"),
        sa.UniqueConstraint("collection_pk", "index", name="artifact_members_number"),
    )
    op.create_index("artifact_members_by_version", "artifact_members", ["version_pk"])
    op.create_table(
        "artifact_aliases",
        sa.Column("collection_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("version_pk", BIG, nullable=False),
        sa.Column("writer_id", sa.String(32)),
        sa.Column("said_unix_ns", BIG, nullable=False),
        sa.PrimaryKeyConstraint("collection_pk", "alias"),
    )
    op.create_index("artifact_aliases_by_version", "artifact_aliases", ["version_pk"])
    op.create_table(
        "artifact_tags",
        sa.Column("version_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("version_pk", "tag"),
    )
    op.create_table(
        "artifact_drafts",
        sa.Column("client_id", sa.String(32), nullable=False),
        sa.Column("run_pk", BIG),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("size", BIG, nullable=False),
        sa.Column("count", BIG, nullable=False),
        sa.Column("distributed_id", sa.String()),
        sa.Column("finalize", sa.Boolean(), nullable=False),
        sa.Column("writer_id", sa.String(32)),
        sa.Column("seq", BIG),
        sa.Column("said_unix_ns", BIG, nullable=False),
        sa.Column("heard_unix_s", sa.Double(), nullable=False),
        sa.Column("arrived_unix_s", sa.Double()),
        sa.Column("manifest", sa.String(64)),
        sa.Column("about", sa.LargeBinary()),
        sa.Column("generation", BIG),
        sa.Column("is_late", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("version_pk", BIG),
        sa.Column("error", sa.String()),
        sa.Column("waits_for", sa.String()),
        sa.PrimaryKeyConstraint("client_id"),
    )
    op.create_index("artifact_drafts_by_run", "artifact_drafts", ["run_pk", "said_unix_ns"])
    op.create_index("artifact_drafts_by_version", "artifact_drafts", ["version_pk"])
    _create_partial_index(
        "artifact_drafts_parts",
        "artifact_drafts",
        ["entity", "project", "name", "distributed_id"],
        "distributed_id IS NOT NULL",
    )
    _create_partial_index(
        "artifact_drafts_open",
        "artifact_drafts",
        ["distributed_id"],
        "distributed_id IS NOT NULL AND generation IS NULL",
    )
    _create_partial_index(
        "artifact_drafts_late",
        "artifact_drafts",
        ["distributed_id"],
        "generation IS NOT NULL AND version_pk IS NULL AND error IS NULL",
    )
    op.create_table(
        "artifact_runs",
        sa.Column("run_pk", BIG, autoincrement=False, nullable=False),
        sa.Column("relation", sa.String(), nullable=False),
        sa.Column("artifact", sa.String(32), nullable=False),
        sa.Column("use_as", sa.String(), nullable=False),
        sa.Column("version_pk", BIG),
        sa.Column("at_unix_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_pk", "relation", "artifact", "use_as"),
    )
    op.create_index("artifact_runs_by_version", "artifact_runs", ["version_pk", "relation"])
    op.create_index("artifact_runs_by_artifact", "artifact_runs", ["artifact"])


def _create_partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))

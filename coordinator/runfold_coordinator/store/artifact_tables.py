"""Tables of artifacts: collections, their versions, aliases, what was said of drafts, lineage.

A version belongs to the collection that it was logged into and may be linked into others: `artifact_members`
has a row for each, with the number that it has there. Blobs are not named here but the manifest.
"""

from __future__ import annotations

import sqlalchemy as sa

from runfold_coordinator.store.tables import Big, Blob, Json, Seconds, index_where, metadata

artifact_collections = sa.Table(
    "artifact_collections",
    metadata,
    sa.Column("collection_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("entity", sa.String, nullable=False),
    sa.Column("project", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    #: The name while it lives; NULL when it was deleted: the name is free again
    sa.Column("live_name", sa.String),
    #: "logged": versions are logged into it; "linked": they are linked
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("description", sa.String),
    sa.Column("tags_json", Json, nullable=False),
    #: Seconds that its versions live unless they say otherwise; NULL: for ever
    sa.Column("ttl_s", Seconds),
    #: Number of the next version: numbers are never used again
    sa.Column("next_index", Big, nullable=False),
    sa.Column("created_unix_s", Seconds, nullable=False),
    sa.Column("updated_unix_s", Seconds, nullable=False),
    sa.UniqueConstraint("entity", "project", "live_name", name="artifact_collections_path"),
)

artifact_versions = sa.Table(
    "artifact_versions",
    metadata,
    sa.Column("version_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    #: Where it was logged
    sa.Column("collection_pk", Big, nullable=False),
    sa.Column("client_id", sa.String(32), nullable=False),
    #: MD5 of names and digests, hex: W&B's
    sa.Column("digest", sa.String(32), nullable=False),
    #: SHA-256 of names, contents and addresses, hex: what makes two versions the same
    sa.Column("content_digest", sa.String(64), nullable=False),
    #: SHA-256 of the manifest's blob; NULL when a deleted version has let go of its blobs
    sa.Column("manifest", sa.String(64)),
    sa.Column("size", Big, nullable=False),
    sa.Column("count", Big, nullable=False),
    sa.Column("description", sa.String),
    #: msgpack of the user's map
    sa.Column("metadata", Blob, nullable=False),
    sa.Column("ttl_s", Seconds),
    sa.Column("ttl_is_inherited", sa.Boolean, nullable=False),
    #: The run that made it
    sa.Column("run_pk", Big),
    sa.Column("distributed_id", sa.String),
    #: msgpack: the parts that it lacks; NULL: none
    sa.Column("incomplete", Blob),
    sa.Column("created_unix_s", Seconds, nullable=False),
    sa.Column("updated_unix_s", Seconds, nullable=False),
    sa.Column("deleted_unix_s", Seconds),
    sa.Index("artifact_versions_by_digest", "collection_pk", "digest"),
    sa.Index("artifact_versions_by_content", "collection_pk", "content_digest"),
    #: The few that may end by themselves
    index_where(
        "artifact_versions_mortal", "created_unix_s", where="deleted_unix_s IS NULL AND ttl_s IS NOT NULL"
    ),
    index_where(
        "artifact_versions_deleted",
        "deleted_unix_s",
        where="deleted_unix_s IS NOT NULL AND manifest IS NOT NULL",
    ),
)

#: Versions of collections, by number there.
artifact_members = sa.Table(
    "artifact_members",
    metadata,
    sa.Column("collection_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("version_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("index", Big, nullable=False),
    sa.Column("since_unix_s", Seconds, nullable=False),
    sa.UniqueConstraint("collection_pk", "index", name="artifact_members_number"),
    sa.Index("artifact_members_by_version", "version_pk"),
)

artifact_aliases = sa.Table(
    "artifact_aliases",
    metadata,
    sa.Column("collection_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("alias", sa.String, primary_key=True),
    sa.Column("version_pk", Big, nullable=False),
    #: Who said it and when: what one process said earlier does not take it back
    sa.Column("writer_id", sa.String(32)),
    sa.Column("said_unix_ns", Big, nullable=False),
    sa.Index("artifact_aliases_by_version", "version_pk"),
)

artifact_tags = sa.Table(
    "artifact_tags",
    metadata,
    sa.Column("version_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("tag", sa.String, primary_key=True),
)

#: What processes said to be logged, by client id: from records, from commits, or both.
artifact_drafts = sa.Table(
    "artifact_drafts",
    metadata,
    sa.Column("client_id", sa.String(32), primary_key=True),
    sa.Column("run_pk", Big),
    sa.Column("entity", sa.String, nullable=False),
    sa.Column("project", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("digest", sa.String(32), nullable=False),
    sa.Column("size", Big, nullable=False),
    sa.Column("count", Big, nullable=False),
    sa.Column("distributed_id", sa.String),
    sa.Column("finalize", sa.Boolean, nullable=False),
    sa.Column("writer_id", sa.String(32)),
    #: Of its record; NULL while that has not come
    sa.Column("seq", Big),
    sa.Column("said_unix_ns", Big, nullable=False),
    sa.Column("heard_unix_s", Seconds, nullable=False),
    #: What came with the commit; NULL before
    sa.Column("arrived_unix_s", Seconds),
    sa.Column("manifest", sa.String(64)),
    #: msgpack {description, metadata, aliases, tags, ttl, links}
    sa.Column("about", Blob),
    #: Of a part: the version that it belongs to, 1, 2, ... of its distributed id; NULL while it can change
    sa.Column("generation", Big),
    #: It was not known of when that version was closed
    sa.Column("is_late", sa.Boolean, nullable=False, server_default=sa.false()),
    #: What became of it
    sa.Column("version_pk", Big),
    sa.Column("error", sa.String),
    #: What a finish waits for, for people
    sa.Column("waits_for", sa.String),
    sa.Index("artifact_drafts_by_run", "run_pk", "said_unix_ns"),
    sa.Index("artifact_drafts_by_version", "version_pk"),
    index_where(
        "artifact_drafts_parts",
        "entity",
        "project",
        "name",
        "distributed_id",
        where="distributed_id IS NOT NULL",
    ),
    #: Parts that belong to no version yet: few, and asked for every second
    index_where(
        "artifact_drafts_open", "distributed_id", where="distributed_id IS NOT NULL AND generation IS NULL"
    ),
    #: Parts that came when their version had been made without them
    index_where(
        "artifact_drafts_late",
        "distributed_id",
        where="generation IS NOT NULL AND version_pk IS NULL AND error IS NULL",
    ),
)

#: Which run logged ("logged") and used ("used") what.
artifact_runs = sa.Table(
    "artifact_runs",
    metadata,
    sa.Column("run_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("relation", sa.String, primary_key=True),
    #: Id of the version, or the client id of a draft that is no version yet
    sa.Column("artifact", sa.String(32), primary_key=True),
    #: What for, in the user's words; "": not said
    sa.Column("use_as", sa.String, primary_key=True),
    #: NULL while the draft is no version
    sa.Column("version_pk", Big),
    sa.Column("at_unix_s", Seconds, nullable=False),
    sa.Index("artifact_runs_by_version", "version_pk", "relation"),
    sa.Index("artifact_runs_by_artifact", "artifact"),
)

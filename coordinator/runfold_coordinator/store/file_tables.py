"""The tables of blobs and of the files of runs."""

from __future__ import annotations

import sqlalchemy as sa

from runfold_coordinator.store.tables import Big, Seconds, index_where, metadata

#: Content by its digest, kept once. A row exists only while its object does.
blobs = sa.Table(
    "blobs",
    metadata,
    #: SHA-256, lower-case hex
    sa.Column("digest", sa.String(64), primary_key=True),
    #: MD5, base64: W&B's name for the content
    sa.Column("md5", sa.String(24), nullable=False),
    #: Name of the object in the place where blobs lie; another one each time the content is stored anew
    sa.Column("object", sa.String, nullable=False),
    sa.Column("size", Big, nullable=False),
    #: When it was stored, asked for or referred to last: what is younger than the minimum age stays
    sa.Column("touched_unix_s", Seconds, nullable=False),
    #: When its content was last known to be whole
    sa.Column("checked_unix_s", Seconds, nullable=False),
    #: When all of it was read and hashed last
    sa.Column("hashed_unix_s", Seconds, nullable=False),
    #: Not what it was any more: told as missing, so that who still has the content stores it anew
    sa.Column("damaged", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("blobs_by_touch", "touched_unix_s"),
    sa.Index("blobs_by_check", "checked_unix_s"),
    sa.Index("blobs_by_hash", "hashed_unix_s"),
)

#: Files of runs: those that are here, and those that processes said they would send.
run_files = sa.Table(
    "run_files",
    metadata,
    sa.Column("run_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String, primary_key=True),
    #: NULL: said by a FILE record, not arrived yet
    sa.Column("sha256", sa.String(64)),
    sa.Column("size", Big),
    sa.Column("mimetype", sa.String),
    #: Modification time that the file had, for people
    sa.Column("modified_unix_s", Seconds),
    #: When its content was as it is: of two the later stays
    sa.Column("taken_unix_s", Seconds),
    #: When it arrived here
    sa.Column("stored_unix_s", Seconds),
    #: Writer id (hex) of the process whose file it is
    sa.Column("writer_id", sa.String(32)),
    #: now, end, live
    sa.Column("policy", sa.String, nullable=False),
    #: file, media
    sa.Column("what", sa.String, nullable=False),
    #: When a FILE record said it last; NULL: none did
    sa.Column("said_t_ns", Big),
    #: Why what was saved last under this name will never come; NULL: nothing is known to be lost
    sa.Column("error", sa.String),
    #: When that was given up
    sa.Column("failed_unix_s", Seconds),
    sa.Index("run_files_by_digest", "sha256"),
    index_where("run_files_pending", "run_pk", where="sha256 IS NULL"),
    index_where("run_files_failed", "run_pk", where="error IS NOT NULL"),
)

"""What people changed through the API: edits of runs, projects that were made without a run."""

from __future__ import annotations

import sqlalchemy as sa

from runfold_coordinator.store.tables import Big, Blob, Seconds, metadata

#: Changes of a run that count beside its records. What a later one says anew is taken out of those before it.
run_edits = sa.Table(
    "run_edits",
    metadata,
    sa.Column("edit_pk", Big, primary_key=True, autoincrement=False),
    sa.Column("run_pk", Big, nullable=False, index=True),
    #: When the server took it, by its own clock, unix ns; grows with each edit of a run
    sa.Column("t_ns", Big, nullable=False),
    #: Who asked, for people
    sa.Column("by", sa.String, nullable=False),
    #: msgpack of what was said (edits/said.py)
    sa.Column("said", Blob, nullable=False),
)

#: Projects that somebody made by hand; those of runs need no row.
projects = sa.Table(
    "projects",
    metadata,
    sa.Column("entity", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("created_unix_s", Seconds, nullable=False),
)

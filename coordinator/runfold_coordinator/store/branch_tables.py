"""Which runs begin with another one's rows, and which were rewound: what ingest has to know of late rows."""

from __future__ import annotations

import sqlalchemy as sa

from runfold_coordinator.store.tables import Big, metadata

branches = sa.Table(
    "branches",
    metadata,
    sa.Column("run_pk", Big, primary_key=True, autoincrement=False),
    #: fork or rewind (protocol/branching.py)
    sa.Column("kind", sa.String, primary_key=True),
    #: entity/project/run_id of the run that it begins with: it need not be known yet
    sa.Column("base_path", sa.String, nullable=False),
    #: The last step that is the base's
    sa.Column("step", Big, nullable=False),
    sa.Index("branches_by_base", "base_path", "kind"),
)

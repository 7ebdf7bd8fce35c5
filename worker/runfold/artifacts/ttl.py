"""ArtifactTTL: how long a version is kept, where it is not a time."""

from __future__ import annotations

import datetime
from enum import Enum


class ArtifactTTL(Enum):
    """What `Artifact.ttl` takes beside a timedelta and None (for ever)."""

    #: What the collection says.
    INHERIT = 0


def seconds_of(ttl: datetime.timedelta | ArtifactTTL | None) -> float | str | None:
    """Return a TTL as the server takes it, in whole seconds. AttributeError, ValueError for what is none."""
    if ttl is None:
        return None
    if isinstance(ttl, ArtifactTTL):
        return "inherit"
    if ttl.total_seconds() <= 0:
        raise ValueError(f"Artifact TTL Duration has to be positive. ttl: {ttl.total_seconds()}")
    return float(max(1, int(ttl.total_seconds())))

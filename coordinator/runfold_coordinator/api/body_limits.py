"""The bodies that may be larger than others, of all routes; for the gate."""

from __future__ import annotations

from runfold_coordinator.api import routes_artifacts, routes_blobs, routes_files, routes_intake

#: Bytes by path; "{}" stands for any one part of it.
BODY_LIMITS = {
    **routes_intake.BODY_LIMITS,
    **routes_blobs.BODY_LIMITS,
    **routes_files.BODY_LIMITS,
    **routes_artifacts.BODY_LIMITS,
}

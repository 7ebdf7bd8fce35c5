"""Where a run was resumed, rewound or forked from, by what its writers say. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runfold.protocol.branching import FORK, KINDS
from runfold.protocol.identity import Identity

#: The newest that are kept of a run: one that was resumed for ever is still listed fast.
MAX_POINTS = 200


def branch_points(identities: Iterable[Identity]) -> list[dict[str, Any]]:
    """Return kind, run_id, step (the last before it) and begins_unix_ns, each once, oldest first.

    All ranks of a job say the same; a fork is told by the first one that says so.
    """
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    in_order = sorted(identities, key=lambda identity: identity.begins_unix_ns)
    for identity in in_order:
        branch = identity.branch
        # A child has its parent's.
        if branch is None or branch.kind not in KINDS or identity.forked_from is not None:
            continue
        if branch.kind == FORK and (in_order[0].branch is None or in_order[0].branch.kind != FORK):
            continue  # a run that was there already does not become a fork
        found.setdefault(
            (branch.kind, branch.run, branch.step),
            {
                "kind": branch.kind,
                "run_id": branch.run,
                "step": branch.next_step - 1,
                "begins_unix_ns": identity.begins_unix_ns,
            },
        )
    points = list(found.values())
    forks = [point for point in points if point["kind"] == FORK][:1]
    others = [point for point in points if point["kind"] != FORK]
    return forks + others[-MAX_POINTS:]

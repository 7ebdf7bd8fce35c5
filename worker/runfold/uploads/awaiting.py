"""Waiting for a process's uploads, and counting them, by looking into the outbox: no socket, no handshake."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runfold import terminal
from runfold.node.settings import NodeSettings
from runfold.uploads.jobs import Result
from runfold.uploads.outbox import Outbox

#: How often the outbox is looked at.
_POLL_S = 0.05
#: The agent is asked for so often meanwhile.
_CALL_AGENT_EVERY_S = 0.5
#: Longest extra wait where the outbox would be lost with the container.
LAST_CHANCE_S = 600.0
#: Failures that are told one by one.
_TOLD = 5


@dataclass(frozen=True, slots=True)
class UploadCounts:
    """How a process's files and artifacts stand.

    Attributes:
        total: Left to be uploaded so far.
        pending: Of these, waiting, under way, or watched until the process ends.
        failed: Never to be uploaded.
    """

    total: int = 0
    pending: int = 0
    failed: int = 0


def count_uploads(outbox: Outbox, jobs: set[str], total: int, lost: int) -> UploadCounts:
    """Return how the jobs stand; `lost` could not even be written down."""
    return UploadCounts(total, len(waiting_jobs(outbox, jobs)), lost + len(failures(outbox, jobs)))


def failures(outbox: Outbox, jobs: set[str]) -> list[Result]:
    """Return the results of those of the jobs that were given up."""
    try:
        return [result for result in outbox.results(jobs) if result.error is not None]
    except OSError:
        return []


def wait_for_uploads(
    outbox: Outbox,
    jobs: set[str],
    *,
    node: NodeSettings,
    run_id: str,
    is_offline: bool,
    is_quiet: bool,
    until_mono_s: float,
    may_wait_longer: bool,
    call_agent: Callable[[], object],
) -> bool:
    """Wait until no job is left, but not longer than until then; tell of what is left, and of what failed.

    Args:
        may_wait_longer: Nobody set a limit: where the outbox dies with the container, a last chance is given.
    """
    from runfold.acknowledgement import dies_with_the_container, knows_a_server
    from runfold.node.connect import http_address
    from runfold.settings import process_environment

    left = waiting_jobs(outbox, jobs)
    why = None
    if left and is_offline:
        why = "`runfold sync` uploads them"
    elif left and not knows_a_server(node):
        why = "they are uploaded when a server runs"
    elif left and http_address(node) is None:
        why = "files travel by HTTP, and no HTTP address is known: set RUNFOLD_URL"
    elif left:
        left = _wait(outbox, left, until_mono_s, call_agent)
        if left and may_wait_longer and dies_with_the_container(outbox.directory, process_environment()):
            terminal.warn(
                f"run {run_id}: {len(left):,} files or artifacts are not uploaded yet, and their folder "
                f"{outbox.directory} dies with this container: waiting up to {LAST_CHANCE_S:.0f} s more. "
                "Mount a volume and set RUNFOLD_DIR to avoid it"
            )
            left = _wait(outbox, left, until_mono_s + LAST_CHANCE_S, call_agent)
        why = "the node agent goes on" if node.mode == "process" else "the next agent goes on"
    if left and not is_quiet:
        terminal.info(f"run {run_id}: {len(left):,} files or artifacts are not uploaded yet; {why}")
    tell_failures(outbox, jobs, run_id)
    return not left


def is_empty(folder: Path) -> bool:
    """Return whether no file lies in the folder or below; links don't count."""
    return all((Path(place) / name).is_symlink() for place, _, names in os.walk(folder) for name in names)


def _wait(outbox: Outbox, left: set[str], until_mono_s: float, call_agent: Callable[[], object]) -> set[str]:
    called_s = time.monotonic()
    while left and time.monotonic() < until_mono_s:
        time.sleep(_POLL_S)
        if time.monotonic() - called_s >= _CALL_AGENT_EVERY_S:
            called_s = time.monotonic()
            call_agent()
        left = waiting_jobs(outbox, left)
    return left


def waiting_jobs(outbox: Outbox, jobs: set[str]) -> set[str]:
    """Return those of the jobs that wait; all of them while that can't be seen."""
    try:
        return jobs & outbox.ids()
    except OSError:  # too many open files, a disk that went away
        return jobs


def tell_failures(outbox: Outbox, jobs: set[str], run_id: str) -> None:
    """Warn of those of the jobs that were given up, the first few by name."""
    failed = failures(outbox, jobs)
    for result in failed[:_TOLD]:
        what = result.document.get("name") or result.kind
        terminal.warn(f"run {run_id}: {what} was not uploaded: {result.error}")
    if len(failed) > _TOLD:
        terminal.warn(f"run {run_id}: {len(failed) - _TOLD} more were not uploaded")

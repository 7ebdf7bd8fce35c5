"""Waiting for a spool to be acknowledged, by reading its header: no socket, no handshake."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from runfold import terminal
from runfold.node.processes import is_alive
from runfold.node.settings import LOCAL_TARGET, NodeSettings

#: How often the header is looked at.
_POLL_S = 0.02
#: From then on a line tells how far delivery is.
_SHOW_AFTER_S = 1.0
_SHOW_EVERY_S = 0.5
#: The agent is asked for so often meanwhile: it may die, and this process will not be there to notice.
_CALL_AGENT_EVERY_S = 0.5


def acked_seq(directory: Path) -> int:
    """Return the highest seq that a server stored durably, 0 when that can't be read."""
    from runfold.spool.format import ACK_BYTES, AT_ACK, HEADER_NAME, Ack

    try:
        with (directory / HEADER_NAME).open("rb") as header:
            found = Ack.unpack(os.pread(header.fileno(), ACK_BYTES, AT_ACK))
    except OSError:
        return 0
    return found.seq if found is not None else 0


def wait_for_ack(
    directory: Path,
    seq: int,
    *,
    timeout_s: float,
    call_agent: Callable[[], object],
    run_id: str,
) -> bool:
    """Wait until everything up to `seq` is acknowledged; return whether that happened in time."""
    began = time.monotonic()
    shown_at, called_at = began + _SHOW_AFTER_S - _SHOW_EVERY_S, began
    first = acked = acked_seq(directory)
    is_shown = False
    wait_s = 0.001
    while acked < seq:
        now = time.monotonic()
        if now - began >= timeout_s:
            _end_line(is_shown)
            return False
        if now - shown_at >= _SHOW_EVERY_S and _is_terminal():
            shown_at, is_shown = now, True
            total, done = max(seq - first, 1), acked - first
            terminal.write(f"\rrunfold: run {run_id}: delivered {done:,} of {total:,} records ")
        if now - called_at >= _CALL_AGENT_EVERY_S:
            called_at = now
            call_agent()
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, _POLL_S)
        acked = acked_seq(directory)
    _end_line(is_shown)
    return True


def knows_a_server(node: NodeSettings) -> bool:
    """Whether there is somebody to wait for: an address is set, or a local server is registered and alive."""
    if node.target != LOCAL_TARGET:
        return True
    try:
        said = json.loads(node.registration.read_text())
    except (OSError, ValueError):
        return False
    pid = said.get("pid") if isinstance(said, dict) else None
    return not isinstance(pid, int) or is_alive(pid, None)


def registered_url(node: NodeSettings) -> str | None:
    """Return the address of the local server, None when none is registered."""
    try:
        said = json.loads(node.registration.read_text())
    except (OSError, ValueError):
        return None
    url = said.get("url") if isinstance(said, dict) else None
    return url if isinstance(url, str) else None


def dies_with_the_container(directory: Path, environ: Mapping[str, str]) -> bool:
    """Whether the spool lies on storage that is gone when this container is: an overlay, or memory."""
    in_container = Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
    if not in_container and "KUBERNETES_SERVICE_HOST" not in environ:
        return False
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        best = max(
            (fields for fields in map(str.split, mounts) if directory.is_relative_to(fields[1])),
            key=lambda fields: len(fields[1]),
        )
    except (OSError, ValueError):
        return False
    return best[2] in ("overlay", "tmpfs", "aufs")


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except Exception:  # noqa: BLE001  # stderr may be anything, or nothing
        return False


def _end_line(is_shown: bool) -> None:
    if is_shown:
        terminal.write("\n")

"""Runs a receiver's command: no shell, the alert as JSON on standard input, bounded in time and output."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence

from runfold_coordinator.alerts.webhook import DeliveryError

#: What is kept of its output, for the log.
MAX_OUTPUT_BYTES = 4096
#: All of the environment that it gets.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def run_command(command: Sequence[str], body: bytes, *, timeout_s: float) -> str:
    """Run it; return the beginning of its output.

    Raises:
        DeliveryError: It could not be started, did not end in time (its process group is killed then), or
            ended with a status other than 0.
    """
    with tempfile.TemporaryFile() as said:
        said.write(body)
        said.seek(0)
        try:
            process = subprocess.Popen(
                list(command),
                stdin=said,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise DeliveryError(f"the command does not start: {reason or type(error).__name__}") from error
    try:
        output = _read_until_end(process, time.monotonic() + timeout_s)
    finally:
        if process.poll() is None:
            _kill_group(process)
        if process.stdout is not None:
            process.stdout.close()
    if output is None:
        raise DeliveryError(f"the command did not end within {timeout_s:g} s")
    if process.returncode != 0:
        raise DeliveryError(f"the command ended with status {process.returncode}")
    return output.decode(errors="replace")


def _read_until_end(process: subprocess.Popen[bytes], deadline_s: float) -> bytes | None:
    """Read what it says, keeping the beginning, until it ends; None where it did not in time."""
    assert process.stdout is not None, "started with a pipe"
    fd, kept, is_open = process.stdout.fileno(), b"", True
    while True:
        if time.monotonic() >= deadline_s:
            return None
        if is_open and select.select([fd], [], [], 0.05)[0]:
            piece = os.read(fd, 65536)
            is_open = bool(piece)
            kept += piece[: MAX_OUTPUT_BYTES - len(kept)]
            continue
        # A child of it may hold the pipe for ever: once it has ended and nothing waits, that is all.
        if process.poll() is not None:
            return kept
        if not is_open:
            time.sleep(0.01)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()

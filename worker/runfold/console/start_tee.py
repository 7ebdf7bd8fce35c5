"""Starts the tee: a process of init, not of the trainer, that holds nothing of ours but what it is given."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from runfold.console.diversion import Diversion

#: Where tees tell of their own faults; cut when it is larger.
LOG_NAME = "console.log"
MAX_LOG_BYTES = 1_000_000
#: As for the node agent: the shell ends at once, so that the trainer has no child to wait for.
_DETACH = '"$@" &'


def start_tee(control: int, diversions: Sequence[Diversion], log_dir: Path) -> None:
    """Start a tee for this process. Takes 2 ms; it passes bytes on some 25 ms later.

    Raises:
        OSError: No child can be started here.
    """
    script = Path(__file__).with_name("tee.py")
    if not sys.executable or not script.is_file():
        raise OSError("no interpreter, or no file, to start the console's process from")
    streams = ",".join(f"{each.output.name}:{each.reading}:{each.original}" for each in diversions)
    # -S: what site-packages do to an interpreter is not for this one.
    command = [sys.executable, "-S", "-P", "-s", str(script), str(control), str(os.getpid()), streams]
    command += _import_path()
    fds = [control, *(fd for each in diversions for fd in (each.reading, each.original))]
    log = _open_log(log_dir)
    try:
        try:
            shell = _run(["/bin/sh", "-c", _DETACH, "sh", *command], fds, log)
        except FileNotFoundError:  # an image without a shell
            child = _run(command, fds, log)
            threading.Thread(target=child.wait, name="runfold-tee-reaper", daemon=True).start()
        else:
            shell.wait()
    finally:
        os.close(log)


def _run(command: list[str], fds: list[int], log: int) -> subprocess.Popen[bytes]:
    # PYTHONPATH may shadow the standard library, PYTHONINSPECT keep it from ending; PYTHONHOME is needed.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") or name == "PYTHONHOME"
    }
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=fds,
        start_new_session=True,
        cwd="/",  # who unmounts the working directory later finds nobody in it
        env=environment,
    )


def _import_path() -> list[str]:
    """Return where the tee finds msgpack, the only package that it needs."""
    import msgpack

    return [str(Path(msgpack.__file__).resolve().parents[1])]


def _open_log(log_dir: Path) -> int:
    with contextlib.suppress(OSError):
        log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        log = os.open(log_dir / LOG_NAME, flags, 0o600)
        if os.fstat(log).st_size > MAX_LOG_BYTES:
            os.ftruncate(log, 0)
        return log
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

"""The processes above this one: which of them launched it, and whether its rank is only inherited from one.

In: the process table of Linux. Out: a pid; yes or no. Elsewhere nothing is known: the parent is the launcher.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

#: What launchers set anew for each rank. torchrun names a file of its own for each rank, and each attempt.
_OF_ONE_RANK = re.compile(rb"RANK|LOCAL_RANK|WORLD_SIZE|MASTER_PORT|TORCHELASTIC_.*")
#: The header page of a spool that is being written: who has it open has a run.
_OPEN_SPOOL = re.compile(r"/spool/[^/]+/[0-9a-f]{32}/header$")
_MOST = 16


def launcher_pid() -> int | None:
    """Return the nearest ancestor that was not launched as this rank; shells in between were.

    A launcher that runs inside of another job's rank has a rank too, but not this one.
    """
    here = _launch_of(os.getpid())
    pid: int | None = None
    for pid, launch in _ancestors():
        if pid <= 1 or launch is None or not launch.keys() & {b"RANK", b"LOCAL_RANK"} or launch != here:
            break
    return pid or None


def is_rank_inherited(environ: Mapping[str, str]) -> bool:
    """Return whether this process was started by a rank, and has that rank only by inheritance.

    So it is in a data loader's worker, and in a program that a rank with an open run starts.
    """
    rank = environ.get("RANK", "\0").encode()
    multiprocess = sys.modules.get("multiprocessing.process")
    is_worker = multiprocess is not None and multiprocess.parent_process() is not None
    here = _launch_of(os.getpid())
    for number, (pid, launch) in enumerate(_ancestors()):
        if launch is None or launch.get(b"RANK") != rank:
            break
        if (is_worker and number == 0) or (launch == here and _has_open_run(pid)):
            return True
    return False


def _ancestors() -> Iterator[tuple[int, dict[bytes, bytes] | None]]:
    """Yield pid and launch variables of the parent, its parent, and so on."""
    pid = os.getppid()
    for _ in range(_MOST):
        yield pid, _launch_of(pid)
        pid = _parent_of(pid) or 0
        if not pid:
            return


def _launch_of(pid: int) -> dict[bytes, bytes] | None:
    """Return what a process was told of its rank when it was started; None when that can't be seen."""
    try:
        found = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    pairs = dict(pair.partition(b"=")[::2] for pair in found.split(b"\0") if pair)
    return {name: text for name, text in pairs.items() if _OF_ONE_RANK.fullmatch(name)}


def _has_open_run(pid: int) -> bool:
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # not ours
        return False
    for descriptor in descriptors:
        try:
            if _OPEN_SPOOL.search(str(descriptor.readlink())):
                return True
        except OSError:
            continue  # closed meanwhile
    return False


def _parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[1])

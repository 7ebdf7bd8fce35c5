"""Named points between two steps, where a test may kill the process.

RUNFOLD_FAILPOINT="name" kills at the first hit of that name, "name:3" at the third.
Nothing happens unless the variable was set when the process started. Hot paths guard the call with ARMED.
"""

from __future__ import annotations

import os
import signal

_name, _, _nth = os.environ.get("RUNFOLD_FAILPOINT", "").partition(":")
#: True when this process has a failpoint to hit.
ARMED = bool(_name)
_left = int(_nth) if _nth.isdigit() else 1


def hit(name: str) -> None:
    """Kill this process, as `kill -9` would, if `name` is armed and this is the hit that was asked for."""
    global _left
    if not ARMED or name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
        os._exit(137)

"""A training process that comes to a given end: `python -m support.doomed RUN_ID "os._exit(4)"`.

It logs, says "ready", waits for a line on standard input, and runs the code.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

import runfold

#: What the code may use.
_NAMES = {"ctypes": ctypes, "os": os, "signal": signal, "sys": sys, "time": time}


def main() -> None:
    run = runfold.init(project="ends", id=sys.argv[1])
    run.log({"loss": 1.0})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    exec(sys.argv[2], {**_NAMES, "run": run})


if __name__ == "__main__":
    main()

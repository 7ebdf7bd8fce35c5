"""`python -m support.spooler ROOT TARGET ROWS ROWS_PER_S [KEYS] [--close] [--stay]`: a trainer reduced to its spool.

Prints the writer's id, then "done" when all rows are in the spool.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from runfold.node.processes import boot_id, start_of
from runfold.protocol.rows import RowSchema
from runfold.spool import SpoolLimits, SpoolWriter


def identity(**given: Any) -> dict[str, Any]:
    """Return the identity of this process in the run local/p/r."""
    return {
        "v": 1,
        "entity": "local",
        "project": "p",
        "run_id": "r",
        "mode": "shared",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "pid_start": start_of(os.getpid()),
        "boot_id": boot_id(),
        "started_unix_ns": time.time_ns(),
        **given,
    }


def schema(keys: int) -> RowSchema:
    """Return a schema of `keys` float columns."""
    return RowSchema(tuple((f"k{n}",) for n in range(keys)), "d" * keys)


def open_writer(root: Path, target: str, limits: SpoolLimits | None = None, **given: Any) -> SpoolWriter:
    """Make a spool of this process."""
    return SpoolWriter.create(root, target, identity(**given), limits=limits or SpoolLimits())


def main() -> None:
    """Write the rows."""
    arguments = [text for text in sys.argv[1:] if not text.startswith("--")]
    root, target, rows, rate = Path(arguments[0]), arguments[1], int(arguments[2]), float(arguments[3])
    keys = int(arguments[4]) if len(arguments) > 4 else 8
    writer = open_writer(root, target)
    print(writer.writer_id.hex(), flush=True)
    shape, began = schema(keys), time.monotonic()
    for step in range(rows):
        assert writer.append_row(shape, 0, step, [float(step + key) for key in range(keys)])
        while rate and (ahead := step / rate - (time.monotonic() - began)) > 0:
            time.sleep(min(ahead, 0.01))
    if "--close" in sys.argv:
        writer.close()
    print("done", writer.last_seq, flush=True)
    if "--stay" in sys.argv:
        time.sleep(600)
    os._exit(0)


if __name__ == "__main__":
    main()

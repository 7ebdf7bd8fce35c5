"""A process that writes a spool until it is killed: `python spool_trainer.py ROOT MODE COUNT WHAT`.

Prints the spool's directory, then each seq whose append returned, one a line, unbuffered.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from contracts.spool_oracle import EVAL, LOSS, append_config, append_row, limits
from runfold.spool import SpoolWriter


def main(root: str, mode: str, count: str, what: str) -> None:
    ahead = what != "plain"
    writer = SpoolWriter.create(
        Path(root),
        "local",
        {"entity": "local", "project": "p", "run_id": "r", "mode": "grouped"},
        limits=limits(mode, prepare_ahead=ahead),  # type: ignore[arg-type]
        writer_id=bytes(16),
    )
    say(str(writer.directory))
    for number in range(int(count)):
        if number % 7 == 3:
            append_config(writer, number % 50)
        else:
            append_row(writer, EVAL if number % 5 == 1 else LOSS)
        if what != "quiet":
            say(str(writer.last_seq))
    writer.close()
    say("closed")


def say(text: str) -> None:
    os.write(1, (text + "\n").encode())


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A rank that adds its part of a distributed artifact; is killed or ends, as told. Arguments: rank, rounds, whether it finishes.

Each round adds files of its own. What it said before it was killed belongs to the version.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import runfold


def content(rank: int, number: int) -> bytes:
    """Return what rank and number make of a file: some small, some of several pieces."""
    size = 300_000 if number == 0 else 10 + number
    return (f"{rank}-{number}-".encode() * (size // 4))[:size]


def main() -> None:
    """Add the parts, say so on standard output, then wait to be killed or to go on."""
    rank, rounds, role = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    run = runfold.init(project="p", group="job", id=f"rank-{rank}")
    for number in range(rounds):
        artifact = runfold.Artifact("dist", "dataset")
        with artifact.new_file(f"rank-{rank}/{number}.bin", mode="wb") as file:
            file.write(content(rank, number))
        path = Path(f"own-{rank}-{number}")
        path.write_bytes(content(rank, 100 + number))
        artifact.add_file(path, name=f"rank-{rank}/own-{number}.bin")
        path.write_bytes(b"changed at once")
        run.upsert_artifact(artifact)
    print("said", flush=True)
    if role == "killed":
        os.kill(os.getpid(), 9)
    sys.stdin.readline()
    if role == "finishes":
        last = runfold.Artifact("dist", "dataset", metadata={"ranks": 8})
        with last.new_file("done.txt") as file:
            file.write("done")
        print(run.finish_artifact(last).wait(90).name, flush=True)
    run.finish()


if __name__ == "__main__":
    main()

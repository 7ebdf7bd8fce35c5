"""A rank that prints: `torchrun ... -m support.speaker --lines 5`. Its lines can be told apart."""

from __future__ import annotations

import argparse
import os
import sys
import time

import runfold


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", default="journey")
    parser.add_argument("--lines", type=int, default=5)
    parser.add_argument("--pause-s", type=float, default=0.0)
    parser.add_argument("--wait-for", help="a file that must be there before the end")
    args = parser.parse_args()
    rank = os.environ.get("RANK", "0")
    with runfold.init(project=args.project) as run:
        for number in range(args.lines):
            print(f"rank {rank} says line {number}", flush=True)
            run.log({"n": number})
            time.sleep(args.pause_s)
        os.write(2, f"rank {rank} raw\n".encode())
        run.write_logs(f"rank {rank} explicit")
        while args.wait_for and not os.path.exists(args.wait_for):
            time.sleep(0.05)
        print("\x1b[32mgreen\x1b[0m\x1b]0;title\x07", file=sys.stderr)


if __name__ == "__main__":
    main()

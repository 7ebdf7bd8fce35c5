"""A chaos campaign: `python -m tests.chaos --seeds 100 [--first 1] [--only kill_redis,flushall] [--uploads]`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.disks import can_mount
from chaos.play import play
from chaos.schedule import draw


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--only", default="", help="fault kinds, by comma")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--uploads", action="store_true", help="trainers save files and log artifacts too")
    parser.add_argument("--lanes", type=int, default=1, help="schedules at once")
    parser.add_argument("--db", help="SQLAlchemy URL of an empty database; only with one lane and one seed")
    args = parser.parse_args()
    disks = can_mount()
    only = tuple(filter(None, args.only.split(",")))

    def one(seed: int) -> bool:
        schedule = draw(seed, disks=disks, seconds=args.seconds, only=only, uploads=args.uploads)
        folder = Path(tempfile.mkdtemp(prefix=f"runfold-chaos-{seed}-"))
        try:
            print(play(schedule, folder, db=args.db), flush=True)
        except Exception:
            print(
                f"seed {seed} FAILED; files are kept in {folder}\n{schedule}\n{traceback.format_exc()}",
                flush=True,
            )
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True

    with ThreadPoolExecutor(args.lanes) as lanes:
        held = list(lanes.map(one, range(args.first, args.first + args.seeds)))
    print(f"{sum(held)} of {len(held)} schedules held")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.bench --out build/bench.json [--only log,ingest]`: one line a figure, goals beside them."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import backlog, latency, log_cost, reads, sampling_cost, throughput, watch_cost
from bench.figures import Report

PARTS = {
    "log": log_cost.measure,
    "throughput": throughput.measure,
    "ingest": throughput.measure_ingest,
    "reads": reads.measure,
    "latency": latency.measure,
    "writers": backlog.measure_many,
    "backlog": backlog.measure,
    "sampling": sampling_cost.measure,
    "watch": watch_cost.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--only", default="", help=f"by comma: {', '.join(PARTS)}")
    args = parser.parse_args()
    wanted = [name for name in args.only.split(",") if name] or list(PARTS)
    report = Report()
    for name in wanted:
        began = time.monotonic()
        try:
            PARTS[name](report)
        except Exception:
            report.problem(f"{name} failed: {traceback.format_exc(limit=-3)}")
        print(f"   ({name}: {time.monotonic() - began:.0f} s)", flush=True)
        report.write(args.out)
    missed = [figure.name for figure in report.figures if figure.met is False]
    print(f"{len(report.figures)} figures in {args.out}; goals missed: {', '.join(missed) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

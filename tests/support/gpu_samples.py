"""Samples GPUs on demand: reads moments (seconds) from standard input, writes a JSON line for each.

`python -m support.gpu_samples [--timeout-s T]`: with a timeout through the thread that guards against a driver
that hangs, else directly.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys

from runfold.node.sampling.gpu_thread import GpuThread
from runfold.node.sampling.nvml import Nvml


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout-s", type=float)
    timeout_s = parser.parse_args().timeout_s
    if timeout_s is not None:
        guarded = GpuThread(Nvml, timeout_s=timeout_s)
        for line in sys.stdin:
            print(json.dumps(dataclasses.asdict(guarded.sample(float(line)))), flush=True)
        os._exit(0)
    probe = Nvml()
    for line in sys.stdin:
        sample = probe.sample(float(line))
        print(json.dumps(None if sample is None else dataclasses.asdict(sample)), flush=True)
    probe.close()


if __name__ == "__main__":
    main()

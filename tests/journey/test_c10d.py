"""Ranks on several nodes without a job id agree through the store of torch.distributed, if there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
import torch.distributed as dist
from runfold.launch import Launch, agree_by_c10d, identify_job
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
launch = Launch("torchrun", rank=rank, world_size=2, local_world_size=1, launcher_pid=rank, launcher_start=1.0)
first, again = agree_by_c10d(launch), agree_by_c10d(launch)
assert first and first == again
assert identify_job(launch).parts == ("c10d", first)
print(first)
dist.barrier()
dist.destroy_process_group()
"""


def test_two_ranks_find_the_same_token(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=100) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    tokens = {output.strip() for output, _ in outputs}
    assert len(tokens) == 1
    assert len(tokens.pop()) == 32


def test_without_a_store_nobody_waits() -> None:
    code = "from runfold.launch import Launch, agree_by_c10d; assert agree_by_c10d(Launch()) is None"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

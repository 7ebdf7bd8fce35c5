"""Failpoints kill like `kill -9`, at the hit that was asked for, and cost nothing otherwise."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
from runfold.protocol import failpoints
for number in range(5):
    print(number, flush=True)
    failpoints.hit("here")
    failpoints.hit("there")
"""


def run(failpoint: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"RUNFOLD_FAILPOINT": failpoint},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_named_hit_kills() -> None:
    found = run("here:3")
    assert found.returncode == -signal.SIGKILL
    assert found.stdout.split() == ["0", "1", "2"]


def test_without_a_number_the_first_hit_kills() -> None:
    assert run("there").stdout.split() == ["0"]


def test_nothing_happens_without_a_name() -> None:
    assert run("").returncode == 0
    assert run("elsewhere").returncode == 0

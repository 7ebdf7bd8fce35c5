"""What the tests of sampling share."""

from __future__ import annotations

import shutil
import subprocess

import pytest


@pytest.fixture
def real_gpu() -> None:
    """Skip where no NVIDIA device answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None or subprocess.run([tool, "-L"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no NVIDIA GPU here (nvidia-smi -L finds none): this test needs a real one")

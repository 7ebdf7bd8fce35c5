"""A scripted NVIDIA driver: builds `nvml_stub.c` and says what its devices are like. The binding is the real one."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from support.processes import environment

SOURCE = Path(__file__).with_name("nvml_stub.c")
#: Codes of NVML.
NOT_SUPPORTED, UNKNOWN = 3, 999


def uuid(index: int) -> str:
    """Return the UUID that a device of the stub has unless its script says another."""
    return f"GPU-{0xABC0 + index:08x}-1111-2222-3333-444444444444"


@cache
def _folder() -> str:
    """Build the library, once a process; return where it lies."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc or clang): the stand-in for the NVIDIA driver can't be built")
    folder = tempfile.mkdtemp(prefix="runfold-nvml-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = Path(folder) / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE)], check=True)
    return folder


class NvmlStub:
    """A driver whose devices are as `says` has them; `env` makes a process load it."""

    def __init__(self, folder: Path, **says: object) -> None:
        self.path = folder / "nvml.txt"
        self.says: dict[str, object] = {}
        self.env = {
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [_folder(), os.environ.get("LD_LIBRARY_PATH")])),
            "NVML_STUB": str(self.path),
        }
        self.say(says)

    def say(self, says: dict[str, Any]) -> None:
        """Change what the driver says; None takes a line out."""
        self.says = {name: value for name, value in (self.says | says).items() if value is not None}
        new = self.path.with_suffix(".new")
        new.write_text("".join(f"{name} {value}\n" for name, value in self.says.items()))
        new.replace(self.path)


class Asked:
    """A process that samples GPUs when it is asked to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def sample(self, now_s: float) -> dict[str, Any] | None:
        """Return what a sample at this moment says, as a dict; None where there is no driver."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{now_s}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the sampling process ended"
        return cast("dict[str, Any] | None", json.loads(line))


@contextmanager
def sampling_process(env: dict[str, str], *arguments: str) -> Iterator[Asked]:
    """Start a process that loads NVML from `env`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.gpu_samples", *arguments],
        env=environment(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Asked(process)
    finally:
        process.kill()
        process.communicate()

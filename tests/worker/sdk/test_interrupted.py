"""Ctrl-C ends a script that saved files as it ends one that did not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import sys, time
import runfold
run = runfold.init(project="p", settings=runfold.Settings(finish_timeout=0.5))
open("a", "w").write("x")
{what}
{wait}
"""
_READY = "print('ready', flush=True)"
_WAIT = f"{_READY}; time.sleep(60)"


def interrupted(folder: Path, what: str, wait: str = _WAIT, *, module: bool = False) -> int:
    (folder / "script.py").write_text(_SCRIPT.format(what=what, wait=wait))
    env = {key: value for key, value in os.environ.items() if key != "RUNFOLD_MODE"}
    env |= {"RUNFOLD_URL": "http://127.0.0.1:9", "RUNFOLD_CONSOLE": "off", "RUNFOLD_AGENT": "none"}
    how = ["-m", "script"] if module else ["script.py"]
    with subprocess.Popen(
        [sys.executable, *how], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        return process.wait(60)


@pytest.mark.parametrize(
    ("what", "wait"),
    [
        ("run.save('a')", _WAIT),
        ("artifact = run.log_artifact('a', name='a', type='t')", f"{_READY}; artifact.wait()"),
        ("run.log({'page': runfold.Html('<p>')})", _WAIT),
    ],
)
def test_a_script_that_left_files_still_ends_by_sigint(tmp_path: Path, what: str, wait: str) -> None:
    assert interrupted(tmp_path, what, wait) == -signal.SIGINT


def test_as_a_module_it_ends_as_python_has_it(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/script.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    with subprocess.Popen(
        [sys.executable, "-m", "script"],
        cwd=tmp_path / "plain", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        as_python = process.wait(60)
    assert interrupted(tmp_path, "run.save('a')", module=True) == as_python


def test_an_interrupt_that_was_caught_changes_nothing(tmp_path: Path) -> None:
    caught = f"try:\n    {_WAIT}\nexcept KeyboardInterrupt:\n    sys.excepthook(*sys.exc_info())"
    assert interrupted(tmp_path, "run.save('a')", caught) == 0
    assert interrupted(tmp_path, "run.save('a')", f"{caught}\n    sys.exit(3)") == 3

"""Keeps tests off the user's files: no RUNFOLD_* or WANDB_* setting gets in, spools go to a folder of this session."""

from __future__ import annotations

import os
import signal
import sys
import tempfile

import pytest

from support.postgres import empty_postgres_url, postgres_server, postgres_url

__all__ = ["empty_postgres_url", "postgres_server", "postgres_url"]

for _name in [name for name in os.environ if name.startswith(("RUNFOLD_", "WANDB_"))]:
    if _name != "RUNFOLD_FAILPOINT":
        del os.environ[_name]
_folder = tempfile.TemporaryDirectory(prefix="runfold-tests-")
os.environ["RUNFOLD_DIR"] = _folder.name
#: Each capture is a process; tests of the console turn it on.
os.environ["RUNFOLD_CONSOLE"] = "off"
# A shell that starts the suite in the background, or nohup, has it ignore these; processes that tests start would too.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _speaking() -> None:
    """What one test silenced, or heard said once, the next may hear."""
    terminal = sys.modules.get("runfold.terminal")
    if terminal is not None:
        terminal.be_silent(silent=False)
        terminal._said.clear()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the session's folder."""
    _folder.cleanup()

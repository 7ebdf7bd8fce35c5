"""Names of W&B's module that scripts use beside runs: lines at the terminal, ids, and what is not here."""

from __future__ import annotations

from typing import Any, NoReturn

from runfold import terminal
from runfold.errors import UnsupportedError
from runfold.init import finish

_NO_TUNER = (
    "runfold starts no trials. Start them yourself (a loop, Ray Tune, Slurm arrays), each with "
    "RUNFOLD_SWEEP_ID=<name> in its environment: Api().sweep('project/name') has them all, and best_run()"
)


def termlog(string: str = "", newline: bool = True, repeat: bool = True, prefix: bool = True) -> None:
    """Say something on stderr.

    Args:
        newline: Whether the line ends.
        repeat: False: the same words once.
        prefix: Whether each line begins with ours.
    """
    _say(string, "", newline=newline, repeat=repeat, prefix=prefix)


def termwarn(string: str, newline: bool = True, repeat: bool = True, prefix: bool = True) -> None:
    """Warn on stderr; arguments as of `termlog`."""
    _say(string, "WARNING ", newline=newline, repeat=repeat, prefix=prefix)


def termerror(string: str, newline: bool = True, repeat: bool = True, prefix: bool = True) -> None:
    """Say on stderr what failed; arguments as of `termlog`."""
    _say(string, "ERROR ", newline=newline, repeat=repeat, prefix=prefix)


def _say(string: str, kind: str, *, newline: bool, repeat: bool, prefix: bool) -> None:
    lines = f"{kind}{string}"
    if repeat or not terminal.said_before(lines):
        terminal.write((terminal.prefixed(lines) if prefix else lines) + ("\n" if newline else ""))


def join(exit_code: int | None = None) -> None:
    """Do as `finish`, and warn once: W&B's older name."""
    terminal.warn_once("runfold.join() is deprecated, use runfold.finish()")
    finish(exit_code)


def sweep(*_: Any, **__: Any) -> NoReturn:
    """Raise UnsupportedError, which tells what to do instead."""
    raise UnsupportedError(f"runfold.sweep(): {_NO_TUNER}")


def agent(*_: Any, **__: Any) -> NoReturn:
    """Raise UnsupportedError, which tells what to do instead."""
    raise UnsupportedError(f"runfold.agent(): {_NO_TUNER}")


def controller(*_: Any, **__: Any) -> NoReturn:
    """Raise UnsupportedError, which tells what to do instead."""
    raise UnsupportedError(f"runfold.controller(): {_NO_TUNER}")

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


def termlog(
    string: str = "",
    newline: bool = True,  # noqa: ARG001  # W&B's signature
    repeat: bool = True,
    prefix: bool = True,  # noqa: ARG001  # same
) -> None:
    """Say something on stderr; with `repeat=False` the same words once."""
    (terminal.info if repeat else terminal.info_once)(string)


def termwarn(string: str, newline: bool = True, repeat: bool = True) -> None:  # noqa: ARG001  # W&B's signature
    """Warn on stderr; with `repeat=False` the same words once."""
    (terminal.warn if repeat else terminal.warn_once)(string)


def termerror(string: str, newline: bool = True, repeat: bool = True) -> None:  # noqa: ARG001  # W&B's signature
    """Say on stderr what failed; with `repeat=False` the same words once."""
    (terminal.info if repeat else terminal.info_once)(f"ERROR {string}")


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

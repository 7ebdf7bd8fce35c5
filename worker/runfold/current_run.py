"""The current run of the process: what `runfold.run`, `runfold.log` and their like stand for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from runfold.errors import Error

if TYPE_CHECKING:
    from runfold.run import Run

_current: Run | None = None


class BeforeInit:
    """Stands for `runfold.config` and `runfold.summary` while there is no run."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __getitem__(self, key: str) -> NoReturn:
        raise Error(f"You must call wandb.init() before {self._name}[{key!r}]")

    def __setitem__(self, key: str, value: Any) -> NoReturn:
        raise Error(f"You must call wandb.init() before {self._name}[{key!r}]")

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        raise Error(f"You must call wandb.init() before {self._name}.{key}")

    def __setattr__(self, key: str, value: Any) -> NoReturn:
        raise Error(f"You must call wandb.init() before {self._name}.{key}")

    def __repr__(self) -> str:
        return f"<{self._name} before init()>"


def current_run() -> Run | None:
    """Return the run that module functions act on."""
    return _current


def set_current(run: Run | None) -> None:
    """Make `run` the one that module functions act on; None: there is none any more."""
    global _current
    _current = run
    module: Any = sys.modules["runfold"]
    module.run = run
    module.config = run.config if run is not None else BeforeInit("wandb.config")
    module.summary = run.summary if run is not None else BeforeInit("wandb.summary")


def need_run(call: str) -> Run:
    """Return the current run; Error, in W&B's words, when init() was not called."""
    if _current is None:
        raise Error(f"You must call wandb.init() before wandb.{call}()")
    return _current


def forwarded(name: str) -> Callable[..., Any]:
    """Return a function that calls the method `name` of the current run."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(need_run(name), name)(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Call `Run.{name}` of the current run."
    return call

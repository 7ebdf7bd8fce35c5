"""Evidence by hand, in seconds after the writer's start."""

from __future__ import annotations

import signal
from typing import Any

from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence

WRITER = b"w" * 16
S = 10**9


def at(source: str, t_s: float = 100.0, /, *, seq: int = 0, **facts: Any) -> Evidence:
    """One piece of evidence; with `seq` the process's own record."""
    return Evidence(WRITER, source, int(t_s * S), facts, f"seq:{seq}" if seq else "")


def exited(code: int, how: str = "sys.exit", t_s: float = 100.0, **facts: Any) -> Evidence:
    return at(e.EXIT, t_s, seq=9, code=code, how=how, **facts)


def raised(name: str, text: str, t_s: float = 100.0, how: str = "exception") -> Evidence:
    traceback = f'Traceback (most recent call last):\n  File "a.py", line 1\n{name}: {text}\n'
    return exited(1, how, t_s, exception=name, traceback=traceback)


def waited(status: int, t_s: float = 100.1, by: str = "pidfd") -> Evidence:
    return at(e.WAIT, t_s, status=status, by=by)


def died(signum: int, t_s: float = 100.1) -> Evidence:
    return waited(signum, t_s)


def signalled(signum: int, t_s: float = 99.0, seq: int = 5, **facts: Any) -> Evidence:
    return at(e.SIGNAL, t_s, seq=seq, signum=signum, name=signal.Signals(signum).name, **facts)


def gone(t_s: float = 100.1) -> Evidence:
    return at(e.GONE, t_s)

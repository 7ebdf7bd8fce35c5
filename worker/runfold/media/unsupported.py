"""Names of W&B's data types that runfold has no part for: making one says what to do instead."""

from __future__ import annotations

from typing import Any, NoReturn

from runfold.errors import UnsupportedError


class EvalTable:
    """W&B's table of Weave, another product of theirs."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        """Raise UnsupportedError."""
        _refuse("EvalTable", "it belongs to W&B Weave. Log a runfold.Table, a row for each example")


class WBTraceTree:
    """W&B's tree of calls of language models, which it no longer documents."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        """Raise UnsupportedError."""
        _refuse("WBTraceTree", "W&B has given it up itself. Log a runfold.Table, a row for each call")


def _refuse(name: str, way_out: str) -> NoReturn:
    raise UnsupportedError(f"runfold has no {name}: {way_out}")

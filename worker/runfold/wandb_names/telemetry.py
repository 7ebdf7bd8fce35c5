"""W&B's `telemetry`: libraries note there which of its features they use. Nothing is kept of that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from runfold.disabled import Nothing


@contextlib.contextmanager
def context(run: Any = None, obj: Any = None) -> Iterator[Nothing]:  # noqa: ARG001  # W&B's signature
    """Yield what takes any attribute, and keeps nothing."""
    yield Nothing()

"""A folder of its own for each test; its programs end with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.console_stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()

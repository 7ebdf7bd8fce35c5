from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runfold_coordinator.store.store import Store
from support.stores import new_database


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(new_database(tmp_path / "runfold.db"))
    yield opened
    opened.close()

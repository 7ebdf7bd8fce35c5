"""One server for all conformance tests of a process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

if TYPE_CHECKING:
    from server_view import StoredRuns


@pytest.fixture(scope="session")
def stored_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredRuns]:
    """Send spools to a server and read the runs back."""
    from server_view import StoredRuns

    from runfold_coordinator.testing import LocalServer

    with LocalServer() as server:
        yield StoredRuns(server.url, tmp_path_factory.mktemp("sender"))

"""One server for all journey tests of a process; each test uses a run of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from runfold_coordinator.testing import LocalServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if "journey" in item.path.parts:
            item.add_marker(pytest.mark.journey)


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    with LocalServer() as started:
        yield started


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex[:8]

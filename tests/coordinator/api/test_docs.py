"""docs/api.md lists every route, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from coordinator.api.conftest import HeardIntake, backend_over
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.filters import _COMPARISONS
from runfold_coordinator.api.run_fields import _FIELDS
from runfold_coordinator.store.store import Store

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


def test_every_route_is_documented_and_every_documented_route_exists(
    store: Store, intake: HeardIntake
) -> None:
    paths = create_app(backend_over(store, intake)).openapi()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    documented = set(re.findall(r"^\| `((?:GET|POST) /api/v1/[^`]*)`", DOCS.read_text(), re.MULTILINE))
    assert documented == served


def test_every_operator_and_field_is_documented() -> None:
    text = DOCS.read_text()
    for word in [*_COMPARISONS, *_FIELDS]:
        assert f"`{word}`" in text, word

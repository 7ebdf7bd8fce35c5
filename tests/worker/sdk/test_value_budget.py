"""Which cells of a row fit into it."""

from __future__ import annotations

from typing import Any

import pytest

from runfold import value_budget
from runfold.value_budget import FREE_CELLS, SHORT_TEXT, Budget


@pytest.mark.parametrize("value", [1.0, "é" * SHORT_TEXT], ids=["number", "text"])
@pytest.mark.parametrize("key", [("k",), ("ключ" * 50,), ("a",) * 12], ids=["short", "long", "deep"])
def test_what_fits_by_a_glance_fits_when_it_is_counted(
    monkeypatch: pytest.MonkeyPatch, key: tuple[str, ...], value: Any
) -> None:
    found = []
    for taken in (0, 500_000, 900_000):
        for count in (FREE_CELLS + 1, 3000, 30_000):
            budget = Budget()
            budget.elements(taken)
            cells = [((*key[:-1], f"{key[-1]}{number}"), value) for number in range(count)]
            fitting = budget.cells_that_fit(cells)
            with monkeypatch.context() as patched:
                patched.setattr(value_budget, "_fit_easily", lambda *_: False)
                assert budget.cells_that_fit(cells) == fitting
            found.append(fitting == count)
    assert found[0] and not found[-1]

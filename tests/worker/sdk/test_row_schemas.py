"""RowSchemas: which rows travel in columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runfold.log_values import flatten
from runfold.protocol.errors import LimitError
from runfold.row_schemas import MAX_SCHEMAS, RowSchemas


def find(schemas: RowSchemas, data: dict[str, Any]) -> bool:
    """Look a row up as log() does; return whether it has a schema."""
    return schemas.find(flatten(data), (*data, *map(type, data.values()))) is not None


@pytest.mark.parametrize(
    "data",
    [{"a": 1, "b": 2.5, "c": True}, {"f": np.float32(1), "i": np.int8(1), "b": np.bool_(True)}, {}],
)
def test_numbers_as_they_are_take_the_short_way(data: dict[str, Any]) -> None:
    schemas = RowSchemas()
    assert find(schemas, data)
    assert len(schemas.by_types) == 1


@pytest.mark.parametrize(
    "data", [{"n": {"a": 1}}, {"a": np.longdouble(1)}, {"a": np.array(1.5)}, {"_step": 1, "a": 2}]
)
def test_numbers_after_conversion_have_a_schema_only(data: dict[str, Any]) -> None:
    schemas = RowSchemas()
    assert find(schemas, data)
    assert schemas.by_types == {}


@pytest.mark.parametrize("data", [{"a": "text"}, {"a": None}, {"a": [1]}, {"a": 1, "b": "text"}])
def test_other_rows_have_none(data: dict[str, Any]) -> None:
    schemas = RowSchemas()
    assert not find(schemas, data)
    assert schemas.by_types == {}


def test_a_flood_of_key_sets_is_bounded_and_what_returns_gets_a_schema() -> None:
    schemas = RowSchemas()
    for number in range(MAX_SCHEMAS):
        assert find(schemas, {f"k{number}": 1})
    assert not find(schemas, {"new": 1})
    assert find(schemas, {"new": 1})
    assert find(schemas, {"new": 1})
    for number in range(5000):
        find(schemas, {f"n{number}": 1.0})
    assert len(schemas._known) == len(schemas.by_types) == MAX_SCHEMAS
    assert len(schemas._seen) <= 4 * MAX_SCHEMAS


def test_many_number_types_for_the_same_keys_are_bounded() -> None:
    schemas = RowSchemas()
    kinds = (float, np.float16, np.float32, np.float64)
    for number in range(4**6):
        assert find(schemas, {f"k{at}": kinds[number >> 2 * at & 3](1) for at in range(6)})
    assert len(schemas._known) == 1
    assert len(schemas.by_types) <= 8 * MAX_SCHEMAS


def test_a_key_that_is_too_long_is_refused() -> None:
    with pytest.raises(LimitError):
        find(RowSchemas(), {"k" * 5000: 1})

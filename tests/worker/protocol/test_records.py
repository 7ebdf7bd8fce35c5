"""Payloads: what is said comes back; what is not said is None; what is wrong is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import samples
from runfold.protocol.errors import DecodeError, LimitError, ProtocolError, VersionError
from runfold.protocol.identity import Identity
from runfold.protocol.records import ConfigRecord, ExitRecord, MetricRecord, RecordKind, RowMap, SummaryRecord
from worker.protocol.test_values import NO_SURROGATES, VALUES, same

PATHS = st.lists(NO_SURROGATES, min_size=1, max_size=4).map(tuple)


@given(st.integers(-(2**63), 2**63 - 1), st.lists(st.tuples(PATHS, VALUES), max_size=5).map(tuple))
def test_a_map_row_comes_back(step: int, values: tuple[tuple[tuple[str, ...], Any], ...]) -> None:
    found = RowMap.unpack(RowMap(step, values).pack())
    assert found.step == step
    assert [path for path, _ in found.values] == [path for path, _ in values]
    assert all(same(a, b) for (_, a), (_, b) in zip(found.values, values, strict=True))


@given(
    st.lists(st.tuples(st.just("set"), PATHS, VALUES) | st.tuples(st.just("del"), PATHS), max_size=5).map(
        tuple
    )
)
def test_summary_changes_come_back(changes: Any) -> None:
    found = SummaryRecord.unpack(SummaryRecord(changes).pack())
    assert same([list(change) for change in found.changes], [list(change) for change in changes])


@given(st.none() | st.dictionaries(NO_SURROGATES, VALUES, max_size=4), st.lists(NO_SURROGATES).map(tuple))
def test_config_changes_come_back(values: dict[str, Any] | None, delete: tuple[str, ...]) -> None:
    found = ConfigRecord.unpack(ConfigRecord(values, delete).pack())
    assert same(found.set, values)
    assert found.delete == delete


def test_what_was_not_said_is_none() -> None:
    assert MetricRecord.unpack(MetricRecord(name="loss").pack()) == MetricRecord(name="loss")


def test_unknown_fields_are_for_newer_readers() -> None:
    payload = msgpack.packb({**ExitRecord(3, "sys.exit").to_map(), "new": 1})
    assert ExitRecord.unpack(payload) == ExitRecord(3, "sys.exit")


@pytest.mark.parametrize("kind", list(samples.PAYLOADS), ids=lambda kind: kind.name)
@pytest.mark.parametrize("wrong", [None, 1, "x", [], [1], {}, {"name": 1}, {"lo": True, "hi": 1, "why": ""}])
def test_wrong_payloads_are_refused_or_empty(kind: RecordKind, wrong: Any) -> None:
    try:
        type(samples.PAYLOADS[kind]).unpack(msgpack.packb(wrong))
    except ProtocolError:
        pass
    else:
        # All fields of these may be missing.
        assert wrong in ([], {}, {"name": 1}, {"lo": True, "hi": 1, "why": ""})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", True),
        ("code", 2**63),
        ("code", "1"),
        ("code", None),
        ("how", 1),
        ("runtime_s", "x"),
        ("traceback", b""),
    ],
)
def test_a_field_of_the_wrong_type_is_named(field: str, value: Any) -> None:
    payload = msgpack.packb(
        {**ExitRecord().to_map(), field: value}, default=lambda _: msgpack.ExtType(1, b"9" * 20)
    )
    with pytest.raises(DecodeError) as refused:
        ExitRecord.unpack(payload)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "row",
    [[1], [1.5, []], [True, []], [2**63, []], [1, {}], [1, [["a"]]], [1, [[[], 1]]], [1, [[["a", 1], 1]]]],
)
def test_a_wrong_map_row_is_refused(row: Any) -> None:
    with pytest.raises(DecodeError):
        RowMap.unpack(msgpack.packb(row))


def test_a_key_that_is_too_long_is_over_a_limit() -> None:
    with pytest.raises(LimitError):
        RowMap.unpack(msgpack.packb([1, [["x" * 5000, 1]]]))


def test_an_identity_knows_its_run() -> None:
    assert samples.IDENTITY.run_path == "local/demo/golden-1"
    assert Identity.from_map(samples.IDENTITY.to_map()) == samples.IDENTITY
    assert (
        Identity.from_map({"v": 1, "entity": "e", "project": "p", "run_id": "r", "mode": "grouped"}).rank
        is None
    )


@pytest.mark.parametrize(
    "change", [{"v": None}, {"v": True}, {"v": 0}, {"mode": "x"}, {"launcher": 3}, {"tags": [1]}]
)
def test_a_wrong_identity_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        Identity.from_map({**samples.IDENTITY.to_map(), **change})


def test_a_newer_identity_says_so() -> None:
    with pytest.raises(VersionError):
        Identity.from_map({**samples.IDENTITY.to_map(), "v": 2})


def test_replacing_keeps_types() -> None:
    assert Identity.unpack(replace(samples.IDENTITY, fold="a").pack()).fold == "a"

"""Schemas and blocks: what is packed row by row comes out column by column."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold.protocol.blocks import RowBlock
from runfold.protocol.errors import DecodeError, LimitError, ProtocolError
from runfold.protocol.limits import MAX_SCHEMA_BYTES
from runfold.protocol.rows import RECORD_HEADER, RowSchema, unpack_definition

KINDS = st.text("dq?", max_size=6)
INT64 = st.integers(-(2**63), 2**63 - 1)
VALUE = {"d": st.floats(), "q": INT64, "?": st.booleans()}


def schema_of(kinds: str) -> RowSchema:
    return RowSchema([("k", str(index)) for index in range(len(kinds))], kinds)


def record(schema: RowSchema, seq: int, t_ns: int, flags: int, step: int, values: list[Any]) -> bytes:
    header = RECORD_HEADER.pack(schema.record_bytes, 0, seq, t_ns, 1, flags, 9)
    return header + struct.pack("<q", step) + schema.struct.pack(*values)


@st.composite
def tables(draw: st.DrawFn) -> tuple[RowSchema, list[tuple[int, int, int, int, list[Any]]]]:
    schema = schema_of(draw(KINDS))
    seqs = sorted(draw(st.sets(st.integers(1, 40), min_size=1, max_size=12)))
    row = st.tuples(
        st.integers(0, 2**64 - 1),
        st.integers(0, 7),
        INT64,
        st.tuples(*(VALUE[kind] for kind in schema.kinds)),
    )
    return schema, [
        (seq, t, flags, step, list(values)) for seq in seqs for t, flags, step, values in [draw(row)]
    ]


@given(tables())
def test_rows_become_columns(table: tuple[RowSchema, list[tuple[int, int, int, int, list[Any]]]]) -> None:
    schema, rows = table
    body = b"".join(record(schema, *row) for row in rows)
    block = RowBlock.from_rows(schema, memoryview(body), len(rows))
    assert block.seq_list() == [row[0] for row in rows]
    assert isinstance(block.seqs, int) == (rows[-1][0] - rows[0][0] == len(rows) - 1)
    assert memoryview(block.t_ns).cast("Q").tolist() == [row[1] for row in rows]
    flags = [block.flags] * len(rows) if isinstance(block.flags, int) else list(block.flags)
    assert flags == [row[2] for row in rows]
    assert memoryview(block.steps).cast("q").tolist() == [row[3] for row in rows]
    for index, (kind, column) in enumerate(zip(schema.kinds, block.columns, strict=True)):
        wanted = [row[4][index] for row in rows]
        assert struct.pack(f"<{len(rows)}{'d' if kind == 'd' else 'q'}", *wanted) == column


@given(tables(), st.integers(0, 45))
def test_the_rest_of_a_block_is_the_block_of_the_rest(
    table: tuple[RowSchema, list[tuple[int, int, int, int, list[Any]]]], seq: int
) -> None:
    schema, rows = table
    whole = RowBlock.from_rows(schema, memoryview(b"".join(record(schema, *row) for row in rows)), len(rows))
    rest = [row for row in rows if row[0] > seq]
    after = whole.after(seq)
    if not rest:
        assert after is None
        return
    assert after is not None
    wanted = RowBlock.from_rows(schema, memoryview(b"".join(record(schema, *row) for row in rest)), len(rest))
    assert (after.n, after.seq_list(), after.columns, after.t_ns, after.steps) == (
        wanted.n,
        wanted.seq_list(),
        wanted.columns,
        wanted.t_ns,
        wanted.steps,
    )


@given(KINDS, st.integers(0, 2**32 - 1))
def test_a_definition_comes_back(kinds: str, schema_id: int) -> None:
    schema = schema_of(kinds)
    assert unpack_definition(schema.pack_definition(schema_id)) == (schema_id, schema)
    assert hash(unpack_definition(schema.pack_definition(schema_id))[1]) == hash(schema)


def test_numpy_scalars_fill_slots() -> None:
    numpy = pytest.importorskip("numpy")
    schema = schema_of("ddqq??")
    packed = schema.struct.pack(
        numpy.float32(0.5),
        numpy.float64(math.inf),
        numpy.int32(-1),
        numpy.uint8(2),
        numpy.bool_(True),
        numpy.False_,
    )
    assert struct.unpack("<ddqqqq", packed) == (0.5, math.inf, -1, 2, 1, 0)


@pytest.mark.parametrize(
    ("kinds", "values"),
    [
        ("d", ["x"]),
        ("q", [1.5]),
        ("q", [2**63]),
        ("d", []),
        ("d", [1.0, 2.0]),
        ("d", [10**400]),
        ("q", [None]),
    ],
)
def test_a_value_that_does_not_fit_its_kind_raises(kinds: str, values: list[Any]) -> None:
    with pytest.raises((struct.error, OverflowError, TypeError)):
        schema_of(kinds).struct.pack(*values)


@pytest.mark.parametrize(
    ("paths", "kinds"),
    [
        ([("a",)], "x"),
        ([("a",)], "dd"),
        ([()], "d"),
        ([("a",), ("a",)], "dd"),
        ([("a", 1)], "d"),
        ([("a",)], None),
    ],
)
def test_a_wrong_schema_is_refused(paths: list[Any], kinds: Any) -> None:
    with pytest.raises(DecodeError):
        RowSchema(paths, kinds)


def test_the_keys_of_a_schema_are_limited_together() -> None:
    with pytest.raises(LimitError):
        RowSchema(
            [(f"{index:04000}",) for index in range(MAX_SCHEMA_BYTES // 4000 + 1)],
            "d" * (MAX_SCHEMA_BYTES // 4000 + 1),
        )


def test_the_parts_of_keys_are_limited_together() -> None:
    with pytest.raises(LimitError):
        RowSchema([(str(index), *"a" * 30) for index in range(17_000)], "d" * 17_000)


@given(st.binary(max_size=60))
def test_random_bytes_are_no_definition(data: bytes) -> None:
    try:
        unpack_definition(data)
    except ProtocolError:
        pass

"""decode(encode(rows)) == rows, whatever the rows; and merging equals reading one after the other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold_coordinator.store.chunks import INLINE_BYTES, Chunk, ChunkColumn, EncodedChunk, encode_chunk
from runfold_coordinator.store.merging import merge_chunks

DTYPES = {"d": np.float64, "q": np.int64, "?": np.bool_}
NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "d": st.floats(allow_nan=True),
    "q": st.integers(-(2**63), 2**63 - 1),
    "?": st.booleans(),
    "o": st.one_of(st.none(), st.text(max_size=5), st.lists(st.integers(0, 9), max_size=3)),
}


def opened(encoded: EncodedChunk) -> Chunk:
    parts = [bytes(part) for part in encoded.parts] or [bytes(encoded.data or b"")]
    return Chunk(encoded.directory, lambda slot: parts[slot])


@st.composite
def chunk_inputs(draw: st.DrawFn, first_seq: int = 1) -> dict[str, Any]:
    n = draw(st.integers(1, 20))
    steps_between = draw(st.lists(st.integers(1, 3), min_size=n, max_size=n))
    columns = []
    for key_pk in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from("dq?o"))
        rows = None
        count = n
        if draw(st.booleans()):
            chosen = draw(st.sets(st.integers(0, n - 1), min_size=1))
            if len(chosen) < n:
                rows, count = np.array(sorted(chosen), dtype=np.uint32), len(chosen)
        values = draw(st.lists(NUMBERS[kind], min_size=count, max_size=count))
        columns.append(
            ChunkColumn(key_pk, kind, values if kind == "o" else np.array(values, DTYPES[kind]), rows)  # type: ignore[arg-type]
        )
    return {
        "seq": first_seq + np.cumsum(np.array(steps_between, np.uint64)),
        "step": np.array(draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=n, max_size=n)), np.int64),
        "t_ns": np.array(draw(st.lists(st.integers(0, 2**64 - 1), min_size=n, max_size=n)), np.uint64),
        "flags": np.array(draw(st.lists(st.integers(0, 255), min_size=n, max_size=n)), np.uint8),
        "columns": columns,
    }


def cells(chunk: Chunk) -> dict[tuple[int, str], list[tuple[int, str]]]:
    """(key, kind) -> [(seq, value)], told apart to the bit."""
    found: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for key_pk in chunk.key_pks:
        for column in chunk.columns(key_pk):
            seq = chunk.seq if column.rows is None else chunk.seq[column.rows]
            values = (
                column.values if isinstance(column.values, list) else [v.tobytes() for v in column.values]
            )
            found[key_pk, column.kind] = list(zip(seq.tolist(), map(repr, values), strict=True))
    return found


@given(chunk_inputs())
@settings(max_examples=150, deadline=None)
def test_a_chunk_gives_back_what_went_in(given_rows: dict[str, Any]) -> None:
    chunk = opened(encode_chunk(**given_rows))
    for name in ("seq", "step", "t_ns", "flags"):
        back = getattr(chunk, name)
        assert back.dtype == given_rows[name].dtype
        assert back.tolist() == given_rows[name].tolist()
    for column in given_rows["columns"]:
        (back,) = chunk.columns(column.key_pk)
        assert back.kind == column.kind
        if isinstance(column.values, list):
            assert back.values == column.values
        else:
            assert np.asarray(back.values).tobytes() == column.values.tobytes()
        assert (back.rows is None) == (column.rows is None)
        if column.rows is not None:
            assert back.rows is not None and back.rows.tolist() == column.rows.tolist()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_merged_chunks_hold_the_same_cells(data: st.DataObject) -> None:
    chunks, first_seq = [], 1
    for _ in range(data.draw(st.integers(1, 4))):
        rows = data.draw(chunk_inputs(first_seq=first_seq))
        first_seq = int(rows["seq"][-1])
        chunks.append(opened(encode_chunk(**rows)))
    wanted: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for chunk in chunks:
        for place, found in cells(chunk).items():
            wanted.setdefault(place, []).extend(found)
    order = data.draw(st.permutations(chunks))
    merged = merge_chunks(order)
    back = opened(encode_chunk(merged.seq, merged.step, merged.t_ns, merged.flags, merged.columns))
    assert cells(back) == wanted
    assert back.seq.tolist() == [seq for chunk in chunks for seq in chunk.seq.tolist()]
    assert back.step.tolist() == [step for chunk in chunks for step in chunk.step.tolist()]


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1023, 1024, 5000, 65536])
def test_rollups_are_the_same_stored_and_computed(n: int) -> None:
    rng = np.random.default_rng(n)
    values = rng.normal(size=n)
    values[rng.integers(0, n, n // 10)] = math.nan
    step = np.arange(n, dtype=np.int64) * 3
    seq = np.arange(1, n + 1, dtype=np.uint64)
    chunk = opened(encode_chunk(seq, step, seq, np.zeros(n, np.uint8), [ChunkColumn(7, "d", values)]))
    ((kind, found),) = chunk.rollups(7)
    assert kind == "d"
    for at, start in enumerate(range(0, n, 256)):
        bucket, steps = values[start : start + 256], step[start : start + 256]
        real = ~np.isnan(bucket)
        assert found["count"][at] == real.sum()
        assert found["nan_count"][at] == (~real).sum()
        assert (found["step_min"][at], found["step_max"][at]) == (steps[0], steps[-1])
        assert (found["seq_first"][at], found["seq_last"][at]) == (start + 1, start + len(bucket))
        if real.any():
            assert found["min"][at] == np.nanmin(bucket)
            assert found["max"][at] == np.nanmax(bucket)
            assert found["argmin_step"][at] == steps[np.nanargmin(bucket)]
            assert found["argmax_step"][at] == steps[np.nanargmax(bucket)]
            assert found["sum"][at] == pytest.approx(np.nansum(bucket))


def test_infinities_and_a_bucket_of_nothing_but_nan() -> None:
    values = np.array([math.nan, math.inf, math.nan, math.inf] + [math.nan] * 300)
    n = len(values)
    seq, step = np.arange(1, n + 1, dtype=np.uint64), np.arange(n, dtype=np.int64)
    chunk = opened(encode_chunk(seq, step, seq, np.zeros(n, np.uint8), [ChunkColumn(7, "d", values)]))
    ((_, found),) = chunk.rollups(7)
    assert found["min"][0] == found["max"][0] == math.inf
    assert found["argmin_step"][0] == found["argmax_step"][0] == 1
    assert found["count"].tolist() == [2, 0]
    assert math.isnan(found["min"][1]) and found["sum"][1] == 0.0


def test_a_reader_of_one_key_fetches_little_more_than_that_key() -> None:
    n = 65536
    seq = np.arange(1, n + 1, dtype=np.uint64)
    columns = [ChunkColumn(key, "d", np.random.default_rng(key).normal(size=n)) for key in range(8)]
    encoded = encode_chunk(seq, seq.astype(np.int64), seq, np.zeros(n, np.uint8), columns)
    fetched = []

    def fetch(slot: int) -> bytes:
        fetched.append(len(encoded.parts[slot]))
        return bytes(encoded.parts[slot])

    chunk = Chunk(encoded.directory, fetch)
    assert np.array_equal(chunk.columns(5)[0].values, columns[5].values)
    assert chunk.step[-1] == n
    assert sum(fetched) == 8 * n
    fetched.clear()
    chunk = Chunk(encoded.directory, fetch)
    chunk.rollups(5)
    assert sum(fetched) < 100_000


def test_small_chunks_lie_in_their_own_row() -> None:
    seq = np.arange(1, 11, dtype=np.uint64)
    encoded = encode_chunk(
        seq, seq.astype(np.int64), seq, np.zeros(10, np.uint8), [ChunkColumn(1, "d", np.ones(10))]
    )
    assert encoded.data is not None and not encoded.parts
    assert len(encoded.data) <= INLINE_BYTES

"""Reduction over lanes, against numpy on the full matrix and against plain Python step by step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_coordinator.aggregate.column import Column, column_of
from runfold_coordinator.aggregate.reduce import RULES, Reduction, reduce_columns, reduce_numbers

FLOATS = st.floats(width=64, allow_nan=True, allow_infinity=True)


def lane(points: dict[int, Any]) -> Column:
    steps = sorted(points)
    return column_of(np.array(steps, np.int64), [points[s] for s in steps])


def matrix_of(rng: np.random.Generator, lanes: int, steps: int) -> np.ndarray:
    return rng.normal(size=(lanes, steps)) * 10.0 ** rng.integers(-8, 8, size=(lanes, 1))


@pytest.mark.parametrize(("lanes", "steps"), [(1, 5), (2, 3), (8, 1000), (64, 17)])
def test_full_lanes_give_the_bits_of_numpy(lanes, steps):
    matrix = matrix_of(np.random.default_rng(lanes), lanes, steps)
    x = np.arange(steps)
    got = reduce_numbers([(x, row) for row in matrix]).stats
    assert got.mean.tobytes() == matrix.mean(axis=0).tobytes()
    assert got.min.tobytes() == matrix.min(axis=0).tobytes()
    assert got.max.tobytes() == matrix.max(axis=0).tobytes()
    assert got.argmin.tolist() == matrix.argmin(axis=0).tolist()
    assert got.argmax.tolist() == matrix.argmax(axis=0).tolist()
    assert got.count.tolist() == [lanes] * steps
    if lanes > 1:
        assert got.std.tobytes() == matrix.std(axis=0, ddof=1).tobytes()
    else:
        assert np.isnan(got.std).all()


def test_one_step_has_the_bits_of_the_same_step_among_many():
    matrix = matrix_of(np.random.default_rng(5), 40, 100)
    whole = reduce_numbers([(np.arange(100), row) for row in matrix]).stats
    for at in (0, 50, 99):
        one = reduce_numbers([(np.arange(1), row[at : at + 1]) for row in matrix]).stats
        assert one.mean[0] == whole.mean[at]
        assert one.std[0] == whole.std[at]
        np.testing.assert_allclose(one.mean[0], matrix[:, at].mean(), rtol=1e-9, atol=1e-12)


@given(
    st.lists(st.dictionaries(st.integers(-3, 40), FLOATS, max_size=12), min_size=1, max_size=7),
    st.integers(1, 9),
)
def test_ragged_lanes_equal_the_same_step_computed_alone(rows, stride):
    rows = [{step * stride: v for step, v in row.items()} for row in rows]
    got = reduce_numbers([(lane(r).step, np.array([r[s] for s in sorted(r)], float)) for r in rows])
    assert got.x.tolist() == sorted({s for r in rows for s in r})
    stats = got.stats
    for i, step in enumerate(got.x.tolist()):
        present = [(k, r[step]) for k, r in enumerate(rows) if step in r]
        values = [v for _, v in present]
        assert stats.count[i] == len(values)
        with np.errstate(all="ignore"):
            total = -0.0
            for v in values:
                total += v
            mean = total / len(values)
            np.testing.assert_equal(stats.mean[i], mean)
            square = -0.0
            for v in values:
                square += (v - mean) * (v - mean)  # as arrays do; a scalar's ** 2 rounds otherwise
            np.testing.assert_equal(
                stats.std[i], math.sqrt(square / (len(values) - 1)) if len(values) > 1 else np.nan
            )
        nans = [k for k, v in present if math.isnan(v)]
        if nans:
            assert math.isnan(stats.min[i]) and math.isnan(stats.max[i])
            assert stats.argmin[i] == stats.argmax[i] == nans[0]
        else:
            assert stats.min[i] == min(values) and stats.max[i] == max(values)
            assert stats.argmin[i] == next(k for k, v in present if v == min(values))
            assert stats.argmax[i] == next(k for k, v in present if v == max(values))


def test_a_nan_names_the_first_rank_that_has_one():
    lanes = [(np.arange(2), np.array(v)) for v in ([1.0, 1.0], [np.nan, 0.0], [np.nan, 5.0])]
    stats = reduce_numbers(lanes).stats
    assert math.isnan(stats.mean[0]) and stats.argmin[0] == stats.argmax[0] == 1
    assert stats.mean[1] == 2.0 and (stats.argmin[1], stats.argmax[1]) == (1, 2)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("mean", [1.5, 3.0, 9]),
        ("sum", [3, 6.0, 9]),
        ("min", [1, 2.5, 9]),
        ("max", [2, 3.5, 9]),
        ("first", [1, 2.5, 9]),
        ("last", [2, 3.5, 9]),
        ("primary", [2, 3.5, 9]),
    ],
)
def test_rules(rule, expected):
    lanes = [lane({0: 1, 1: 2.5}), lane({0: 2, 1: 3.5, 7: 9})]
    got = reduce_columns(lanes, Reduction(rule, primary=1))
    assert got.step.tolist() == [0, 1, 7]
    assert got.objects() == expected
    assert [type(v) for v in got.objects()] == [type(v) for v in expected]


def test_none_shows_only_what_one_lane_says():
    lanes = [lane({0: 1.0, 1: 2.0}), lane({0: 2.0, 7: "a"})]
    got = reduce_columns(lanes, Reduction("none"))
    assert got.step.tolist() == [1, 7]
    assert got.objects() == [2.0, "a"]
    numbers = reduce_numbers(
        [(np.arange(2), np.array([1.0, 2.0])), (np.arange(1), np.array([2.0]))], Reduction("none")
    )
    np.testing.assert_equal(numbers.value, [np.nan, 2.0])
    assert numbers.stats.mean[0] == 1.5


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="median"):
        reduce_columns([lane({0: 1.0}), lane({0: 2.0})], Reduction("median"))


def test_ints_stay_ints_where_the_answer_is_one():
    big = 2**60 + 1
    assert reduce_columns([lane({0: big}), lane({0: big})]).objects() == [big]
    assert reduce_columns([lane({0: big}), lane({0: 1})], Reduction("sum")).objects() == [big + 1]
    assert reduce_columns([lane({0: big}), lane({0: 1})], Reduction("max")).objects() == [big]
    assert reduce_columns([lane({0: 3, 1: 1}), lane({0: 3, 1: 2})]).objects() == [3, 1.5]
    overflow = reduce_columns([lane({0: 2**62}), lane({0: 2**62})], Reduction("sum")).objects()
    assert overflow == [2.0**63]


def test_what_is_no_number_is_the_primarys_else_the_lowest_ranks():
    lanes = [
        lane({0: "a", 1: True, 2: None, 3: None}),
        lane({0: "b", 2: 5.0, 4: "only"}),
        lane({0: 7, 1: False, 2: 7.0}),
    ]
    got = reduce_columns(lanes, Reduction("mean", primary=1))
    assert got.step.tolist() == [0, 1, 2, 3, 4]
    assert got.objects() == ["b", True, 6.0, None, "only"]
    assert reduce_columns(lanes, Reduction("mean")).objects()[0] == "a"
    assert reduce_columns(lanes, Reduction("last", primary=1)).objects()[:2] == [7, False]


def test_weights_make_a_weighted_mean_where_every_lane_has_one():
    values = [lane({0: 1.0, 1: 10.0, 2: 1.0, 3: 1.0}), lane({0: 4.0, 1: 20.0, 3: 2.0}), lane({0: 100.0})]
    weights = [lane({0: 3, 1: 5, 2: 0, 3: 0}), lane({0: 1, 3: 0}), lane({0: 0.5})]
    got = reduce_columns(values, Reduction("mean", weights=weights))
    # step 1: one lane has no weight; step 2: one lane; step 3: the weights' sum is 0
    assert got.objects() == [(1.0 * 3 + 4.0 * 1 + 100 * 0.5) / 4.5, 15.0, 1.0, 1.5]
    numbers = reduce_numbers(
        [(v.step, np.asarray(v.values)) for v in values], Reduction("mean", weights=weights)
    )
    assert numbers.value.tolist() == got.objects()
    assert numbers.stats.mean[0] == 35.0


ANY = st.one_of(
    st.floats(-100, 100),
    st.just(math.nan),
    st.integers(-5, 5),
    st.just(2**70),
    st.booleans(),
    st.sampled_from(["a", "b"]),
    st.none(),
)


def reduce_one(values: list[tuple[int, Any]], rule: str, primary: int | None) -> list[Any]:
    """The rules, said again in plain Python for one step. Returns [] for no value."""

    def number(v: Any) -> bool:
        return type(v) is float or (type(v) is int and abs(v) < 2**63)

    said = [(k, v) for k, v in values if v is not None] or values
    plain = [v for _, v in said]
    if rule == "none":
        return plain if len(plain) == 1 else []
    if rule in ("first", "last"):
        return [plain[0 if rule == "first" else -1]]
    if rule == "primary" or not all(number(v) for v in plain):
        return [dict(said).get(primary, plain[0])]
    total: Any = 0 if all(type(v) is int for v in plain) else -0.0
    for v in plain:
        total += v
    if rule == "sum":
        return [total]
    if rule == "mean":
        same = all(type(v) is int and v == plain[0] for v in plain)
        return [plain[0] if same else float(total) / len(plain)]
    if any(v != v for v in plain):
        return [math.nan]
    best = min(plain) if rule == "min" else max(plain)
    return [best if all(type(v) is int for v in plain) else float(best)]


@given(
    st.lists(st.dictionaries(st.integers(0, 8), ANY, max_size=9), min_size=1, max_size=5),
    st.sampled_from(sorted(RULES)),
    st.none() | st.integers(0, 4),
    st.integers(0, 9),
)
def test_any_mixture_equals_the_rules_step_by_step_and_does_not_depend_on_paging(rows, rule, primary, cut):
    primary = None if primary is None or primary >= len(rows) else primary
    expected = {}
    for step in sorted({s for r in rows for s in r}):
        value = reduce_one([(k, r[step]) for k, r in enumerate(rows) if step in r], rule, primary)
        if value:
            expected[step] = value[0]
    lanes = [lane(r) for r in rows]
    pages = [
        reduce_columns([part.between(low, high) for part in lanes], Reduction(rule, primary))
        for low, high in ((None, cut), (cut, None))
    ]
    whole = reduce_columns(lanes, Reduction(rule, primary))
    got = dict(zip(whole.step.tolist(), whole.objects(), strict=True))
    assert list(got) == list(expected)
    assert [(type(v), repr(v)) for v in got.values()] == [(type(v), repr(v)) for v in expected.values()]
    paged = [repr(v) for page in pages for v in page.objects()]
    assert paged == [repr(v) for v in whole.objects()]

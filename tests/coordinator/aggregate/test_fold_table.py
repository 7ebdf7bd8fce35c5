"""Tables over folds and seeds, against numpy and against published quantiles of t."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runfold_coordinator.aggregate.fold_table import Member, fold_table, newest_of_each_fold, spread
from runfold_coordinator.aggregate.student import t_cdf, t_quantile


@pytest.mark.parametrize(
    ("p", "degrees", "expected"),
    [
        (0.975, 1, 12.706204736432095),
        (0.975, 2, 4.302652729911275),
        (0.975, 4, 2.7764451051977987),
        (0.975, 9, 2.2621571628540993),
        (0.975, 30, 2.0422724563012373),
        (0.975, 1000, 1.9623390808264078),
        (0.95, 5, 2.0150483733330233),
        (0.995, 3, 5.840909309733355),
        (0.75, 1, 1.0),
    ],
)
def test_quantiles_of_t_equal_the_published_ones(p, degrees, expected):
    assert t_quantile(p, degrees) == pytest.approx(expected, rel=1e-10)
    assert t_quantile(1 - p, degrees) == pytest.approx(-expected, rel=1e-9)
    assert t_cdf(expected, degrees) == pytest.approx(p, rel=1e-10)


def test_spread_equals_numpy():
    values = np.random.default_rng(0).normal(size=7).tolist()
    got = spread(values)
    assert got.n == 7
    np.testing.assert_allclose(
        [got.mean, got.std, got.min, got.max, got.median],
        [np.mean(values), np.std(values, ddof=1), min(values), max(values), np.median(values)],
        rtol=1e-12,
    )
    half = 2.4469118511449692 * np.std(values, ddof=1) / math.sqrt(7)
    assert got.ci95_low == pytest.approx(np.mean(values) - half, rel=1e-10)
    assert got.ci95_high == pytest.approx(np.mean(values) + half, rel=1e-10)


def test_one_value_has_no_spread_and_nan_is_seen():
    assert spread([2.0]).mean == 2.0 and math.isnan(spread([2.0]).std) and math.isnan(spread([2.0]).ci95_low)
    assert math.isnan(spread([1.0, math.nan]).mean) and spread([1.0, math.nan]).n == 2
    endless = spread([1.0, math.inf])
    assert endless.mean == math.inf and endless.max == math.inf and math.isnan(endless.std)
    assert math.isnan(spread([-math.inf, math.inf]).mean)
    assert spread([1.7e308, 1.7e308]).median == 1.7e308


def member(run_id, fold, state="finished", start=0, config=None, **summary):
    return Member(run_id, fold, state, start, summary, config or {})


def test_a_fold_that_ran_again_counts_once_by_its_newest_finished_run():
    runs = [
        member("a", 0, start=1, acc=0.1),
        member("b", 0, start=2, acc=0.2),
        member("c", 0, "crashed", start=3, acc=0.3),
        member("d", 1, "crashed", start=1, acc=0.4),
        member("e", 1, "running", start=2, acc=0.5),
        member("f", None, start=9, acc=0.6),
        member("g", None, start=10, acc=0.7),
    ]
    assert [m.run_id for m in newest_of_each_fold(runs)] == ["b", "e", "f", "g"]
    assert [m.run_id for m in newest_of_each_fold(runs[::-1])] == ["b", "e", "f", "g"]
    (row,) = fold_table(runs)
    assert row.spreads["acc"].n == 4 and row.spreads["acc"].mean == pytest.approx(0.5)
    assert row.run_ids == ("b", "e", "f", "g")


def test_lines_by_config_and_by_all_but_the_seed():
    runs = [
        member(
            f"{lr}-{seed}",
            None,
            start=seed,
            config={"lr": lr, "seed": seed, "net": {"depth": 2}},
            acc=lr + seed,
            name="x",
        )
        for lr in (0.1, 0.2)
        for seed in (0, 1)
    ]
    by_lr = fold_table(runs, ["lr"])
    assert [(row.by, row.spreads["acc"].n) for row in by_lr] == [({"lr": 0.1}, 2), ({"lr": 0.2}, 2)]
    assert [row.run_ids for row in fold_table(runs, all_but=["seed"])] == [row.run_ids for row in by_lr]
    assert list(by_lr[0].spreads) == ["acc"]  # text has no spread
    assert len(fold_table(runs, ["seed", "lr"])) == 4
    assert fold_table([]) == []


def test_a_fold_counts_once_per_line_not_once_per_table():
    runs = [member(f"{lr}{k}", k, start=k, config={"lr": lr}, acc=1.0) for lr in (1, 2) for k in range(3)]
    assert [row.spreads["acc"].n for row in fold_table(runs, ["lr"])] == [3, 3]

"""Histograms of tensors equal numpy's, however they are read."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from runfold.watching.histograms import BINS, count_all, count_fused  # noqa: E402


def tensors(seed: int) -> list:
    random = torch.Generator().manual_seed(seed)
    return [
        torch.randn(1000, 7, generator=random),
        torch.randn(3, generator=random) * 1e-30,
        torch.randn(50, 50, generator=random)[::2, ::3],
        torch.tensor(3.5),
        torch.zeros(10),
        torch.tensor([1.0, math.nan, math.inf, -math.inf, 2.0]),
        torch.tensor([math.nan]),
        torch.randn(2000, generator=random) * 1e30,
    ]


def check(tensor, counted) -> None:
    numbers = tensor.double().numpy().ravel()
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        assert counted is None
        return
    counts, edges = counted
    if numbers.min() == numbers.max():  # one bin without a width
        assert (counts, edges) == ([len(numbers)], [numbers[0], numbers[0]])
        return
    wanted, wanted_edges = np.histogram(numbers, BINS)
    assert sum(counts) == len(numbers)
    np.testing.assert_allclose(
        edges, wanted_edges, rtol=1e-6, atol=1e-6 * (wanted_edges[-1] - wanted_edges[0])
    )
    # A number on an edge may fall to either side in float32.
    assert np.abs(np.cumsum(counts) - np.cumsum(wanted)).max() <= max(2, len(numbers) // 500)


@pytest.mark.parametrize("chunk", [10**6, 999, 7])
def test_the_fused_pass_counts_as_numpy_does(chunk: int) -> None:
    found = tensors(chunk)
    for tensor, counted in zip(found, count_fused(found, chunk=chunk), strict=True):
        check(tensor, counted)


def test_each_tensor_of_a_processor_is_counted_as_numpy_does() -> None:
    found = tensors(1)
    for tensor, counted in zip(found, count_all(found), strict=True):
        check(tensor, counted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_and_layouts(dtype) -> None:
    dense = torch.arange(-8, 8).to(dtype)
    sparse = torch.sparse_coo_tensor([[0, 1, 0]], torch.tensor([1.0, 5.0, 2.0]), (10,), check_invariants=True)
    counted = count_all([dense, sparse, torch.empty(0), torch.complex(torch.zeros(2), torch.ones(2))])
    check(dense, counted[0])
    assert counted[1] is not None
    assert (counted[1][1][0], counted[1][1][-1], sum(counted[1][0])) == (0.0, 5.0, 10)
    assert counted[1][0][0] == 8  # zeros that it stands for
    assert counted[2] is None
    assert counted[3] is not None
    assert sum(counted[3][0]) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
def test_a_gpu_counts_as_numpy_does_and_is_asked_once() -> None:
    found = [tensor.cuda() for tensor in tensors(2)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            count_fused(found)  # the transfer at its end is the one that waits
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for tensor, counted in zip(found, count_fused(found), strict=True):
        check(tensor.cpu(), counted)

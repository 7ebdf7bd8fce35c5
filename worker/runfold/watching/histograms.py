"""Histograms of many tensors in few operations of the device, and one transfer for all of them.

On an accelerator the tensors are read as one long vector, each number with the index of its tensor, so that
the count of kernels does not grow with that of tensors, and nothing waits for the device before the end. On a
processor, where nothing is launched, each tensor is counted by itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

#: Bins of equal width from the smallest to the largest finite number, as W&B has them.
BINS = 64
#: Numbers that are read at once: bounds the memory that is needed on the device to some 100 MB.
CHUNK = 4 * 1024 * 1024

#: Up to here float32 counts without error.
_EXACT = 2**24

#: Counts and edges, BINS and BINS + 1 of them, 1 and 2 of equal numbers; None where no number was finite.
Counted = tuple[list[float], list[float]]


def count_all(tensors: Sequence[Any], *, chunk: int = CHUNK) -> list[Counted | None]:
    """Return the histogram of each tensor, over its finite numbers.

    Args:
        tensors: Of any shape, floating dtype, layout and device; of a sharded one (DTensor) the part here.
        chunk: Numbers that are read at once on an accelerator.
    """
    import torch

    found: list[Counted | None] = [None] * len(tensors)
    with torch.no_grad():
        plain, zeros = zip(*map(_plain, tensors), strict=True) if tensors else ((), ())
        places: dict[Any, list[int]] = {}
        for index, tensor in enumerate(plain):
            if tensor.numel():
                places.setdefault(tensor.device, []).append(index)
        for device, indices in places.items():
            here = [plain[index] for index in indices]
            counted = _count_each(here) if device.type == "cpu" else count_fused(here, chunk=chunk)
            for index, one in zip(indices, counted, strict=True):
                found[index] = one if one is None or not zeros[index] else _with_zeros(one, zeros[index])
    return found


def count_fused(tensors: Sequence[Any], *, chunk: int = CHUNK) -> list[Counted | None]:
    """Return the histogram of each tensor of one device, which hold a number each at least."""
    import torch

    device, many = tensors[0].device, len(tensors)
    low = torch.full((many,), torch.inf, device=device)
    high = torch.full((many,), -torch.inf, device=device)
    for values, owner in _chunks(tensors, chunk):
        finite = torch.isfinite(values)
        low.scatter_reduce_(0, owner, values.where(finite, torch.inf), "amin")
        high.scatter_reduce_(0, owner, values.where(finite, -torch.inf), "amax")
    # Of equal numbers, or of none: any width does, if it is one.
    width = (high - low).where(high > low, 1.0)
    counts = torch.zeros(many * BINS, dtype=torch.int64, device=device)
    for values, owner in _chunks(tensors, chunk):
        finite = torch.isfinite(values)
        place = ((values - low[owner]) / width[owner] * BINS).nan_to_num(0.0, 0.0, 0.0)
        place = owner * BINS + place.clamp_(0, BINS - 1).to(torch.int64)
        counts.scatter_add_(0, place, finite.to(torch.int64))
    table = torch.cat(
        [low.double()[:, None], high.double()[:, None], counts.view(many, BINS).double()], dim=1
    )
    return [_counted(row[0], row[1], row[2:]) for row in table.tolist()]


def _chunks(tensors: Sequence[Any], size: int) -> Iterator[tuple[Any, Any]]:
    """Yield all numbers, `size` at a time, as float32, and beside each the index of its tensor."""
    import torch

    parts: list[Any] = []
    owners: list[int] = []
    held = 0
    for index, tensor in enumerate(tensors):
        flat, start = tensor.reshape(-1), 0
        while start < flat.numel():
            part = flat[start : start + size - held]
            parts.append(part.float())
            owners.append(index)
            held += part.numel()
            start += part.numel()
            if held == size:
                yield _joined(torch, parts, owners)
                parts, owners, held = [], [], 0
    if held:
        yield _joined(torch, parts, owners)


def _joined(torch: Any, parts: list[Any], owners: list[int]) -> tuple[Any, Any]:
    device, total = parts[0].device, sum(part.numel() for part in parts)
    sizes = torch.tensor([part.numel() for part in parts]).to(device, non_blocking=True)
    index = torch.tensor(owners).to(device, non_blocking=True)
    # Told how long the result is, it need not ask the device.
    return torch.cat(parts), torch.repeat_interleave(index, sizes, output_size=total)


def _count_each(tensors: Sequence[Any]) -> list[Counted | None]:
    import torch

    found: list[Counted | None] = []
    for tensor in tensors:
        flat = tensor.reshape(-1)
        flat = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
        low, high = (float(bound) for bound in torch.aminmax(flat))
        if not (abs(low) < torch.inf and abs(high) < torch.inf):  # also where one is NaN
            flat = flat[torch.isfinite(flat)]
            if not flat.numel():
                found.append(None)
                continue
            low, high = (float(bound) for bound in torch.aminmax(flat))
        # In parts, as histc counts in the tensor's own floats.
        parts = [torch.histc(part, BINS, low, high).double() for part in flat.split(_EXACT)]
        found.append(_counted(low, high, torch.stack(parts).sum(0).tolist()))
    return found


def _counted(low: float, high: float, counts: list[float]) -> Counted | None:
    if low > high:
        return None
    if low == high:
        return [int(sum(counts))], [low, high]  # one bin without a width, as the client stores it
    width = (high - low) / BINS
    return [int(count) for count in counts], [low + width * index for index in range(BINS)] + [high]


def _with_zeros(counted: Counted, zeros: int) -> Counted:
    """Add to the one zero of a sparse tensor that was counted those that were not."""
    counts, edges = counted
    at_zero = min(max(bisect_right(edges, 0.0) - 1, 0), len(counts) - 1)
    return [*counts[:at_zero], counts[at_zero] + zeros - 1, *counts[at_zero + 1 :]], edges


def _plain(tensor: Any) -> tuple[Any, int]:
    """Return a dense tensor of floats that holds the numbers of this one which are here.

    A sparse tensor stands for zeros that it does not hold: the result has one of them, so that they lie
    within its bounds, and how many there are is told beside it.
    """
    import torch

    tensor, zeros = tensor.detach(), 0
    if hasattr(tensor, "to_local"):  # a DTensor: FSDP2, tensor parallelism
        tensor = tensor.to_local()
    if tensor.is_sparse:
        values = tensor.coalesce().values().reshape(-1)
        zeros = tensor.numel() - values.numel()
        tensor = torch.cat([values, values.new_zeros(1)]) if zeros else values
    return (tensor.abs() if tensor.is_complex() else tensor), zeros

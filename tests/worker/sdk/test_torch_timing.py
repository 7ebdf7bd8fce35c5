"""Collectives are timed and put back; numbers, errors and signatures stay what they were. Real gloo, one rank."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold.torch_timing import _BackwardWait
from support.spooled import Spooled
from worker.sdk.conftest import Clock

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def model() -> Any:
    torch.manual_seed(3)
    layers = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2))
    return torch.nn.parallel.DistributedDataParallel(layers)


def train(ddp: Any, steps: int = 3) -> list[Any]:
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
    torch.manual_seed(4)
    for _ in range(steps):
        optimizer.zero_grad()
        ddp(torch.randn(8, 5)).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in ddp.parameters()]


def functions() -> dict[str, Any]:
    from runfold.torch_timing import COLLECTIVES

    inner = dist.distributed_c10d
    return {f"{m.__name__}.{n}": getattr(m, n) for m in (dist, inner) for n in COLLECTIVES if hasattr(m, n)}


def test_collectives_are_timed_until_it_is_taken_back(
    group: None, run: runfold.Run, spool: Callable[[], Spooled]
) -> None:
    before = functions()
    with runfold.time_collectives(run=run):
        tensor = torch.ones(3)
        dist.all_reduce(tensor)
        gathered: list[Any] = [None]
        dist.all_gather_object(gathered, {"a": 1})
        assert (tensor.tolist(), gathered) == ([1.0] * 3, [{"a": 1}])
        work = dist.all_reduce(tensor, async_op=True)
        work.wait()
        assert inspect.signature(dist.all_reduce) == inspect.signature(before["torch.distributed.all_reduce"])
        with pytest.raises(TypeError):
            dist.all_reduce("no tensor")
        run.log({"loss": 1.0})
    assert functions() == before
    run.log({"loss": 1.0})
    first, second = spool().values
    assert {"timing/all_reduce", "timing/all_gather_object"} <= set(first)
    assert first["timing/busy"] == pytest.approx(first["timing/step"] - first["timing/collective"])
    assert "timing/busy" not in second


def test_the_wait_of_backward_is_timed_and_numbers_stay(
    group: None, run: runfold.Run, spool: Callable[[], Spooled]
) -> None:
    plain = train(model())
    ddp = model()
    timing = runfold.time_collectives(ddp, run)
    for one, other in zip(train(ddp), plain, strict=True):
        assert torch.equal(one, other)
    run.log({})
    with ddp.no_sync():
        ddp(torch.ones(1, 5)).sum().backward()
    timing.remove()
    timing.remove()
    train(ddp, 1)
    run.log({})
    first, second = spool().values
    assert first["timing/ddp_wait"] > 0
    assert second["timing/ddp_wait"] < 0.5
    assert run._timers is not None and run._timers.new_lane().stack == []


def test_slow_layers_are_not_counted_as_wait(
    group: None, run: runfold.Run, spool: Callable[[], Spooled], clock: Clock
) -> None:
    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, value: Any) -> Any:
            return value.clone()

        @staticmethod
        def backward(_: Any, gradient: Any) -> Any:  # type: ignore[override]
            clock.now_s += 0.2
            return gradient

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(5, 5), torch.nn.Linear(5, 1)

        def forward(self, value: Any) -> Any:
            return self.second(Slow.apply(self.first(value)))

    clock.tick_s = 0.001
    ddp = torch.nn.parallel.DistributedDataParallel(Net())
    with runfold.time_collectives(ddp, run), run.timer("backward"):
        ddp(torch.ones(2, 5)).sum().backward()
    run.log({})
    (row,) = spool().values
    assert row["timing/backward"] > 0.2
    assert 0 < row["timing/ddp_wait"] < 0.1


def test_a_backward_pass_that_fails_leaves_nothing_behind(
    group: None, run: runfold.Run, spool: Callable[[], Spooled], clock: Clock
) -> None:
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, value: Any) -> Any:
            return value.clone()

        @staticmethod
        def backward(_: Any, gradient: Any) -> Any:  # type: ignore[override]
            raise ZeroDivisionError("own")

    inner = torch.nn.Linear(5, 1)
    ddp = torch.nn.parallel.DistributedDataParallel(inner)
    with runfold.time_collectives(ddp, run):
        with pytest.raises(ZeroDivisionError, match="own"):
            (Fails.apply(inner.weight).sum() + ddp(torch.ones(1, 5)).sum()).backward()
        with run.timer("eval"):
            clock.now_s += 0.05
        run.log({})
    assert spool().values[0]["timing/eval"] == pytest.approx(0.05)


def test_a_wrong_model_changes_nothing(group: None, run: runfold.Run) -> None:
    before = functions()
    with pytest.raises(TypeError, match="module"):
        runfold.time_collectives("model", run)
    assert functions() == before


def test_a_disabled_run_times_nothing(group: None) -> None:
    run = runfold.init(mode="disabled", reinit="create_new")
    with runfold.time_collectives(run=run):
        dist.barrier()
    run.finish()


def test_a_model_is_freed_while_it_is_timed(group: None, run: runfold.Run) -> None:
    train(model(), 1)  # what torch imports at its first pass leaves frames in cycles, which hold the model
    gc.collect()
    gc.disable()
    try:
        ddp = model()
        timing = runfold.time_collectives(ddp, run)
        ddp(torch.ones(2, 5)).sum().backward()
        gone = weakref.ref(ddp)
        del ddp
        assert gone() is None, "no cycle, and nobody else who holds it"
        timing.remove()
    finally:
        gc.enable()


def test_an_engine_that_takes_no_callbacks_keeps_no_pass_from_its_end(group: None, run: runfold.Run) -> None:
    class Refuses:
        def queue_callback(self, _: Any) -> None:
            raise RuntimeError("another version of torch")

    ddp = model()
    waiting = _BackwardWait(ddp, run.timer("w", collective=True))
    waiting._engine = Refuses()
    plain = train(model())
    for one, other in zip(train(ddp), plain, strict=True):
        assert torch.equal(one, other)
    waiting.remove()

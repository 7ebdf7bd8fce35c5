"""Time spent in torch.distributed's collectives, and in the wait of DistributedDataParallel's backward.

An all-reduce makes all ranks as slow as the slowest, so that only the time outside of it tells who that is.
In: the functions of torch.distributed, and a DDP module. Out: `timing/<collective>`, `timing/collective`,
`timing/busy`. Everything is on the host's clock: on CUDA, collectives are only launched, and their wait shows
where the host waits for the device.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from runfold.current_run import need_run
from runfold.run import Run
from runfold.timers import Timer

#: Those that wait for other ranks; where `async_op` is given, what they return is waited for elsewhere.
COLLECTIVES: Final = (
    "all_reduce",
    "all_reduce_coalesced",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_coalesced",
    "all_gather_object",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "all_to_all",
    "all_to_all_single",
    "broadcast",
    "broadcast_object_list",
    "reduce",
    "gather",
    "gather_object",
    "scatter",
    "scatter_object_list",
    "barrier",
    "monitored_barrier",
    "send",
    "recv",
)
#: Of DDP's all-reduce, only what is not hidden behind the backward pass is waited for.
DDP_WAIT: Final = "ddp_wait"
#: Parameters of a model that tell of its backward pass: the first that gets a gradient does.
_WATCHED_PARAMETERS: Final = 16


class CollectiveTiming:
    """Times until `remove()`, or the end of its `with` block. Never makes a collective fail."""

    def __init__(self, run: Run, model: Any = None) -> None:
        """Begin. Use `time_collectives`."""
        self._run = run
        self._restores: list[Callable[[], None]] = []
        try:
            self._wrap_functions()
            if model is not None:
                self._restores.append(_BackwardWait(model, run.timer(DDP_WAIT, collective=True)).remove)
            run.tell_busy(True)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Put everything back as it was. Idempotent."""
        while self._restores:
            self._restores.pop()()
        self._run.tell_busy(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _wrap_functions(self) -> None:
        import torch.distributed as package

        # Functions of the package call each other in the module that defines them.
        inner = sys.modules.get("torch.distributed.distributed_c10d")
        for name in COLLECTIVES:
            original = getattr(package, name, None)
            if original is None:  # another version of torch
                continue
            timed = _timed(original, self._run.timer(name, collective=True))
            for module in (package, inner):
                if module is not None and getattr(module, name, None) is original:
                    setattr(module, name, timed)
                    self._restores.append(functools.partial(_put_back, module, name, timed, original))


def time_collectives(model: Any = None, run: Run | None = None) -> CollectiveTiming:
    """Time what this rank waits in collectives of torch.distributed, from now on.

    Rows then carry `timing/<function>` for each collective used, `timing/collective` (their sum) and
    `timing/busy`: what is left of `timing/step`, by which slow ranks are found.

    Call it once, before `from torch.distributed import all_reduce` and the like bind the plain functions.
    Of a call with async_op=True only the launch is timed. Times are the host's: on CUDA, those of launches.

    Args:
        model: A DistributedDataParallel: also time what its backward pass waits for gradients of other ranks.
        run: The run that logs; the current one by default.

    Returns:
        What takes it back by `remove()`, or as a context manager.

    Raises:
        Error: There is no run.
        ImportError: There is no torch.
        TypeError: `model` has no parameters.
    """
    return CollectiveTiming(need_run("time_collectives") if run is None else run, model)


def _timed(function: Callable[..., Any], timer: Timer) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with timer:
            return function(*args, **kwargs)

    return timed


def _put_back(module: Any, name: str, timed: Any, original: Any) -> None:
    # Whoever has wrapped it since keeps his own.
    if getattr(module, name, None) is timed:
        setattr(module, name, original)


class _BackwardWait:
    """Times from the end of this rank's own backward pass to that of DDP's all-reduce.

    No communication hook, so that numbers are the same to the last bit, and one of the user's own stays. The
    autograd engine runs callbacks at the end of a backward pass in the order in which they were queued. DDP
    queues its wait with the last gradient; the first gradient queues `_arrive`, which queues `_leave` behind.
    """

    def __init__(self, model: Any, timer: Timer) -> None:
        import torch

        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"time_collectives(model=...) takes a torch module, not {type(model).__name__}")
        self._timer = timer
        # As FSDP and activation checkpointing use them; without the second, each hook queues for itself.
        self._engine: Any = torch.autograd.Variable._execution_engine  # noqa: SLF001  # see above
        self._task_id: Callable[[], int] | None = getattr(
            torch._C,  # noqa: SLF001  # see above
            "_current_graph_task_id",
            None,
        )
        self._queued_in = -1
        self._is_inside = False
        wanted: list[Any] = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # In order of definition: gradients mostly come from the last to the first, and some may get none.
        every = max(1, len(wanted) // _WATCHED_PARAMETERS)
        self._handles = [parameter.register_hook(self._begin) for parameter in wanted[::-1][::every]]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._leave()

    def _begin(self, _: Any) -> None:
        try:
            task = self._queued_in + 1 if self._task_id is None else self._task_id()
            if task != self._queued_in:
                self._queued_in = task
                self._engine.queue_callback(self._arrive)
        except Exception:  # noqa: BLE001  # an untimed backward pass is better than none
            return

    def _arrive(self) -> None:
        try:
            self._leave()  # of a backward pass that failed
            if self._handles:
                self._engine.queue_callback(self._leave)
                self._timer.__enter__()
                self._is_inside = True
        except Exception:  # noqa: BLE001  # same
            return

    def _leave(self) -> None:
        if self._is_inside:
            self._is_inside = False
            self._timer.__exit__()

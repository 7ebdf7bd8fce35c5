"""Watch: one module that is watched. In: torch's hooks. Out: histograms, with the run's next row.

Nothing is done for each parameter at each step: a hook on the module's output tells of the backward pass, or
hooks on a few parameters where the module is not called itself (Lightning calls its `training_step`). Its end
is awaited by a callback of the autograd engine, behind those of DistributedDataParallel and FSDP, so that
the gradients are the reduced ones. Sources: torch/nn/parallel/distributed.py, torch/csrc/autograd/engine.cpp.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from runfold import terminal
from runfold.histogram import Histogram
from runfold.watching.graph import GraphNote
from runfold.watching.histograms import count_all
from runfold.watching.hooks import Hook

#: Tensors of one output that are looked at for the backward pass.
MAX_OUTPUTS = 32
#: Parameters, spread over the module, that tell of a backward pass by which no output comes.
MAX_HOOKED_PARAMETERS = 16

_NO_PASS = -1

#: Takes values to go with the run's next row.
Log = Callable[[Mapping[str, Any]], None]


class Watch:
    """Counts passes and logs at every `log_freq`-th. A fault ends the watching, never the training."""

    def __init__(
        self,
        model: Any,
        log: Log,
        *,
        prefix: str,
        gradients: bool,
        parameters: bool,
        log_freq: int,
        on_graph: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Put hooks into the model.

        Args:
            prefix: In front of the names of parameters: "" for the first model, "graph_1", ... for others.
            log_freq: Passes, backward ones for gradients, forward ones for parameters.
            on_graph: Told once what the model consists of, after its first pass; None: nobody wants to know.
        """
        self.model = model
        self._log = log
        self._prefix = prefix
        self._wants_gradients = gradients
        self._wants_parameters = parameters
        self._log_freq = log_freq
        self._backward_count = self._forward_count = 0
        self._is_awaited = False
        #: Of the backward pass whose end is awaited, by torch's number.
        self._awaited_pass = _NO_PASS
        #: The module was called since the last backward pass.
        self._was_called = False
        self._hooks = [Hook(self._safely(self._went_forward)), Hook(self._safely(self._goes_backward))]
        self._handles = [model.register_forward_hook(self._hooks[0])]
        self._handles += [one.register_hook(self._hooks[1]) for one in _some_parameters(model)]
        self._graph = GraphNote(model, on_graph) if on_graph is not None else None

    def remove(self) -> None:
        """Take the hooks out. Idempotent."""
        for hook in self._hooks:
            hook.call = None
        self._wants_gradients = False  # hooks on tensors that are still to be reached
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._graph is not None:
            self._graph.remove()

    def _safely(self, call: Callable[..., None]) -> Callable[..., None]:
        def guarded(*arguments: Any) -> None:
            try:
                call(*arguments)
            except Exception as error:  # noqa: BLE001  # training goes on, whatever a model does
                self.remove()
                terminal.warn(
                    f"watching {type(self.model).__name__} ends, training goes on: "
                    f"{type(error).__name__}: {error}"
                )

        return guarded

    def _went_forward(self, _model: Any, _inputs: Any, output: Any) -> None:
        import torch

        self._is_awaited = False  # a backward pass that failed on its way never told of its end
        self._was_called = True
        if self._graph is not None:
            self._graph.finish()
        if self._wants_gradients and torch.is_grad_enabled():
            hook = self._safely(self._goes_backward)
            for tensor in _tensors_with_grad(output, torch.Tensor):
                tensor.register_hook(hook)
        self._count_forward()

    def _count_forward(self) -> None:
        if self._wants_parameters:
            self._forward_count += 1
            if self._forward_count >= self._log_freq:
                self._forward_count = 0
                self._tell("parameters/", list(self.model.named_parameters()))

    def _goes_backward(self, _gradient: Any) -> None:
        this_pass = _number_of_pass()
        if self._is_awaited and (this_pass == self._awaited_pass or _is_inside_another()):
            return
        if self._handles:
            self._is_awaited, self._awaited_pass = True, this_pass
            _when_done(lambda: _when_done(self._safely(self._went_backward)))

    def _went_backward(self) -> None:
        self._is_awaited = False
        if not self._was_called:
            self._count_forward()
        self._was_called = False
        if not self._wants_gradients:
            return
        self._backward_count += 1
        if self._backward_count >= self._log_freq:
            self._backward_count = 0
            named = self.model.named_parameters()
            self._tell("gradients/", [(name, one.grad) for name, one in named if one.grad is not None])

    def _tell(self, kind: str, named: list[tuple[str, Any]]) -> None:
        import torch
        from torch.nn.parameter import is_lazy

        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return  # nothing may wait for the device while a CUDA graph is recorded

        named = [(name, tensor) for name, tensor in named if not is_lazy(tensor)]
        counted = count_all([tensor for _, tensor in named])
        found = {
            f"{kind}{self._prefix}{name}": Histogram(np_histogram=one)
            for (name, _), one in zip(named, counted, strict=True)
            if one is not None
        }
        if found:
            self._log(found)


def _number_of_pass() -> int:
    """Return torch's number of the backward pass that goes on; one that failed never came to its end."""
    import torch

    ask = getattr(torch._C, "_current_graph_task_id", None)  # noqa: SLF001  # not public, and may go
    return _NO_PASS if ask is None else int(ask())


def _is_inside_another() -> bool:
    """Whether the backward pass was begun by a node of another one, as reentrant checkpoints do for theirs.

    Source: torch/utils/checkpoint.py, CheckpointFunction.backward; torch calls all such nodes at one place.
    """
    from torch.autograd.function import BackwardCFunction

    frame: FrameType | None = sys._getframe()  # noqa: SLF001  # the only way to the stack
    while frame is not None and frame.f_code is not BackwardCFunction.apply.__code__:
        frame = frame.f_back
    return frame is not None


def _some_parameters(model: Any) -> list[Any]:
    """Return parameters that gradients come to, spread evenly over the module."""
    from torch.nn.parameter import is_lazy

    found = [one for one in model.parameters() if one.requires_grad and not is_lazy(one)]
    step = -(-len(found) // MAX_HOOKED_PARAMETERS)
    return found[::step] if found else []


def _when_done(call: Callable[[], None]) -> None:
    """Have something called when the backward pass that goes on is through, behind what was asked before."""
    import torch

    # Not public, and the only way: DDP and FSDP use it too.
    torch.autograd.Variable._execution_engine.queue_callback(call)  # noqa: SLF001


def _tensors_with_grad(output: Any, kind: Any) -> Iterator[Any]:
    """Yield the tensors of a module's output by which a backward pass may come."""
    waiting, found = [output], 0
    while waiting and found < MAX_OUTPUTS:
        one = waiting.pop()
        if isinstance(one, kind):
            if one.requires_grad:
                found += 1
                yield one
        elif isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            waiting.extend(one)
        elif hasattr(one, "__dataclass_fields__"):
            waiting.extend(vars(one).values() if hasattr(one, "__dict__") else ())

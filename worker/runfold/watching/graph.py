"""What a torch module consists of, as its first forward pass shows it: layers, shapes, what feeds what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from runfold.watching.hooks import Hook

#: Layers of one graph; a model with more is told of up to here.
MAX_NODES = 10_000
#: Steps of the autograd graph that are walked to find what feeds one layer.
MAX_WALK = 1_000


class GraphNote:
    """Listens to every layer during one forward pass; then `finish` tells, once, and takes the hooks out."""

    def __init__(self, model: Any, on_graph: Callable[[dict[str, Any]], None]) -> None:
        """Put a hook into each layer that has no layers of its own."""
        self._on_graph = on_graph
        self._nodes: list[dict[str, Any]] = []
        self._edges: list[list[int]] = []
        #: Which layer made the tensor that this function of the autograd graph stands for.
        self._made_by: dict[Any, int] = {}
        self._handles: list[Any] = []
        for name, module in model.named_modules():
            if len(self._handles) < MAX_NODES and next(iter(module.children()), None) is None:
                self._handles.append(module.register_forward_hook(Hook(self._listener(name))))

    def finish(self) -> None:
        """The pass is through: tell what was seen. Nothing happens when it was told already."""
        if not self._handles:
            return
        self.remove()
        self._on_graph({"format": "torch", "nodes": self._nodes, "edges": self._edges})
        self._nodes, self._edges, self._made_by = [], [], {}

    def remove(self) -> None:
        """Take the hooks out. Idempotent."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _listener(self, name: str) -> Callable[..., None]:
        def listen(module: Any, inputs: Any, output: Any) -> None:
            if len(self._nodes) >= MAX_NODES:
                return
            index = len(self._nodes)
            outputs = list(_tensors(output))
            self._nodes.append(
                {
                    "id": index,
                    "name": name,
                    "class_name": type(module).__name__,
                    "parameters": [[own, list(one.shape)] for own, one in module.named_parameters()],
                    "num_parameters": sum(one.numel() for one in module.parameters()),
                    "output_shape": [list(tensor.shape) for tensor in outputs],
                }
            )
            feeders = {feeder for tensor in _tensors(inputs) for feeder in self._feeders(tensor.grad_fn)}
            self._edges.extend([feeder, index] for feeder in sorted(feeders))
            for tensor in outputs:
                if tensor.grad_fn is not None:
                    self._made_by[tensor.grad_fn] = index

        return listen

    def _feeders(self, function: Any) -> Iterator[int]:
        """Yield the layers whose outputs lead to what this function of the autograd graph made."""
        seen: set[Any] = set()
        waiting = [function]
        while waiting and len(seen) < MAX_WALK:
            one = waiting.pop()
            if one is None or one in seen:
                continue
            seen.add(one)
            if one in self._made_by:
                yield self._made_by[one]
            else:
                waiting.extend(parent for parent, _ in one.next_functions)


def _tensors(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        one = waiting.pop(0)
        if hasattr(one, "grad_fn") and hasattr(one, "shape"):
            yield one
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            waiting.extend(one)

"""RunWatch: watching torch modules while they are trained. Part of Run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from runfold import terminal
from runfold.errors import Error
from runfold.run_part import RunPart

if TYPE_CHECKING:
    from runfold.watching.watch import Watch

_LOGS = ("gradients", "parameters", "all", None)


class RunWatch(RunPart):
    """Models and what watches them."""

    _watches: tuple[Watch, ...] = ()
    #: Models watched so far: the next one's number.
    _watched_count: int = 0

    def watch(  # noqa: PLR0917  # W&B's signature
        self,
        models: Any,
        criterion: Any = None,  # noqa: ARG002  # W&B's
        log: Literal["gradients", "parameters", "all"] | None = "gradients",
        log_freq: int = 1000,
        idx: int | None = None,
        log_graph: bool = False,
    ) -> None:
        """Log histograms of a torch module's gradients and parameters with every `log_freq`-th pass.

        They go with the next row that is committed, as `gradients/<name>` and `parameters/<name>`, with 64
        bins each over the finite numbers. Gradients are read when a backward pass is through, as they lie in
        `.grad` then: reduced over ranks under DistributedDataParallel, accumulated where passes are. Of
        sharded parameters (FSDP) each rank logs its own part. A model that is watched again is watched anew.

        Args:
            models: A torch.nn.Module, wrapped or not, or a list of them.
            criterion: Accepted for W&B's signature; does nothing.
            log: "gradients", "parameters", "all", or None for the graph alone.
            log_freq: Backward passes between histograms of gradients, forward passes between those of
                parameters; 1 or more.
            idx: Number of the first model; by default one after the last. Models but number 0 have
                `graph_<number>` in front of their parameters' names.
            log_graph: Keep what the model consists of, as the summary's `graph_<number>`.

        Raises:
            Error: torch is not installed; UsageError when the run is finished.
            TypeError: One of the models is no torch.nn.Module.
            ValueError: `log` or `log_freq` can't be.
        """
        self._recorder.check_active("watch")
        if log not in _LOGS:
            raise ValueError("log must be one of 'gradients', 'parameters', 'all', or None")
        if isinstance(log_freq, bool) or not isinstance(log_freq, int) or log_freq < 1:
            raise ValueError(f"log_freq must be an integer of 1 or more, not {log_freq!r}")
        chosen = _modules(models)
        first = self._watched_count if idx is None else idx
        self._watched_count = max(self._watched_count, first + len(chosen))
        from runfold.watching.watch import Watch

        self.unwatch(chosen)
        for number, model in enumerate(chosen, first):
            try:
                watch = Watch(
                    model,
                    self._log_watched,
                    prefix=f"graph_{number}" if number else "",
                    gradients=log in ("gradients", "all"),
                    parameters=log in ("parameters", "all"),
                    log_freq=log_freq,
                    on_graph=self._graph_keeper(number) if log_graph else None,
                )
            except RuntimeError as error:  # torch refuses hooks, as of scripted modules
                terminal.warn(f"a {type(model).__name__} can't be watched: {error}. Training goes on")
                continue
            self._watches = (*self._watches, watch)

    def unwatch(self, models: Any = None) -> None:
        """Watch no more: these models, or all of them. Nothing happens for one that is not watched."""
        if models is not None and not isinstance(models, Sequence):
            models = (models,)
        for watch in self._watches:
            if models is None or any(watch.model is model for model in models):
                watch.remove()
                self._watches = tuple(each for each in self._watches if each is not watch)

    def _log_watched(self, values: Mapping[str, Any]) -> None:
        if self._recorder.is_ended:
            self.unwatch()
        else:
            self._log_row(values, None, False)  # type: ignore[attr-defined]  # RunTiming's

    def _graph_keeper(self, number: int) -> Callable[[dict[str, Any]], None]:
        def keep(seen: dict[str, Any]) -> None:
            from runfold.media.graph import Graph

            graph = Graph(seen["format"])
            for node in seen["nodes"]:
                graph.add_node(**node)
            for one, other in seen["edges"]:
                graph.add_edge(graph[one], graph[other])
            self.summary[f"graph_{number}"] = graph  # type: ignore[attr-defined]  # Run's

        return keep

    def _leave(self, code: int | None = 0) -> None:
        """The run is over here: models are let go."""
        self.unwatch()
        super()._leave(code)


def _modules(models: Any) -> list[Any]:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        try:
            import torch
        except ImportError as error:
            raise Error("runfold.watch only works with PyTorch, which can't be imported here") from error
    chosen = list(models) if isinstance(models, list | tuple) else [models]
    for model in chosen:
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"Expected a pytorch model (torch.nn.Module). Received {type(model)}")
    return chosen

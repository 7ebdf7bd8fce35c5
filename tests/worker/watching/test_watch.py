"""Run.watch() on real torch modules."""

from __future__ import annotations

import copy
import gc
import io
import json
import weakref
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import runfold  # noqa: E402
from runfold.watching import watch as watch_module  # noqa: E402

BINS = 64


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.second = torch.nn.Linear(8, 1)
        self.unused = torch.nn.Linear(2, 2)

    def forward(self, x: Any) -> Any:
        hidden = torch.relu(self.first(x))
        return {"out": self.second(hidden) + hidden.sum(1, keepdim=True)}


@pytest.fixture
def run(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[runfold.Run]:
    monkeypatch.setenv("RUNFOLD_DIR", str(tmp_path / "runfold"))
    found = runfold.init(project="watching", mode="offline")
    yield found
    found.finish()


def train(model: Any, run: runfold.Run, steps: int) -> None:
    for step in range(steps):
        model.zero_grad()
        model(torch.ones(3, 4))["out"].sum().backward()
        run.log({"step": step})


def check_histogram(logged: dict[str, Any], tensor: Any) -> None:
    counts, edges = np.histogram(tensor.detach().double().numpy(), BINS)
    assert logged["_type"] == "histogram"
    assert sum(logged["values"]) == tensor.numel()
    assert np.abs(np.cumsum(logged["values"]) - np.cumsum(counts)).max() <= 2
    np.testing.assert_allclose(logged["bins"], edges, rtol=1e-5, atol=1e-6)


def test_gradients_go_with_the_row_of_every_nth_backward_pass(run: runfold.Run) -> None:
    model = Net()
    run.watch(model, log_freq=3)
    train(model, run, 7)
    rows = run.history
    assert [row["_step"] for row in rows if "gradients/first.weight" in row] == [2, 5]
    assert len(rows) == 7
    names = {key for key in rows[2] if "/" in key}
    assert names == {
        f"gradients/{part}.{what}" for part in ("first", "second") for what in ("weight", "bias")
    }
    check_histogram(rows[2]["gradients/first.weight"], model.first.weight.grad)


def test_parameters_are_counted_by_forward_passes(run: runfold.Run) -> None:
    model = Net()
    run.watch(model, log="parameters", log_freq=2)
    train(model, run, 4)
    rows = run.history
    assert [row["_step"] for row in rows if "parameters/unused.bias" in row] == [1, 3]
    check_histogram(rows[3]["parameters/second.weight"], model.second.weight)
    assert not any(key.startswith("gradients/") for row in rows for key in row)


def test_several_models_have_names_of_their_own(run: runfold.Run) -> None:
    one, two, three = Net(), Net(), Net()
    run.watch((one, two), log="all", log_freq=1)
    run.watch(three, log_freq=1, idx=7)
    for model in (one, two, three):
        model(torch.ones(1, 4))["out"].sum().backward()
    run.log({})
    (row,) = run.history
    assert {"gradients/first.bias", "gradients/graph_1first.bias", "gradients/graph_7first.bias"} <= set(row)
    assert {"parameters/first.bias", "parameters/graph_1first.bias"} <= set(row)
    run.unwatch(two)
    train(one, run, 1)
    train(two, run, 1)
    assert "gradients/first.bias" in run.history[1]
    assert not any(key.startswith("gradients/") for key in run.history[2])
    run.unwatch()
    train(three, run, 1)
    assert not any("/" in key for key in run.history[3])


def test_a_model_watched_again_is_watched_anew(run: runfold.Run) -> None:
    model = Net()
    run.watch(model, log_freq=1)
    run.watch(model, log_freq=2, idx=0)
    train(model, run, 2)
    assert ["gradients/first.bias" in row for row in run.history] == [False, True]
    assert len(model._forward_hooks) == 1


def test_one_backward_pass_counts_once_however_many_outputs_it_came_by(run: runfold.Run) -> None:
    model = Net()
    run.watch(model, log_freq=2)
    for _ in range(2):
        # As a discriminator sees real and made up images.
        (model(torch.ones(1, 4))["out"].sum() + model(torch.zeros(1, 4))["out"].sum()).backward()
        run.log({})
    with torch.no_grad():
        model(torch.ones(1, 4))
    assert ["gradients/first.bias" in row for row in run.history] == [False, True]


def test_a_backward_pass_that_fails_is_not_counted_and_does_not_end_the_watching(run: runfold.Run) -> None:
    model = Net()
    run.watch(model, log_freq=1)

    def fail(_: Any) -> None:
        raise RuntimeError("on purpose")

    hidden = model.first(torch.ones(1, 4))
    hidden.register_hook(fail)
    out = model(torch.ones(1, 4))["out"].sum() + hidden.sum()
    with pytest.raises(RuntimeError, match="on purpose"):
        out.backward()
    train(model, run, 1)
    assert "gradients/first.bias" in run.history[0]


def test_copies_and_saved_models_are_not_watched(run: runfold.Run) -> None:
    model = Net()
    run.watch(model, log="all", log_freq=1)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for other in (copy.deepcopy(model), loaded):
        other(torch.ones(1, 4))["out"].sum().backward()
    run.log({"a": 1})
    assert not any("/" in key for key in run.history[0])


def test_a_fault_in_watching_never_reaches_the_training(
    run: runfold.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Net()
    run.watch(model, log="all", log_freq=1)

    def fail(_: Any) -> None:
        raise MemoryError("no space on the device")

    monkeypatch.setattr(watch_module, "count_all", fail)
    train(model, run, 2)
    assert len(run.history) == 2
    assert capsys.readouterr().err.count("watching Net ends, training goes on: MemoryError") == 1
    assert not model._forward_hooks


def test_models_are_let_go_with_the_run_and_not_kept_alive(run: runfold.Run) -> None:
    model = Net()
    run.watch(model, log_freq=1)
    out = model(torch.ones(1, 4))["out"].sum()
    run.finish()
    assert not model._forward_hooks
    out.backward()
    gone = weakref.ref(model)
    del model, out
    gc.collect()
    assert gone() is None


def test_the_graph_is_kept_in_the_summary(run: runfold.Run, tmp_path: Path) -> None:
    model = Net()
    run.watch(model, log=None, log_graph=True)
    train(model, run, 2)
    stored = run.summary["graph_0"]
    assert stored["_type"] == "graph-file"
    waiting = [path for path in (tmp_path / "runfold" / "spool").rglob("*") if path.is_file()]
    [text] = [text for path in waiting if sha256(text := path.read_bytes()).hexdigest() == stored["sha256"]]
    graph = json.loads(text)
    nodes = [(node["name"], node["class_name"], node["num_parameters"]) for node in graph["nodes"]]
    assert nodes == [("first", "Linear", 40), ("second", "Linear", 9)]
    assert graph["nodes"][1]["output_shape"] == [[3, 1]]
    assert [list(edge) for edge in graph["edges"]] == [[0, 1]]
    assert not model.first._forward_hooks


@pytest.mark.parametrize(
    "given",
    [{"log": "everything"}, {"log_freq": 0}, {"log_freq": True}],
)
def test_what_can_not_be_watched_is_refused(run: runfold.Run, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="log"):
        run.watch(**{"models": Net(), **given})
    for model in ("no model", [1], None):
        with pytest.raises(TypeError, match=r"Expected a pytorch model \(torch\.nn\.Module\)"):
            run.watch(model)


def test_a_model_that_takes_no_hooks_is_left_alone(
    run: runfold.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    class Scripted(torch.nn.Linear):
        def register_forward_hook(self, *_: Any, **__: Any) -> Any:  # as torch.jit.ScriptModule does
            raise RuntimeError("register_forward_hook is not supported on ScriptModules")

    run.watch([Scripted(1, 1), model := Net()], log_freq=1)
    assert "a Scripted can't be watched: register_forward_hook is not supported" in capsys.readouterr().err
    assert model._forward_hooks


def test_a_finished_run_watches_nothing(run: runfold.Run) -> None:
    run.finish()
    with pytest.raises(runfold.UsageError):
        run.watch(Net())
    with pytest.raises(runfold.Error, match=r"init\(\)"):
        runfold.watch(Net())


def test_a_module_that_is_never_called_itself_is_watched_too(run: runfold.Run) -> None:
    """As Lightning does: its own method runs the parts."""
    model = Net()
    run.watch(model, log="all", log_freq=2)
    for step in range(4):
        model.zero_grad()
        model.second(model.first(torch.ones(3, 4))).sum().backward()
        run.log({"step": step})
        seen = [key for key in run.summary.keys() if "/" in key]
        assert bool(seen) == (step > 0)
    check_histogram(run.summary["gradients/first.weight"], model.first.weight.grad)
    check_histogram(run.summary["parameters/first.weight"], model.first.weight)
    run.unwatch(model)
    assert not any(one._backward_hooks for one in model.parameters())


def test_a_backward_pass_that_failed_does_not_end_the_watching(run: runfold.Run) -> None:
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            raise FloatingPointError

    model = Net()
    run.watch(model, log_freq=1)
    x = model.second(Fails.apply(model.first(torch.ones(3, 4))))
    with pytest.raises(FloatingPointError):
        x.sum().backward()
    model.second(model.first(torch.ones(3, 4))).sum().backward()
    run.log({"step": 0})
    assert "gradients/first.weight" in run.summary.keys()


@pytest.mark.parametrize("is_called", [True, False])
def test_checkpoints_that_run_backward_inside_of_it_are_no_passes_of_their_own(
    run: runfold.Run, is_called: bool
) -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(Net):
        def forward(self, x: Any) -> Any:
            return self.second(checkpoint(self.first, x, use_reentrant=True)).sum()

    model = Checkpointed()
    run.watch(model, log_freq=2)
    for step in range(2):
        assert not [key for key in run.summary.keys() if "/" in key]
        model.zero_grad()
        (model if is_called else model.forward)(torch.ones(3, 4, requires_grad=True)).backward()
        run.log({"step": step})
    check_histogram(run.summary["gradients/first.weight"], model.first.weight.grad)

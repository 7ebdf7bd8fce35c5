"""The SDK as users type it. mypy checks this file in strict mode; nobody runs it."""

from __future__ import annotations

from typing import Any, assert_type

import runfold
import runfold as wandb
from runfold.config import Config, ConfigStatic
from runfold.metric import Metric
from runfold.run import RunStatus
from runfold.summary import Summary


def train() -> None:
    run = runfold.init(
        project="p", config={"lr": 0.1}, tags=["a"], settings=runfold.Settings(x_label="rank0")
    )
    assert_type(run, runfold.Run)
    run.log({"loss": 0.5, "nested": {"a": 1}})
    run.log({"loss": 0.5}, step=3, commit=True)
    assert_type(
        run.define_metric("loss", step_metric="epoch", summary="min", goal="minimize", reduce="mean"), Metric
    )
    assert_type(run.config, Config)
    assert_type(run.config_static, ConfigStatic)
    assert_type(run.summary, Summary)
    assert_type(run.history, list[dict[str, Any]])
    assert_type(run.status(), RunStatus)
    assert_type((run.id, run.path, run.group), tuple[str, str, str])
    assert_type(run.name, str | None)
    assert_type(run.tags, tuple[str, ...])
    assert_type(run.step, int)
    assert_type(run.rank, int | None)
    assert_type(run.url, str | None)
    run.name = "renamed"
    run.tags = ["a", "b"]  # read as a tuple, set from any iterable
    run.config.update({"lr": 0.2}, allow_val_change=True)
    run.config["batch"] = 32
    run.config.epochs = 3
    run.summary["best"] = 1
    run.alert("title", "text", level=runfold.AlertLevel.WARN, wait_duration=5)
    run.mark_preempting()
    run.finish(exit_code=0)


def train_as_with_wandb() -> None:
    with wandb.init(project="p", mode="shared", id="r", label="rank0", primary=True) as run:
        assert_type(run, wandb.Run)
        wandb.log({"a": 1}, step=1)
        assert_type(wandb.define_metric("a"), Metric)
        if wandb.run is not None:
            assert_type(wandb.run, wandb.Run)
    wandb.finish()


def draw(run: runfold.Run) -> None:
    table = runfold.Table(columns=["x", "y"], data=[[1, 2.5]], log_mode="MUTABLE")
    assert_type(table, runfold.Table)
    table.add_data(2, None)
    table.add_computed_columns(lambda index, row: {"sum": index + row["x"]})
    assert_type(runfold.plot.line(table, "x", "y"), runfold.plot.CustomChart)
    run.log({"table": table, "chart": runfold.plot_table("me/mine", table, {"x": "x"})})
    assert_type(run.to_html(height=200), str)
    assert_type(run.display(), bool)


def wrong(run: runfold.Run) -> None:
    run.log(5)  # type: ignore[arg-type]
    run.log({"a": 1}, step="1")  # type: ignore[arg-type]
    run.id = "x"  # type: ignore[misc]
    run.define_metric("x", foo=1)  # type: ignore[call-arg]
    runfold.init(fold=[1])  # type: ignore[arg-type]

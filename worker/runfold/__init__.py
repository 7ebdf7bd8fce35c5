"""Log from every process of a training job into one run. `import runfold as wandb` runs a W&B script.

Importing loads the standard library and msgpack only; everything else is imported when first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runfold import errors
from runfold.alerts import AlertLevel
from runfold.current_run import BeforeInit, forwarded, need_run
from runfold.errors import CommError, Error, UsageError
from runfold.init import finish, init
from runfold.run import Run
from runfold.settings import Settings
from runfold.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from typing import TextIO

    from runfold import data_types, plot, plots, util
    from runfold.api import Api
    from runfold.artifacts.artifact import Artifact
    from runfold.artifacts.ttl import ArtifactTTL
    from runfold.config import Config
    from runfold.data_types import (
        Audio,
        Classes,
        Graph,
        Histogram,
        Html,
        Image,
        JoinedTable,
        Molecule,
        Object3D,
        Plotly,
        Table,
        Video,
        box3d,
    )
    from runfold.metric import Metric
    from runfold.module_names import agent, controller, join, sweep, termerror, termlog, termwarn
    from runfold.plot import plot_table
    from runfold.summary import Summary
    from runfold.torch_timing import time_collectives

__all__ = [
    "AlertLevel",
    "Api",
    "Artifact",
    "ArtifactTTL",
    "Audio",
    "Classes",
    "CommError",
    "Config",
    "Error",
    "Graph",
    "Histogram",
    "Html",
    "Image",
    "JoinedTable",
    "Molecule",
    "Object3D",
    "Plotly",
    "Run",
    "Settings",
    "Table",
    "UsageError",
    "Video",
    "__version__",
    "agent",
    "alert",
    "box3d",
    "config",
    "controller",
    "data_types",
    "define_metric",
    "errors",
    "finish",
    "finish_artifact",
    "init",
    "join",
    "link_artifact",
    "link_model",
    "log",
    "log_artifact",
    "log_code",
    "log_model",
    "login",
    "mark_preempting",
    "pin_config_keys",
    "plot",
    "plot_table",
    "plots",
    "require",
    "restore",
    "run",
    "save",
    "setup",
    "summary",
    "sweep",
    "teardown",
    "termerror",
    "termlog",
    "termwarn",
    "time_collectives",
    "unwatch",
    "upsert_artifact",
    "use_artifact",
    "use_model",
    "util",
    "watch",
]

__version__ = VERSION

#: The current run, None before init() and after its finish. The next two are its config and summary.
run: Run | None = None
config: Config | BeforeInit = BeforeInit("wandb.config")
summary: Summary | BeforeInit = BeforeInit("wandb.summary")


def log(
    data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, sync: bool | None = None
) -> None:
    """Log one row to the current run. See `Run.log`."""
    need_run("log").log(data, step, commit, sync)


def define_metric(name: str, *args: Any, **kwargs: Any) -> Metric:
    """Define a metric of the current run. See `Run.define_metric`."""
    return need_run("define_metric").define_metric(name, *args, **kwargs)


alert = forwarded("alert")
finish_artifact = forwarded("finish_artifact")
link_artifact = forwarded("link_artifact")
link_model = forwarded("link_model")
log_artifact = forwarded("log_artifact")
log_code = forwarded("log_code")
log_model = forwarded("log_model")
mark_preempting = forwarded("mark_preempting")
pin_config_keys = forwarded("pin_config_keys")
save = forwarded("save")
unwatch = forwarded("unwatch")
upsert_artifact = forwarded("upsert_artifact")
use_artifact = forwarded("use_artifact")
use_model = forwarded("use_model")
watch = forwarded("watch")


def restore(
    name: str, run_path: str | None = None, replace: bool = False, root: str | PathLike[str] | None = None
) -> TextIO | None:
    """Download a file of a run, of the current one by default, and return it open. See `Run.restore`."""
    from runfold.restoring import restore

    return restore(name, run_path, replace, root)


def login(*_: Any, **__: Any) -> bool:
    """Return True: there is nobody to log in to before RUNFOLD_API_KEY is asked for."""
    return True


def require(*_: Any, **__: Any) -> None:
    """Do nothing: W&B's switch for features that runfold has or has not."""


def setup(*_: Any, **__: Any) -> None:
    """Do nothing: W&B's place to start its service early."""


def teardown(exit_code: int | None = None) -> None:
    """Finish the current run."""
    finish(exit_code)


#: Modules and names that are imported when first asked for; media are in `data_types`.
_MODULES = ("data_types", "plot", "plots", "util")
_PLACES = {
    "Api": "runfold.api",
    "Artifact": "runfold.artifacts.artifact",
    "ArtifactTTL": "runfold.artifacts.ttl",
    "Config": "runfold.config",
    "agent": "runfold.module_names",
    "controller": "runfold.module_names",
    "join": "runfold.module_names",
    "plot_table": "runfold.plot",
    "sweep": "runfold.module_names",
    "termerror": "runfold.module_names",
    "termlog": "runfold.module_names",
    "termwarn": "runfold.module_names",
    "time_collectives": "runfold.torch_timing",
}


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        import importlib

        if name in _MODULES:
            return importlib.import_module(f"runfold.{name}")
        if name in _PLACES:
            return getattr(importlib.import_module(_PLACES[name]), name)
        data_types = importlib.import_module("runfold.data_types")
        if name in data_types.__all__:
            return getattr(data_types, name)
    raise AttributeError(f"module 'runfold' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

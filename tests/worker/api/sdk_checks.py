"""What each name of a training process's `Run` does, and what a fresh reader finds of it: for test_public_names.py.

As a program (`python -m worker.api.sdk_checks FOLDER`): calls every name in one process with one run, and prints a map of
names to "" or what was wrong. Names that end a run, or change its state, are called on runs of their own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import runfold
from runfold.api import Run as StoredRun
from support.processes import until
from worker.api.sdk_values import charts, media

RUN_ID = "checklist"
#: Called in the process: (run, folder) -> whether it did what it should.
Do = Callable[[runfold.Run, Path], Any]
#: Called by a reader after the run's end: whether the server has it.
Stored = Callable[[StoredRun], Any]


def properties(run: runfold.Run, _folder: Path) -> dict[str, bool]:
    """Return of each property whether it says what it should."""
    return {
        "config": run.config["lr"] == 0.1 and run.config.lr == 0.1,
        "config_static": run.config_static["lr"] == 0.1,
        "summary": _sets_a_summary(run),
        "history": next(row["loss"] for row in run.history if "loss" in row) == 1.0,
        "dir": Path(run.dir).is_dir(),
        "id": run.id == RUN_ID,
        "name": _renames(run),
        "notes": _annotates(run),
        "tags": _tags(run),
        "entity": run.entity == "local",
        "project": run.project == "digits",
        "path": run.path == f"local/digits/{RUN_ID}",
        "group": run.group == "check",
        "job_type": run.job_type == "train",
        "sweep_id": run.sweep_id == "s7",
        "start_time": abs(run.start_time - time.time()) < 600,
        "starting_step": run.starting_step == 0,
        "step": run.step >= 1,
        "resumed": run.resumed is False,
        "disabled": run.disabled is False,
        "offline": run.offline is False,
        "mode": run.mode == "online",
        "settings": run.settings.project == "digits",
        "url": str(run.url).endswith(f"/local/digits/runs/{RUN_ID}"),
        "project_url": str(run.project_url).endswith("/local/digits"),
        "sweep_url": str(run.sweep_url).endswith("/local/digits/sweeps/s7"),
    }


def _sets_a_summary(run: runfold.Run) -> bool:
    run.summary["by_hand"] = {"a": 1}
    return bool(run.summary["by_hand"]["a"] == 1)


def _renames(run: runfold.Run) -> bool:
    run.name = "renamed"
    return run.name == "renamed"


def _annotates(run: runfold.Run) -> bool:
    run.notes = "$x + 3$"
    return run.notes == "$x + 3$"


def _tags(run: runfold.Run) -> bool:
    run.tags = ("a", "b")
    return run.tags == ("a", "b")


def log(run: runfold.Run, _folder: Path) -> bool:
    run.log({"loss": 1.0, "section/acc": 0.5, "nested": {"a": 1}})
    run.log({"loss": 0.5}, commit=False)
    run.log({"section/acc": 0.75}, sync=True)
    return run.step == 2


def define_metric(run: runfold.Run, _folder: Path) -> bool:
    metric = run.define_metric("loss", summary="min,last", goal="minimize")
    return metric.name == "loss"


def save(run: runfold.Run, folder: Path) -> bool:
    (folder / "kept").mkdir()
    (folder / "kept" / "notes.txt").write_text("hello")
    found = run.save(str(folder / "kept" / "notes.txt"), base_path=str(folder), policy="now")
    return isinstance(found, list) and len(found) == 1


def restore(run: runfold.Run, folder: Path) -> bool:
    def read() -> str:
        try:
            file = run.restore("kept/notes.txt", root=str(folder / "restored"), replace=True)
        except ValueError:
            return ""  # on its way to the server
        with file if file is not None else open(os.devnull) as opened:
            return opened.read()

    return until(lambda: read() == "hello")


def watch(run: runfold.Run, _folder: Path) -> bool:
    import torch

    model = torch.nn.Linear(2, 1)
    run.watch(model, log="all", log_freq=1, log_graph=True)
    for _ in range(2):
        model(torch.ones(1, 2)).sum().backward()
        run.log({"watched": 1.0})
    return True


def unwatch(run: runfold.Run, _folder: Path) -> bool:
    run.unwatch()
    return True


def log_code(run: runfold.Run, folder: Path) -> bool:
    (folder / "code").mkdir()
    (folder / "code" / "train.py").write_text("print(1)\n")
    return run.log_code(str(folder / "code"), name="source") is not None


def _artifact(folder: Path, name: str, text: str) -> runfold.Artifact:
    path = folder / f"{name}.txt"
    path.write_text(text)
    artifact = runfold.Artifact(name, type="dataset")
    artifact.add_file(str(path))
    return artifact


def log_artifact(run: runfold.Run, folder: Path) -> bool:
    artifact = run.log_artifact(_artifact(folder, "data", "one"), aliases=["best"], tags=["t"])
    return artifact.wait().version == "v0"


def use_artifact(run: runfold.Run, folder: Path) -> bool:
    used = run.use_artifact("data:best")
    return (Path(used.download(root=str(folder / "used"))) / "data.txt").read_text() == "one"


def upsert_artifact(run: runfold.Run, folder: Path) -> bool:
    return run.upsert_artifact(_artifact(folder, "parts", "a"), distributed_id="d") is not None


def finish_artifact(run: runfold.Run, folder: Path) -> bool:
    return run.finish_artifact(_artifact(folder, "parts", "a"), distributed_id="d") is not None


def link_artifact(run: runfold.Run, folder: Path) -> bool:
    artifact = run.log_artifact(_artifact(folder, "linked", "x"))
    artifact.wait()
    run.link_artifact(artifact, "portfolio", aliases=["shown"])
    return True


def log_model(run: runfold.Run, folder: Path) -> bool:
    (folder / "model.bin").write_bytes(b"weights")
    run.log_model(str(folder / "model.bin"), name="net", aliases=["first"])
    return True


def use_model(run: runfold.Run, _folder: Path) -> bool:
    def read() -> bytes:
        try:
            return Path(run.use_model("net:first")).read_bytes()
        except ValueError:
            return b""  # on its way to the server

    return until(lambda: read() == b"weights")


def link_model(run: runfold.Run, folder: Path) -> bool:
    run.link_model(str(folder / "model.bin"), "registered", name="net", aliases=["prod"])
    return True


def plot_table(run: runfold.Run, _folder: Path) -> bool:
    table = runfold.Table(columns=["x", "y"], data=[[1, 2], [3, 4]])
    chart = run.plot_table("wandb/line/v0", table, {"x": "x", "y": "y"}, {"title": "t"})
    run.log({"custom": chart})
    return True


def display(run: runfold.Run, _folder: Path) -> bool:
    return run.display(height=100) is False  # no notebook here


def to_html(run: runfold.Run, _folder: Path) -> bool:
    return f"/runs/{RUN_ID}" in run.to_html(height=100)


def _in_a_run(code: Callable[[runfold.Run], Any], name: str, **arguments: Any) -> runfold.Run:
    run = runfold.init(project="digits", id=f"checklist-{name}", reinit="create_new", **arguments)
    code(run)
    return run


def _preempting() -> bool:
    run = _in_a_run(lambda run: run.mark_preempting(), "preempting")
    api = runfold.Api()
    is_told = until(lambda: [found.id for found in api.runs("digits", {"state": "preempting"})] == [run.id])
    api.close()
    run.finish()
    return is_told


def _context() -> bool:
    try:
        with runfold.init(project="digits", id="checklist-with", reinit="create_new") as run:
            run.log({"a": 1})
            raise KeyError("inside")
    except KeyError:
        return True


METHODS: dict[str, Do] = {
    "log": log,
    "define_metric": define_metric,
    "alert": lambda run, _: run.alert("careful", "text", level=runfold.AlertLevel.WARN, wait_duration=0) is None,
    "status": lambda run, _: run.status().sync_items_total > 0,
    "get_url": lambda run, _: run.get_url() == run.url,
    "get_project_url": lambda run, _: run.get_project_url() == run.project_url,
    "get_sweep_url": lambda run, _: run.get_sweep_url() == run.sweep_url,
    "save": save,
    "restore": restore,
    "watch": watch,
    "unwatch": unwatch,
    "log_code": log_code,
    "log_artifact": log_artifact,
    "use_artifact": use_artifact,
    "upsert_artifact": upsert_artifact,
    "finish_artifact": finish_artifact,
    "link_artifact": link_artifact,
    "log_model": log_model,
    "use_model": use_model,
    "link_model": link_model,
    "plot_table": plot_table,
    "display": display,
    "to_html": to_html,
}  # fmt: skip

#: Names that a run of their own is begun for.
OWN_RUNS: dict[str, Callable[[], Any]] = {
    "mark_preempting": _preempting,
    "join": lambda: _in_a_run(lambda run: run.log({"a": 1}), "join").join() is None,
    "__enter__": _context,
}


def all_stored() -> dict[str, Stored]:
    """Return what a fresh reader finds of the run, by name; of other names the process's word is enough."""
    own = {
        "join": ("checklist-join", "finished"),
        "__enter__": ("checklist-with", "failed"),
        "finish": (RUN_ID, "finished"),
    }
    found: dict[str, Stored] = {
        "config": lambda run: run.config["lr"] == 0.1,
        "summary": lambda run: run.summary["by_hand"]["a"] == 1,
        "name": lambda run: run.name == "renamed",
        "notes": lambda run: run.notes == "$x + 3$",
        "tags": lambda run: run.tags == ["a", "b"],
        "group": lambda run: run.group == "check",
        "job_type": lambda run: run.job_type == "train",
        "sweep_id": lambda run: run.sweep is not None and run.sweep.id == "s7",
        "log": lambda run: run.history(keys=["loss"], pandas=False)[:2] == [{"_step": 0, "loss": 1.0}, {"_step": 1, "loss": 0.5}],
        "define_metric": lambda run: run.summary["loss"]["min"] == 0.5,
        "alert": lambda run: [alert["title"] for alert in run.alerts()] == ["careful"],
        "save": lambda run: run.file("kept/notes.txt").size == 5,
        "watch": lambda run: {"gradients/weight", "parameters/weight", "graph_0"} <= set(run.summary),
        "log_code": lambda run: "source:v0" in logged(run),
        "log_artifact": lambda run: "data:v0" in logged(run),
        "use_artifact": lambda run: "data:v0" in [artifact.name for artifact in run.used_artifacts()],
        "finish_artifact": lambda run: "parts:v0" in logged(run),
        "log_model": lambda run: "net:v0" in logged(run),
        "plot_table": lambda run: "custom_table" in str(run.summary_metrics) or "custom" in str(run.summary_metrics),
    }  # fmt: skip
    for name, (run_id, state) in own.items():
        found[name] = lambda run, run_id=run_id, state=state: _state_of(run, run_id) == state  # type: ignore[misc]
    media_types = {
        "Histogram": "histogram", "Image": "image-file", "Video": "video-file", "Audio": "audio-file", "Table": "table-file",
        "Html": "html-file", "Object3D": "object3D-file", "Molecule": "molecule-file",
    }  # fmt: skip
    for name, kind in media_types.items():
        found[name] = lambda run, name=name, kind=kind: _is_media(run, f"media_{name}", kind)  # type: ignore[misc]
    return found


def logged(run: StoredRun) -> list[str]:
    """Return the names of what the run has made."""
    return [artifact.name for artifact in run.logged_artifacts()]


def _state_of(run: StoredRun, run_id: str) -> str:
    api = runfold.Api(url=run.url.split("/local/")[0])
    try:
        return api.run(f"digits/{run_id}").state
    finally:
        api.close()


def _is_media(run: StoredRun, key: str, kind: str) -> bool:
    value = run.summary_metrics[key]
    if value["_type"] != kind:
        return False
    if "path" not in value:
        return kind == "histogram"
    return run.file(value["path"]).size == value["size"] or kind == "table-file"


def main(folder: Path) -> dict[str, str]:
    """Call every name; return what was wrong, "" for nothing."""
    wrong: dict[str, str] = {}

    def note(name: str, call: Callable[[], Any]) -> None:
        try:
            wrong[name] = "" if call() else "not what it should be"
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"

    run = runfold.init(
        project="digits", id=RUN_ID, group="check", job_type="train", config={"lr": 0.1},
        settings=runfold.Settings(sweep_id="s7", finish_timeout=120),
    )  # fmt: skip
    for name, do in METHODS.items():
        note(name, lambda do=do: do(run, folder))  # type: ignore[misc]
    for group in (properties, media, charts):
        try:
            wrong |= {
                name: "" if is_right else "not what it should be"
                for name, is_right in group(run, folder).items()
            }
        except Exception as error:
            wrong[group.__name__] = f"{type(error).__name__}: {error}"
    note("finish", lambda: run.finish(exit_code=0, quiet=True) is None)
    for name, call in OWN_RUNS.items():
        note(name, call)
    return wrong


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))

"""`import wandb` gives runfold: in a process that asked for it, and in all processes of a command."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runfold.util import json_dumps_safer
from runfold.wandb_names.path_entry import PATH, put_first
from support.processes import environment

#: What trainers and loggers import: transformers 5, Lightning 2.6, accelerate 1.15, Ray 2.
SCRIPT = """
import importlib.metadata, importlib.util, json, sys
found = {"version": importlib.metadata.version("wandb"), "is_found": importlib.util.find_spec("wandb") is not None}
import wandb, wandb.env, wandb.util
from wandb import Artifact
from wandb.apis.public import File, Runs
from wandb.sdk.data_types.base_types.wb_value import WBValue
from wandb.sdk.data_types.image import Image
from wandb.sdk.data_types.video import Video
from wandb.sdk.lib import RunDisabled, telemetry
from wandb.sdk.lib.config_util import ConfigError
from wandb.util import json_dumps_safer
from wandb.wandb_run import Run
import runfold
with telemetry.context() as told:
    told.feature.trainer = True
wandb.env.set_project("from-env")
run = wandb.init(mode="offline", name="n", dir=".")
run._label(code="trainer")
try:
    wandb.config.update({"lr": 1}); wandb.config.update({"lr": 2})
except ConfigError:
    found["config"] = wandb.config["lr"]
wandb.log({"loss": 1.0})
found |= {
    "run": wandb.run is run is runfold.run and isinstance(run, Run) and run.project,
    "summary": run.summary["loss"],
    "image": issubclass(Image, WBValue) and issubclass(wandb.Histogram, WBValue) and wandb.Image is Image,
    "key": bool(wandb.api.api_key),
    "module": wandb.__version__,
    "same": Artifact is runfold.Artifact and wandb.Api is runfold.Api and wandb.wandb_lib is wandb.sdk.lib,
    "listed": "init" in dir(wandb) and "RunDisabled" in dir(wandb.sdk.lib),
}
wandb.finish()
found["finished"] = wandb.run
found["disabled"] = isinstance(wandb.init(mode="disabled"), RunDisabled)
try:
    import wandb.integration.keras
except ModuleNotFoundError as error:
    found["missing"] = error.name
try:
    from wandb.sdk.lib import nothing_of_the_kind
except ImportError as error:
    found["unknown"] = "cannot import name" in str(error)
print(json.dumps(found))
"""
EXPECTED = {
    "version": "0.31.0",
    "is_found": True,
    "config": 1,
    "run": "from-env",
    "summary": 1.0,
    "image": True,
    "key": True,
    "module": "0.31.0",
    "same": True,
    "listed": True,
    "finished": None,
    "disabled": True,
    "missing": "wandb.integration",
    "unknown": True,
}


@pytest.mark.parametrize("way", ["import", "command"])
def test_libraries_find_runfold_as_wandb(way: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT if way == "command" else f"import runfold.as_wandb\n{SCRIPT}")
    command = [sys.executable, str(script)]
    if way == "command":
        command = [sys.executable, "-m", "runfold", "run", "--as-wandb", "--", *command]
    env = environment({"RUNFOLD_DIR": str(tmp_path / "home")})
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == EXPECTED


def test_without_asking_wandb_is_what_is_installed_or_nothing() -> None:
    code = "import runfold, sys, importlib.util; print('wandb' in sys.modules, importlib.util.find_spec('wandb'))"
    env = environment({})
    found = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    spec = importlib.util.find_spec("wandb")
    assert found == f"False {spec}"


def test_the_real_one_that_was_imported_before_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("")
    code = "import wandb\ntry:\n    import runfold.as_wandb\nexcept ImportError as error:\n    print(error)"
    env = environment({"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])})
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "imported before" in done.stdout


AT_ONCE = """
import importlib, pickle, sys, threading
import wandb
for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
    del sys.modules[name]
faults, start = [], threading.Barrier(12)

def use(number):
    start.wait()
    try:
        if number % 3 == 0:
            import wandb
            wandb.init
        elif number % 3 == 1:
            import wandb.sdk.lib
            wandb.sdk.lib.telemetry
        else:
            from wandb import sdk, Artifact
            from wandb.sdk.data_types.image import Image
    except BaseException as fault:
        faults.append(repr(fault))

threads = [threading.Thread(target=use, args=(number,)) for number in range(12)]
for each in threads: each.start()
for each in threads: each.join()
assert not faults, faults
import wandb
assert importlib.reload(wandb) is wandb is sys.modules["wandb"] and wandb.init
everything = {}
exec("from wandb import *", everything)
assert {"init", "Table", "log"} <= set(everything) and "annotations" not in everything
print(pickle.dumps(wandb.sdk).hex())
"""


def test_threads_find_it_at_once_and_pickles_take_it_to_other_processes(tmp_path: Path) -> None:
    """The entry of PYTHONPATH may be that of another installation of runfold."""
    shutil.copytree(PATH, tmp_path / "entry")
    env = environment({})
    put_first(env)
    env["PYTHONPATH"] = env["PYTHONPATH"].replace(str(PATH), str(tmp_path / "entry"), 1)

    def output(code: str, env: dict[str, str]) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    pickled = output(AT_ONCE, env).strip()
    told = output(
        f"import pickle; found = pickle.loads(bytes.fromhex('{pickled}')); import wandb; "
        "print(found is wandb.sdk, found.init.__module__)",
        environment({}),
    )
    assert told == "True runfold.init\n"


@pytest.mark.parametrize(
    ("there", "entries"),
    [(None, []), ("", []), ("/a", ["/a"]), (":/a", ["", "/a"]), (f"/a:{PATH}:/b", ["/a", "/b"])],
)
def test_it_is_the_first_entry_and_the_others_are_as_they_were(there: str | None, entries: list[str]) -> None:
    environ = {} if there is None else {"PYTHONPATH": there}
    put_first(environ)
    assert environ["PYTHONPATH"].split(os.pathsep) == [str(PATH), *entries]


def test_what_is_no_json_is_refused_so_that_libraries_leave_it_out() -> None:
    np = pytest.importorskip("numpy")
    assert json_dumps_safer({"a": np.float32(0.5), "b": np.arange(2)}) == '{"a": 0.5, "b": [0, 1]}'
    for odd in (object(), {1, 2}, np.ndarray):
        with pytest.raises(TypeError, match="no value of JSON"):
            json_dumps_safer(odd)


def test_the_page_about_it_tells_each_module() -> None:
    from runfold.wandb_names.places import MODULES

    page = (Path(__file__).parents[3] / "docs" / "wandb.md").read_text()
    assert [module for module in MODULES if f"`{module}`" not in page] == []

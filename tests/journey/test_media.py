"""Every kind of media, from log() to a fresh reader that has nothing but the server's address."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import runfold
from runfold_coordinator.testing import LocalServer
from support.media_values import check
from support.processes import environment, finish, start, until

TRAINER = """
import sys, warnings
from pathlib import Path
import runfold
from support.media_values import values
warnings.simplefilter("ignore")
run = runfold.init(project="journey", id=sys.argv[2])
logged = values(runfold, Path(sys.argv[3]))
run.log(logged | {"loss": 0.5})
run.log({"loss": 0.25})
run.summary["best"] = runfold.Html("<i>best</i>")
run.finish()
"""


def fetcher(run: Any, folder: Path) -> Callable[[str], Path]:
    def fetch(name: str) -> Path:
        run.file(name).download(root=folder, exist_ok=True).close()
        return folder / name

    return fetch


def expect_all(server: LocalServer, name: str, folder: Path) -> None:
    run = runfold.Api(url=server.url).run(f"journey/{name}")
    run.wait_until_finished(timeout_s=60, poll_interval_s=0.1)
    until(lambda: not list(run.files(state="pending")))
    first, second = run.scan_history()
    compared = check(first, fetcher(run, folder))
    assert compared | {"loss"} == {key for key in first if not key.startswith("_")}
    assert (first["loss"], second["loss"]) == (0.5, 0.25)
    assert {key for key in second if not key.startswith("_")} == {"loss"}
    summary = run.summary_metrics
    for key in compared:
        assert summary[key] == first[key]
    assert fetcher(run, folder)(summary["best"]["path"]).read_text().endswith("<i>best</i>")
    assert all(file.what == "media" and file.size for file in run.files())


def test_every_kind_comes_out_as_it_went_in(server: LocalServer, name: str, tmp_path: Path) -> None:
    env = {**server.env, "RUNFOLD_DIR": str(tmp_path / "home")}
    finish([start("support.program", TRAINER, name, tmp_path, env=env)])
    expect_all(server, name, tmp_path / "read")


def test_every_kind_waits_offline_and_is_synced(server: LocalServer, name: str, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    env = {"RUNFOLD_DIR": home, "RUNFOLD_MODE": "offline"}
    finish([start("support.program", TRAINER, name, tmp_path, env=env)])
    done = subprocess.run(
        [sys.executable, "-m", "runfold", "sync"],
        env=environment({**server.env, "RUNFOLD_DIR": home}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    expect_all(server, name, tmp_path / "read")

"""The commands against a real server, real trainers and a real agent."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from runfold_coordinator.testing import LocalServer
from support.processes import environment, until

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("cli")]

PROGRAM = """
import sys, runfold
run = runfold.init(project="cli", id=sys.argv[1], mode=sys.argv[2], config={"lr": 0.1})
for step in range(50):
    run.log({"loss": 1 / (step + 1)})
run.finish()
"""


def command(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runfold", *arguments],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def train(env: Mapping[str, str], run_id: str, mode: str = "online") -> None:
    subprocess.run(
        [sys.executable, "-c", PROGRAM, run_id, mode], env=environment(env), timeout=60, check=True
    )


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as started:
        yield started


def test_a_finished_run_is_listed_and_shown(server: LocalServer) -> None:
    train(server.env, "shown")
    listed = command(server.env, "runs", "cli", "--state", "finished", "--json")
    assert [run["id"] for run in json.loads(listed.stdout)["runs"]] == ["shown"]
    shown = json.loads(command(server.env, "show", "cli/shown", "--json").stdout)
    assert (shown["state"], shown["last_step"], shown["summary"]["loss"]) == ("finished", 49, 1 / 50)
    counts = shown["accounting"]
    assert counts["acknowledged"] == counts["stored"] == 52
    assert shown["writers"][0]["state"] == "finished"
    text = command(server.env, "show", "cli/shown")
    assert text.returncode == 0
    assert "acknowledged" in text.stdout


def test_the_doctor_finds_a_sound_server(server: LocalServer) -> None:
    report = json.loads(command(server.env, "doctor", "--json").stdout)
    found = {check["name"]: check["status"] for check in report["checks"]}
    assert report["ok"]
    assert {found[name] for name in ("server", "clock", "redis", "agent", "permissions")} == {"ok"}


def test_offline_spools_are_synced_any_number_of_times(server: LocalServer, tmp_path: Path) -> None:
    env = {**server.env, "RUNFOLD_DIR": str(tmp_path)}
    train(env, "offline", "offline")
    reports = [json.loads(command(env, "sync", "--json").stdout) for _ in range(2)]
    assert [report["delivered"] for report in reports] == [52, 0]
    assert [report["pending"] for report in reports] == [0, 0]
    shown = json.loads(command(env, "show", "cli/offline", "--json").stdout)
    assert (shown["state"], shown["row_count"]) == ("finished", 50)


def test_an_agent_of_its_own_ships_what_trainers_leave(server: LocalServer, tmp_path: Path) -> None:
    env = {
        **server.env,
        "RUNFOLD_DIR": str(tmp_path),
        "RUNFOLD_AGENT": "none",
        "RUNFOLD_FINISH_TIMEOUT": "0.1",
    }
    train(env, "served")
    agent = subprocess.Popen(
        [sys.executable, "-m", "runfold", "agent", "--json"],
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: command(env, "show", "cli/served").returncode == 0)
    finally:
        agent.send_signal(signal.SIGINT)
        said, complaints = agent.communicate(timeout=20)
    assert agent.returncode == 0
    assert complaints == ""
    shipping, ended = (json.loads(line) for line in said.splitlines())
    assert (shipping["event"], shipping["pid"]) == ("shipping", agent.pid)
    assert shipping["directory"].startswith(str(tmp_path))
    assert (ended["event"], bool(ended["reason"])) == ("ended", True)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str], Path]]:
    """`runfold up` with a key, on a free port."""
    env = {"RUNFOLD_DIR": str(tmp_path / "runfold"), "RUNFOLD_API_KEY": "geheim"}
    ready = tmp_path / "ready.json"
    started = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "runfold",
            "up",
            "--data",
            str(tmp_path / "data"),
            "--port",
            "0",
            "--ready-file",
            str(ready),
            "--json",
        ],
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: ready.exists() or started.poll() is not None)
        yield started, env, ready
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


def test_up_tells_where_it_serves_asks_for_its_key_and_ends_cleanly(
    up: tuple[subprocess.Popen[str], dict[str, str], Path],
) -> None:
    started, env, ready = up
    facts = json.loads(ready.read_text())
    assert set(facts) == {"url", "redis_url", "data_dir", "pid"}
    assert facts["pid"] == started.pid
    assert started.stdout is not None
    del facts["redis_url"]  # it holds a password, and this line goes into logs
    assert json.loads(started.stdout.readline()) == facts
    for private in (ready, Path(env["RUNFOLD_DIR"]) / "server.json"):
        assert stat.S_IMODE(os.stat(private).st_mode) == 0o600
    assert httpx.get(facts["url"] + "/api/v1/runs").status_code == 401
    assert httpx.get(facts["url"] + "/", auth=("api", "geheim")).status_code == 200
    without = {name: value for name, value in env.items() if name != "RUNFOLD_API_KEY"}
    refused = command(without, "runs")
    assert refused.returncode == 1
    assert "RUNFOLD_API_KEY" in refused.stderr
    train(env, "keyed")  # found by its registration
    assert "keyed" in command(env, "runs").stdout
    began_s = time.monotonic()
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=20) == 0
    assert time.monotonic() - began_s < 15
    assert not ready.exists()
    assert not (Path(env["RUNFOLD_DIR"]) / "server.json").exists()


def test_up_refuses_a_public_address_without_a_key(tmp_path: Path) -> None:
    env = {"RUNFOLD_DIR": str(tmp_path)}
    done = command(env, "up", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "RUNFOLD_API_KEY" in done.stderr
    done = command(env, "up", "--host", "0.0.0.0", "--data", str(tmp_path / "data"), "--json")
    assert "RUNFOLD_API_KEY" in json.loads(done.stderr)["error"]["message"]

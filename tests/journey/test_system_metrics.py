"""System metrics from the kernel and a (scripted) NVIDIA driver to `history(stream="system")`, all real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.nvml_stub import NvmlStub, uuid
from support.processes import environment, until

#: A rank: says that it began, works for the processor, ends when its input does.
RANK = """
import sys, threading
import runfold
run = runfold.init(project="sys", id=sys.argv[1], mode="shared", settings=runfold.Settings(
    x_label=f"rank{sys.argv[2]}", x_disable_stats=len(sys.argv) > 3))
run.log({"a": 1})
print("began", flush=True)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
while not over.wait(0.01):
    sum(range(20000))
run.finish()
"""


@contextmanager
def ranks(
    server: LocalServer, run_id: str, envs: list[dict[str, str]], *more: str
) -> Iterator[list[subprocess.Popen[str]]]:
    started = []
    try:
        for rank, env in enumerate(envs):
            command = [sys.executable, "-c", RANK, run_id, str(rank), *more]
            started.append(
                subprocess.Popen(command, env=environment({**server.env, **env}), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
            )  # fmt: skip
        for process in started:
            assert process.stdout is not None and process.stdout.readline() == "began\n"
        yield started
        for process in started:
            process.communicate(timeout=60)
            assert process.returncode == 0
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LocalServer]:
    """A server with agents of its own: they load the driver of this test."""
    with LocalServer(tmp_path / "data", runfold_dir=tmp_path / "runfold") as started:
        yield started


def test_gpus_go_to_the_ranks_that_may_use_them(own_server: LocalServer, tmp_path: Path):
    stub = NvmlStub(
        tmp_path,
        **{"devices": 3, "0.temp": 91, "0.reasons": "0x40", "1.temp": 50, "2.temp": 60, "xids": "0:79"},
    )
    common = {**stub.env, "RUNFOLD_STATS_INTERVAL_S": "0.3"}
    visible = [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": uuid(1)[:12]}]
    api = runfold.Api(url=own_server.url)
    with ranks(own_server, "gpus", [common | each for each in visible]) as started:
        stub.say({"0.processes": f"{started[0].pid}:{4 << 30}"})
        until(lambda: _is_there(api, "sys/gpus"), 60, 0.2)

        def row() -> dict[str, float] | None:
            found = api.run("sys/gpus").history(stream="system", pandas=False)
            wanted = {
                "system.cpu/l:rank1",
                "system.gpu.process.0.temp",
                "system.gpu.process.0.usedMemoryBytes/l:rank0",
                "system.proc.memory.rssMB/l:rank0",
            }
            full = [each for each in found if wanted <= each.keys()]
            return full[-1] if full else None

        last = until(row, 60, 0.3)
        assert last is not None
        assert last["system.gpu.0.temp"] == 91 and last["system.gpu.1.temp"] == 50
        assert last["system.gpu.0.throttle.hwThermalSlowdown"] == 1 and last["system.gpu.0.lastXid"] == 79
        assert last["system.gpu.process.0.usedMemoryBytes/l:rank0"] == 4 << 30
        assert last["system.gpu.process.0.temp"] == 91
        assert last["system.proc.memory.rssMB/l:rank0"] > 5
        assert last["_runtime"] > 0
        assert not [name for name in last if name.startswith("system.gpu.2.")]  # nobody may use it

        [node] = api.nodes()
        assert [gpu["uuid"] for gpu in node["gpus"]] == [uuid(0), uuid(1), uuid(2)]
        assert node["metrics"]["gpu.2.temp"] == 60
        assert sorted(each["label"] for each in node["writers"]) == ["rank0", "rank1"]
        assert node["facts"]["driver"] == "550.54.15"

        # The driver fails, a device is lost: the rest goes on.
        stub.say({"fail.nvmlDeviceGetTemperature": 999, "1.lost": 1})
        gone = until(
            lambda: (
                found
                if (found := api.run("sys/gpus").system_metrics).get("system.gpu.1.lost") == 1
                and "system.gpu.0.temp" not in found
                else None
            ),
            60,
            0.3,
        )
        assert gone is not None and gone["system.gpu.0.powerWatts"] == 350
    run = api.run("sys/gpus")
    run.wait_until_finished(timeout_s=60, poll_interval_s=0.3)
    assert max(row["_timestamp"] for row in run.history(stream="system", pandas=False)) <= _end(api) + 5


def _end(api: runfold.Api) -> float:
    return max(writer["ended_at"] for writer in api.run("sys/gpus").writers())


def test_without_nvidia_there_are_host_metrics_and_no_error(own_server: LocalServer, tmp_path: Path):
    # A path without a driver, whatever this machine has: the library is there, and refuses.
    env = {**NvmlStub(tmp_path).env, "RUNFOLD_STATS_INTERVAL_S": "0.2"}
    api = runfold.Api(url=own_server.url)
    with ranks(own_server, "host", [env]):
        found = until(
            lambda: (
                values if "system.cpu" in (values := api.run("sys/host").system_metrics) else None
            ) if _is_there(api, "sys/host") else None, 60, 0.2
        )  # fmt: skip
    assert found is not None
    assert {"system.memory_percent", "system.disk./.usagePercent", "system.proc.memory.rssMB"} <= found.keys()
    assert not [name for name in found if ".gpu." in name or "nvml" in name]
    assert found["system.cpu"] <= 100 * 1.2
    logs = [path.read_text() for path in (own_server.runfold_dir / "spool").glob("*/agent.log")]
    assert logs and "Traceback" not in "".join(logs)


def test_who_turns_it_off_is_not_sampled(own_server: LocalServer, tmp_path: Path):
    api = runfold.Api(url=own_server.url)
    fast = {"RUNFOLD_STATS_INTERVAL_S": "0.2"}
    with ranks(own_server, "off", [{"RUNFOLD_STATS": "0"}]), ranks(own_server, "setting", [fast], "no stats"):
        until(lambda: _is_there(api, "sys/off") and _is_there(api, "sys/setting"), 60, 0.2)
        assert api.nodes() == [] or all(node["sampled_at"] is None for node in api.nodes())
        # The agent was started by a run that wants none: another run has its own will.
        with ranks(own_server, "on", [fast]):
            until(lambda: _is_there(api, "sys/on") and api.run("sys/on").system_metrics, 60, 0.2)
        assert api.run("sys/off").system_metrics == api.run("sys/setting").system_metrics == {}


def _is_there(api: runfold.Api, path: str) -> bool:
    return any("/".join(run.path).endswith(path) for run in api.all_runs())


def test_a_run_has_its_first_sample_within_seconds(own_server: LocalServer):
    api = runfold.Api(url=own_server.url)
    with ranks(own_server, "short", [{}]):  # samples come every 10 s, but for the first
        until(lambda: _is_there(api, "sys/short"), 60, 0.2)
        found = until(lambda: api.run("sys/short").history(stream="system", pandas=False), 60, 0.2)
    assert found and 0 <= found[0]["_runtime"] < 9
    until(lambda: [node["host"] for node in api.nodes()] == [os.uname().nodename])

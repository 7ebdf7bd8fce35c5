"""What the node agent testifies of processes that end in every way, on real processes and a real Redis."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runfold.node import lock
from runfold.node.deliver import deliver_all
from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence
from runfold.spool import SpoolReader, list_writers
from support.agent_stage import Stage
from support.processes import environment, until
from support.small_coordinator import SmallCoordinator
from support.spooler import open_writer

#: The end of a process, and what waitpid(2) says of it, but for the flag of a core dump.
ENDS = {
    "end of the script": ("pass", 0),
    "exit 3": ("sys.exit(3)", 3 << 8),
    "exception": ("raise ValueError('x')", 1 << 8),
    "_exit": ("os._exit(4)", 4 << 8),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", signal.SIGTERM),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", signal.SIGINT),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", signal.SIGKILL),
    "SIGSEGV": ("ctypes.string_at(0)", signal.SIGSEGV),
    "abort": ("os.abort()", signal.SIGABRT),
}
WAYS: dict[str, tuple[str, ...]] = {
    "python": (),
    "runfold run": (sys.executable, "-m", "runfold", "run", "--"),
}
MEMORY_CGROUPS = Path("/sys/fs/cgroup/memory")


class Doomed:
    """A training process that waits for its end."""

    def __init__(self, stage: Stage, code: str, *, way: tuple[str, ...] = (), **env: str) -> None:
        self.run_id = uuid.uuid4().hex[:8]
        self._target = stage.settings.target_dir
        self.process = subprocess.Popen(
            [*way, sys.executable, "-m", "support.doomed", self.run_id, code],
            env=environment({**stage.settings.to_env(), "RUNFOLD_AGENT": "none", **env}),
            cwd=stage.base,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.writer = self._find()

    def _find(self) -> bytes:
        for directory in list_writers(self._target):
            with contextlib.closing(SpoolReader(directory)) as reader:
                if (reader.identity.run_id, reader.identity.role) == (self.run_id, "process"):
                    self.pid = reader.identity.pid or 0
                    return reader.writer_id
        raise AssertionError("a process that logged has a spool")

    def end(self) -> int:
        """Let it come to its end; return its status as subprocess gives it."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.close()
        return self.process.wait(60)

    def close(self) -> None:
        for pid in (self.pid, self.process.pid) if self.process.poll() is None else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextlib.contextmanager
def node(base: Path) -> Iterator[Stage]:
    found = Stage(base)
    found.register()
    # Samples of the node are others' concern.
    found.settings = replace(found.settings, idle_exit_s=60.0, stats=False)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with node(tmp_path_factory.mktemp("witness")) as found:
        yield found


@pytest.fixture
def doom(stage: Stage) -> Iterator[Callable[..., Doomed]]:
    made = []

    def start(code: str, **given: Any) -> Doomed:
        made.append(Doomed(stage, code, **given))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def coordinator(stage: Stage) -> Iterator[SmallCoordinator]:
    with SmallCoordinator(stage.redis.url) as found:
        yield found


def seen_alive(stage: Stage, coordinator: SmallCoordinator, doomed: Doomed) -> None:
    def is_seen() -> bool:
        stage.ask()
        return any(alive for _, _, alive in list(coordinator.beats[doomed.writer]))

    until(is_seen)


def told(found: list[Evidence], source: str) -> list[dict[str, Any]]:
    return [dict(one.facts) for one in list(found) if one.source == source]


def waited(status: int, found: dict[str, Any]) -> bool:
    return status == found["status"] & ~0x80 and (status < 128 or status == found["status"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ENDS)
def test_the_wait_status_is_told_at_once_and_for_good(
    stage: Stage, coordinator: SmallCoordinator, doom: Callable[..., Doomed], end: str, way: str
) -> None:
    code, status = ENDS[end]
    doomed = doom(code, way=WAYS[way])
    seen_alive(stage, coordinator, doomed)
    assert doomed.end() == (status >> 8 if status >= 256 else -status)
    [heard] = until(lambda: told(coordinator.heard[doomed.writer], e.WAIT))
    assert waited(status, heard)
    [kept] = until(lambda: told(coordinator.kept[doomed.writer], e.WAIT))
    assert kept == heard
    message = next(one for one in coordinator.heard[doomed.writer] if one.source == e.WAIT)
    record = next(one for one in coordinator.kept[doomed.writer] if one.source == e.WAIT)
    assert (message.key, message.t_ns) == (record.key, record.t_ns)
    assert told(coordinator.heard[doomed.writer], e.GONE) == []
    assert told(coordinator.heard[doomed.writer], e.OOM) == []


def test_a_process_whose_parent_never_looks_at_it_is_told_too(
    stage: Stage, coordinator: SmallCoordinator, doom: Callable[..., Doomed]
) -> None:
    doomed = doom("os._exit(7)")
    seen_alive(stage, coordinator, doomed)
    assert doomed.process.stdin is not None
    doomed.process.stdin.write("\n")
    doomed.process.stdin.flush()
    [found] = until(lambda: told(coordinator.heard[doomed.writer], e.WAIT))
    assert found == {"status": 7 << 8, "by": "proc"}
    assert doomed.process.wait() == 7


def test_a_signal_through_runfold_run_is_told_with_its_sender(
    stage: Stage, coordinator: SmallCoordinator, doom: Callable[..., Doomed]
) -> None:
    doomed = doom("time.sleep(60)", way=WAYS["runfold run"])
    seen_alive(stage, coordinator, doomed)
    assert doomed.process.stdin is not None
    doomed.process.stdin.close()
    doomed.process.terminate()
    assert doomed.process.wait(60) == -signal.SIGTERM
    [wait] = until(lambda: told(coordinator.heard[doomed.writer], e.WAIT))
    assert wait["status"] == signal.SIGTERM
    [found] = until(lambda: told(coordinator.heard[doomed.writer], e.LAUNCHER))
    assert found == {
        "pid": doomed.process.pid,
        "signum": signal.SIGTERM,
        "sender_pid": os.getpid(),
        "sender_uid": os.getuid(),
    }


def test_what_befalls_a_process_in_between_is_told_of_those_below_it(
    stage: Stage, coordinator: SmallCoordinator, doom: Callable[..., Doomed]
) -> None:
    shell = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
    doomed = doom("time.sleep(60)", way=(*WAYS["runfold run"], *shell))
    seen_alive(stage, coordinator, doomed)
    doomed.process.terminate()
    assert doomed.process.wait(60) == -signal.SIGTERM, "the shell was below runfold run"
    signalled, ended = until(
        lambda: len(found := told(coordinator.heard[doomed.writer], e.LAUNCHER)) > 1 and found
    )
    assert (signalled["signum"], signalled["sender_pid"]) == (signal.SIGTERM, os.getpid())
    assert ended["status"] == signal.SIGTERM
    assert told(coordinator.heard[doomed.writer], e.WAIT) == [], "the process itself lives"
    os.kill(doomed.pid, signal.SIGKILL)
    [wait] = until(lambda: told(coordinator.heard[doomed.writer], e.WAIT))
    assert wait["status"] == signal.SIGKILL


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    folder = MEMORY_CGROUPS / f"runfold-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup (version 1) can be made here: {error}")
    (folder / "memory.limit_in_bytes").write_text(str(120_000_000))
    with contextlib.suppress(OSError):  # without swap accounting there is no such file
        (folder / "memory.memsw.limit_in_bytes").write_text(str(120_000_000))
    yield folder
    until(lambda: (folder / "cgroup.procs").read_text() == "")
    folder.rmdir()


def test_want_of_memory_is_told_before_the_end_and_of_its_victim_only(
    stage: Stage, coordinator: SmallCoordinator, doom: Callable[..., Doomed], small_cgroup: Path
) -> None:
    enter = ("/bin/sh", "-c", f'echo $$ > {small_cgroup}/cgroup.procs; exec "$@"', "sh")
    victim = doom("kept = [bytearray(b'x' * 1_000_000) for _ in range(1_000)]", way=enter)
    other = doom("time.sleep(60)", way=enter)
    seen_alive(stage, coordinator, victim)
    seen_alive(stage, coordinator, other)
    assert victim.end() == -signal.SIGKILL
    until(lambda: told(coordinator.heard[victim.writer], e.WAIT))
    assert [one.source for one in coordinator.heard[victim.writer]] == [e.OOM, e.WAIT]
    [oom] = told(coordinator.heard[victim.writer], e.OOM)
    assert (oom["kills"], oom["version"]) == (1, 1)
    assert oom["cgroup"].endswith(small_cgroup.name)
    other.process.kill()
    until(lambda: told(coordinator.heard[other.writer], e.WAIT))
    assert told(coordinator.heard[other.writer], e.OOM) == [], "the kill was another process's"
    until(lambda: told(coordinator.kept[victim.writer], e.OOM) == [oom])


@pytest.mark.parametrize("way", WAYS)
def test_an_agent_that_comes_after_the_death_tells_what_can_still_be_known(
    stage: Stage, coordinator: SmallCoordinator, doom: Callable[..., Doomed], way: str
) -> None:
    doomed = doom("os._exit(6)", way=WAYS[way])
    seen_alive(stage, coordinator, doomed)
    stage.kill_agents()
    assert doomed.end() == 6
    stage.respawn()
    source = e.WAIT if way == "runfold run" else e.GONE
    [found] = until(lambda: told(coordinator.kept[doomed.writer], source))
    assert found == ({"status": 6 << 8, "by": "parent"} if source == e.WAIT else {})


@pytest.mark.parametrize("point", ["agent.before_testimony", "agent.after_testimony"])
def test_an_agent_that_dies_as_it_testifies_leaves_it_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    # A node of its own: an end that another test left to be told would kill the agent too early.
    with (
        node(tmp_path) as stage,
        SmallCoordinator(stage.redis.url) as coordinator,
        contextlib.closing(
            Doomed(stage, "os._exit(6)", way=WAYS["runfold run"], RUNFOLD_FAILPOINT="")
        ) as doomed,
    ):
        monkeypatch.setenv("RUNFOLD_FAILPOINT", point)
        seen_alive(stage, coordinator, doomed)
        monkeypatch.delenv("RUNFOLD_FAILPOINT")
        assert doomed.end() == 6
        until(lambda: not stage.agents())
        stage.respawn()
        mark = stage.settings.target_dir / doomed.writer.hex() / "witnessed"
        until(lambda: mark.exists() and told(coordinator.kept[doomed.writer], e.WAIT))
        assert {one.facts["status"] for one in coordinator.kept[doomed.writer]} == {6 << 8}
        assert {one.source for one in coordinator.kept[doomed.writer]} == {e.WAIT}


@pytest.mark.parametrize("way", WAYS)
def test_ends_that_no_agent_saw_are_delivered_with_the_spools(
    stage: Stage, coordinator: SmallCoordinator, doom: Callable[..., Doomed], way: str
) -> None:
    stage.kill_agents()
    doomed = doom("os._exit(6)", way=WAYS[way])
    assert doomed.end() == 6
    spool = stage.settings.target_dir / doomed.writer.hex()
    for delivered in (2, 0):
        report = deliver_all([spool], stage.settings, timeout_s=60.0)
        assert (report.spools, report.pending, report.delivered > 0) == (1, 0, delivered > 0)
        source = e.WAIT if way == "runfold run" else e.GONE
        assert told(coordinator.kept[doomed.writer], source) == [
            {"status": 6 << 8, "by": "parent"} if source == e.WAIT else {}
        ]


def test_what_a_killed_agent_saw_is_delivered_by_the_next_one_and_not_said_again(
    stage: Stage, coordinator: SmallCoordinator, doom: Callable[..., Doomed]
) -> None:
    doomed = doom("os._exit(5)")
    seen_alive(stage, coordinator, doomed)
    coordinator.pause()
    mark = stage.settings.target_dir / doomed.writer.hex() / "witnessed"
    assert doomed.end() == 5
    until(mark.exists)
    stage.kill_agents()
    stage.client().flushall()
    coordinator.heard[doomed.writer].clear()
    coordinator.resume()
    stage.respawn()
    [found] = until(lambda: told(coordinator.kept[doomed.writer], e.WAIT))
    assert found["status"] == 5 << 8
    assert coordinator.heard[doomed.writer] == []
    assert told(coordinator.kept[doomed.writer], e.GONE) == []


def test_an_agent_that_is_stopped_with_its_processes_still_tells_how_they_ended(
    stage: Stage, coordinator: SmallCoordinator, doom: Callable[..., Doomed]
) -> None:
    doomed = doom("time.sleep(60)")
    seen_alive(stage, coordinator, doomed)
    for pid in (*stage.agents(), doomed.pid):
        os.kill(pid, signal.SIGTERM)
    assert doomed.process.wait(60) == -signal.SIGTERM
    until(lambda: not stage.agents())
    [found] = until(lambda: told(coordinator.kept[doomed.writer], e.WAIT))
    assert found["status"] == signal.SIGTERM


def test_writers_of_an_earlier_boot_are_told_as_such(stage: Stage, coordinator: SmallCoordinator) -> None:
    boot = "11111111-2222-3333-4444-555555555555"
    spool = open_writer(stage.settings.spool_root, "local", boot_id=boot)
    [found] = until(lambda: (stage.ask(), told(coordinator.kept[spool.writer_id], e.REBOOT))[1])
    assert found["boot_id"] == boot
    assert found["now"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    spool.close()


def test_a_stopped_process_is_told_and_is_no_death(
    stage: Stage, coordinator: SmallCoordinator, doom: Callable[..., Doomed]
) -> None:
    doomed = doom("pass")
    seen_alive(stage, coordinator, doomed)
    doomed.process.send_signal(signal.SIGSTOP)
    until(lambda: coordinator.stopped[doomed.writer])
    assert coordinator.beats[doomed.writer][-1][2] is True
    doomed.process.send_signal(signal.SIGCONT)
    until(lambda: not coordinator.stopped[doomed.writer])
    assert doomed.end() == 0


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.timeout(120)
def test_under_torchrun_the_error_file_and_the_launchers_end_are_told(
    stage: Stage, coordinator: SmallCoordinator, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, time, runfold\n"
        "from torch.distributed.elastic.multiprocessing.errors import record\n"
        "@record\n"
        "def main():\n"
        "    run = runfold.init(project='ends', id='elastic')\n"
        "    run.log({'a': 1})\n"
        "    time.sleep(1.0)\n"
        "    if os.environ['RANK'] == '1':\n"
        "        raise RuntimeError('no more data, password=hunter22secret')\n"
        "    time.sleep(60)\n"
        "main()\n"
    )
    until(lambda: (stage.ask(), lock.is_held(stage.settings.target_dir))[1])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*command, str(script)],
        env=environment({**stage.settings.to_env(), "RUNFOLD_AGENT": "none"}),
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1, done.stderr.decode()[-2000:]
    ranks: dict[int, bytes] = {}
    for directory in list_writers(stage.settings.target_dir):
        with contextlib.closing(SpoolReader(directory)) as reader:
            if (reader.identity.run_id, reader.identity.role) == ("elastic", "process"):
                ranks[reader.identity.rank or 0] = reader.writer_id
    [error] = until(lambda: told(coordinator.heard[ranks[1]], e.ELASTIC))
    assert error["exception"] == "RuntimeError"
    assert "no more data" in error["message"]
    assert "Traceback" in error["traceback"]
    assert "hunter22secret" not in json.dumps(error)
    for writer in ranks.values():
        [end] = until(lambda writer=writer: told(coordinator.heard[writer], e.LAUNCHER))
        assert end["status"] == 1 << 8
    assert told(coordinator.heard[ranks[0]], e.ELASTIC) == []
    [wait] = until(lambda: told(coordinator.heard[ranks[0]], e.WAIT))
    assert wait["status"] & 0x7F == signal.SIGTERM

"""What processes print, from their descriptors to `Api` and `runfold tail`, while they run and after."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold.api.run import Run
from runfold_coordinator.testing import LocalServer
from support.processes import environment, finish, start, until

pytestmark = pytest.mark.timeout(120)


def console(server: LocalServer) -> dict[str, str]:
    return {**server.env, "RUNFOLD_CONSOLE": "auto"}


def contents(run: Run, **wanted: object) -> list[str]:
    return [line.content for line in run.console_logs(**wanted)]  # type: ignore[arg-type]


def the_run(api: runfold.Api, project: str) -> Run:
    until(lambda: len(api.runs(project)) == 1)
    return next(iter(api.runs(project)))


def tail(server: LocalServer, *arguments: str) -> subprocess.Popen[str]:
    return start("runfold", "tail", *arguments, env=server.env)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_lines_of_ranks_are_read_by_rank_and_merged(server: LocalServer, name: str) -> None:
    options = ["--nproc-per-node", 2, "--master-port", 0, "--rdzv-id", name, "--rdzv-backend", "c10d"]
    options += ["--rdzv-endpoint", "localhost:0"]
    arguments = ["-m", "support.speaker", "--project", name, "--lines", "20"]
    [printed] = finish([start("torch.distributed.run", *options, *arguments, env=console(server))], 100)

    [run] = runfold.Api(url=server.url).runs(name)

    def check_rank(rank: int, said: list[str]) -> bool:
        found = contents(run, rank=rank, stream="output")
        assert [line for line in found if line.startswith("rank")] == [*said, f"rank {rank} raw"]
        assert contents(run, rank=rank, stream="logger") == [f"rank {rank} explicit"]
        return True

    def check_accounts() -> bool:
        counts = run.accounting()
        assert counts["pending"] == 0
        assert counts["acknowledged"] == counts["stored"]
        return True

    until(check_accounts)
    for rank in (0, 1):
        said = [f"rank {rank} says line {number}" for number in range(20)]
        until(lambda rank=rank, said=said: check_rank(rank, said))
        assert [line for line in printed.splitlines() if line in said] == said, "the output itself is whole"
    merged = list(run.console_logs(per_page=7))
    assert len(merged) == len({(line.writer, line.stream, line.number) for line in merged})
    times = [line.timestamp for line in merged]
    assert times == sorted(times)
    assert {line.label for line in merged} == {"rank0", "rank1"}
    assert contents(run, last=3) == [line.content for line in merged[-3:]]
    writers = run.writers()
    assert len(writers) == 2, "a console is no process"
    assert run.history_line_count == 40
    [shown] = finish([tail(server, f"{name}/{run.id}", "--rank", "1", "-n", "0", "--json")])
    lines = [json.loads(line) for line in shown.splitlines()]
    assert [line["content"] for line in lines if line["stream"] == "output"][:1] == ["rank 1 says line 0"]
    [shown] = finish([tail(server, f"{name}/{run.id}", "-n", "0")])
    assert "rank0: rank 0 says line 3" in shown
    assert "\x1b" not in shown


def test_tail_follows_a_run_to_its_end(server: LocalServer, name: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    trainer = start("support.speaker", "--project", name, "--lines", 3, "--wait-for", go, env=console(server))
    try:
        api = runfold.Api(url=server.url)
        run = the_run(api, name)
        until(lambda: "rank 0 raw" in contents(run))
        follower = tail(server, f"{name}/{run.id}", "-f", "-n", "2", "--stream", "output")
        assert follower.stdout is not None
        shown = [follower.stdout.readline(), follower.stdout.readline()]
        go.touch()
        [printed] = finish([trainer])
        [rest] = finish([follower])
    finally:
        trainer.kill()
    assert [*shown, rest] == ["rank 0 says line 2\n", "rank 0 raw\n", "green\n"]
    assert "\x1b]0;title\x07" in printed, "what the terminal was told, it was told"


def test_the_last_words_of_a_process_that_is_killed_are_there(server: LocalServer, name: str) -> None:
    program = (
        "import faulthandler, os, runfold\n"
        "faulthandler.enable()\n"
        f"runfold.init(project={name!r})\n"
        "print('before the end', flush=True)\n"
        "os.kill(os.getpid(), 11)\n"
    )
    env = environment(console(server))
    ended = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGSEGV
    assert ended.stdout == "before the end\n"
    api = runfold.Api(url=server.url)
    run = the_run(api, name)
    # Two streams: which of two lines a millisecond apart was first is not known.
    until(lambda: {"before the end", "Fatal Python error: Segmentation fault"} <= set(contents(run)))
    levels = {line.content: line.level for line in run.console_logs(last=100)}
    assert levels["before the end"] == ""
    assert levels["Fatal Python error: Segmentation fault"] == "error"
    assert "Fatal Python error: Segmentation fault" in ended.stderr
    until(lambda: api.run(f"{name}/{run.id}").state in ("crashed", "failed", "killed"))
    assert len(run.writers()) == 1


def test_lines_beyond_the_budget_are_counted(server: LocalServer, name: str) -> None:
    program = (
        f"import runfold\nwith runfold.init(project={name!r}):\n"
        "    for n in range(100_000): print('spam', n)\n"
    )
    env = environment(console(server))
    ended = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "".join(f"spam {n}\n" for n in range(100_000))
    [run] = runfold.Api(url=server.url).runs(name)

    def all_lines() -> list[Any]:
        lines = list(run.console_logs(per_page=10_000))
        assert lines[-1].number == 99_999, "the last lines are kept"
        return lines

    lines = until(all_lines)
    kept = [line for line in lines if not line.dropped]
    dropped = sum(line.dropped for line in lines)
    assert dropped > 50_000
    assert len(kept) + dropped == 100_000
    assert all(line.content == f"spam {line.number}" for line in kept)
    assert kept[-1].number == 99_999
    mark = next(line for line in lines if line.dropped)
    assert mark.content == f"[... {mark.dropped:,} lines not kept ...]"

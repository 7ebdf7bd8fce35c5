"""Commands answer questions, and say what is wrong on stderr with a status other than 0."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from runfold.cli import app, main
from worker.api.canned import Answer, CannedServer, packed, refusal

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, err = capfd.readouterr()
    code = caught.value.code
    return code if isinstance(code, int) else 0 if code is None else 1, out, err


def document(**more: Any) -> dict[str, Any]:
    return {
        "id": "r1", "entity": "local", "project": "p", "name": "calm\x1b[31m-sea", "state": "failed", "reason": "exit 1",
        "first_failure": {"rank": 2, "host": "h", "reason": "ValueError", "traceback": "line 1\nline 2"},
        "unreachable": False, "mode": "shared", "group": None, "job_type": None, "fold": 3, "notes": None, "tags": ["a"],
        "host": "h", "created_at": "2026-01-02T03:04:05.000000Z", "heartbeat_at": "", "ended_at": None, "duration_s": 3661.5,
        "last_step": 9, "row_count": 10, "config_conflicts": {}, "version": 1, "stalled": False, "verdicts": {}, "forked_from": None, "config": {"opt": {"lr": 0.1}},
        "summary": {"loss": float("nan")}, "files": {"stored": 4, "pending": 1, "failed": 21}, **more,
    }  # fmt: skip


WRITER = {
    "writer": "00", "label": "rank-0", "rank": 0, "attempt": 1, "host": "h", "pid": 5, "state": "failed",
    "unreachable": False, "stalled": False, "last_step": 9, "last_seq": 12, "head_seq": 12, "reason": "exit 1",
}  # fmt: skip
COUNTS = {"acknowledged": 12, "stored": 12, "declared_gaps": 0, "dead_letters": 0, "pending": 0}


LOST = {
    "files": [{"name": f"f{number}", "error": "it is not there", "sha256": None} for number in range(21)],
    "next_cursor": None,
}


def answer(path: str, _headers: dict[str, str]) -> Answer:
    route = path.partition("?")[0].removeprefix("/api/v1")
    answers = {
        "/runs": {"runs": [document()], "total": 3, "next_cursor": None},
        "/runs/local/p/r1": document(),
        "/runs/local/p/r1/writers": {"writers": [WRITER]},
        "/runs/local/p/r1/accounting": COUNTS,
        "/runs/local/p/r1/attempts": {"attempts": []},
        "/runs/local/p/r1/files": LOST,
    }
    return (
        packed(answers[route]) if route in answers else refusal(404, "run_not_found", "no run of this name")
    )


def commands() -> dict[str, Any]:
    """Return all commands by name, those of groups as "group command"."""
    found: dict[str, Any] = {}
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        below = getattr(command, "commands", None)
        found |= {name: command} if below is None else {f"{name} {each}": below[each] for each in below}
    return found


def test_every_command_and_option_is_documented() -> None:
    text = DOCS.read_text()
    for name, command in commands().items():
        assert re.search(rf"^## `runfold {name}`$", text, re.MULTILINE), name
        section = text.split(f"## `runfold {name}`")[1].split("\n## ")[0]
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    assert f"{option}" in section, f"{name} {option}"
    assert set(re.findall(r"^## `runfold ([\w ]+)`$", text, re.MULTILINE)) == set(commands())


def test_every_command_has_a_form_for_programs() -> None:
    for name, command in commands().items():
        if name == "run":  # its output is its command's
            continue
        assert any("--json" in parameter.opts for parameter in command.params), name


def test_runs_are_listed_for_people_and_for_programs(capfd: pytest.CaptureFixture[str]) -> None:
    with CannedServer(answer) as server:
        status, out, _ = run(capfd, "runs", "p", "--url", server.url)
        assert status == 0
        assert "r1" in out
        assert "1 h 1 min" in out
        assert "\x1b[31m" not in out  # a name can do nothing to the terminal
        status, out, _ = run(capfd, "runs", "--json", "--url", server.url)
        assert json.loads(out)["total"] == 3
        run(
            capfd,
            "runs",
            "p",
            "--state",
            "failed",
            "--group",
            "g",
            "--filters",
            '{"host": "h"}',
            "--url",
            server.url,
        )
        assert "%22group%22" in server.asked[-1]
        assert "project=p" in server.asked[-1]


def test_a_run_is_shown_whole(capfd: pytest.CaptureFixture[str]) -> None:
    with CannedServer(answer) as server:
        status, out, _ = run(capfd, "show", "p/r1", "--url", server.url)
        assert status == 0
        for part in ("exit 1", "rank 2", "line 2", "opt.lr", "nan", "rank-0", "acknowledged", "12"):
            assert part in out, part
        status, out, _ = run(capfd, "show", "p/r1", "--json", "--url", server.url)
        shown = json.loads(out)
        assert shown["summary"] == {"loss": "NaN"}
        assert shown["accounting"] == COUNTS
        assert shown["failed_files"][0] == {"name": "f0", "error": "it is not there"}
        assert shown["writers"][0]["rank"] == 0


def test_errors_go_to_stderr_with_a_status(capfd: pytest.CaptureFixture[str]) -> None:
    with CannedServer(answer) as server:
        status, out, err = run(capfd, "show", "p/none", "--url", server.url)
        assert (status, out) == (1, "")
        assert "no run of this name" in err
        status, out, err = run(capfd, "show", "p/none", "--json", "--url", server.url)
        assert (status, out) == (1, "")
        assert json.loads(err)["error"]["type"] == "RunNotFoundError"
    status, _, err = run(capfd, "runs", "--filters", "{", "--url", "http://127.0.0.1:9")
    assert status == 2
    assert "filters" in err
    assert run(capfd, "nosuch")[0] == 2


def test_without_a_server_the_way_out_is_told(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNFOLD_DIR", str(tmp_path))
    status, _, err = run(capfd, "runs")
    assert status == 1
    assert "runfold up" in err


@pytest.mark.parametrize(("command", "extra"), [("up", "coordinator"), ("demo", "demo")])
def test_a_missing_extra_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, extra: str
) -> None:
    for module in ("runfold_coordinator", "runfold_coordinator.demo", "runfold_coordinator.__main__"):
        monkeypatch.setitem(sys.modules, module, None)
    status, _, err = run(capfd, command)
    assert status == 1
    assert f"pip install 'runfold[{extra}]'" in err


def test_version_and_help_load_nothing_heavy() -> None:
    program = (
        "import sys, runfold.cli\n"
        "try: runfold.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy','httpx','redis','fastapi','sqlalchemy','torch','pandas','runfold_coordinator'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    version = subprocess.run(
        [sys.executable, "-m", "runfold", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert version.stdout.startswith("runfold ")


def test_a_reader_that_goes_away_gets_no_traceback() -> None:
    with CannedServer(answer) as server:
        for command in ("show p/r1", "runs --json"):
            line = f"{sys.executable} -m runfold {command} --url {server.url} | head -c 1"
            done = subprocess.run(
                ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False
            )
            assert (len(done.stdout), done.stderr) == (1, "")


def test_sync_of_nothing_is_done_at_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNFOLD_DIR", str(tmp_path))
    status, out, err = run(capfd, "sync", "--url", "http://127.0.0.1:9")
    assert (status, out) == (0, "nothing to deliver\n"), err
    assert run(capfd, "sync", str(tmp_path / "none"))[0] == 2

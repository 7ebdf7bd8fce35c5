"""The doctor finds what is wrong, names the way out, and survives whatever a sick machine answers."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from runfold.cli import checks, server_checks
from runfold.cli.checks import Check
from runfold.cli.doctor import _made
from worker.api.canned import Answer, CannedServer, packed, refusal
from worker.cli.test_cli import run


def test_a_sound_machine_passes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNFOLD_DIR", str(tmp_path))
    os.chmod(tmp_path, 0o700)
    status, out, _ = run(capfd, "doctor", "--json")
    report = json.loads(out)
    assert status == 0, report
    assert report["ok"]
    names = [check["name"] for check in report["checks"]]
    assert {
        "python",
        "RUNFOLD_DIR",
        "permissions",
        "data directory",
        "sqlite",
        "gpus",
        "server",
        "clock",
        "redis",
    } <= set(names)
    assert run(capfd, "doctor")[0] == 0


def test_folders_are_judged_by_their_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert checks.folder("RUNFOLD_DIR", tmp_path / "not" / "yet", for_database=False).status in ("ok", "warn")
    monkeypatch.setattr(checks, "file_system", lambda _path: "nfs4")
    slow = checks.folder("RUNFOLD_DIR", tmp_path, for_database=False)
    assert (slow.status, "local disk" in slow.fix) == ("warn", True)
    assert checks.folder("data directory", tmp_path, for_database=True).status == "fail"
    monkeypatch.setattr(checks, "file_system", lambda _path: "tmpfs")
    assert "reboot" in checks.folder("RUNFOLD_DIR", tmp_path, for_database=False).detail
    monkeypatch.setattr(checks, "LOW_SPACE_BYTES", 10**18)
    assert checks.folder("RUNFOLD_DIR", tmp_path, for_database=False).status == "fail"
    file = tmp_path / "file"
    file.write_text("")
    assert checks.folder("RUNFOLD_DIR", file / "below", for_database=False).status == "fail"


def test_the_file_system_of_a_path_is_found() -> None:
    assert checks.file_system(Path("/proc/self")) == "proc"
    assert checks.file_system(Path("/"))


def test_spools_that_others_may_read_or_write_are_found(tmp_path: Path) -> None:
    (tmp_path / "spool" / "local").mkdir(parents=True)
    for place, mode in (("", 0o755), ("spool", 0o755), ("spool/local", 0o700)):
        os.chmod(tmp_path / place, mode)
    assert checks.permissions(tmp_path).status == "ok"
    os.chmod(tmp_path / "spool" / "local", 0o755)
    assert checks.permissions(tmp_path).status == "warn"
    os.chmod(tmp_path, 0o777)
    found = checks.permissions(tmp_path)
    assert found.status == "fail"
    assert "chmod" in found.fix


def test_an_old_sqlite_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 30, 0))
    assert checks.sqlite().status == "fail"
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 40, 1))
    assert "WAL" in checks.sqlite().detail
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 51, 3))
    assert checks.sqlite().fix == ""


def healthy(path: str, headers: dict[str, str]) -> Answer:
    if path.endswith("/health"):
        return packed({})[0], {"content-type": "application/json"}, b'{"status": "ok", "server_id": "ab"}'
    if headers.get("authorization") != "Bearer geheim":
        return refusal(401, "wrong_key", "no")
    return 200, {"content-type": "application/json"}, b'{"redis_url": null}'


def test_a_server_is_asked_for_health_key_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with CannedServer(healthy) as server:
        found = server_checks.server(server.url)
        assert (found.status, "RUNFOLD_API_KEY" in found.fix) == ("fail", True)
        monkeypatch.setenv("RUNFOLD_API_KEY", "geheim")
        assert server_checks.server(server.url).status == "ok"
        assert server_checks.clock(server.url).status == "ok"
        assert server_checks.redis(server.url, None).status == "skip"
        monkeypatch.setattr(server_checks, "time", SimpleNamespace(time=lambda: time.time() + 3600))
        late = server_checks.clock(server.url)
        assert late.status == "warn"
        assert "ahead" in late.detail


def test_a_server_that_is_none_is_told() -> None:
    with CannedServer(lambda _path, _headers: (200, {}, b"<html>")) as server:
        assert server_checks.server(server.url).status == "fail"
    assert server_checks.server("http://127.0.0.1:9").status == "fail"
    assert server_checks.server("nonsense").status == "fail"
    assert server_checks.clock("http://127.0.0.1:9").status == "skip"


def test_a_redis_that_does_not_answer_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = server_checks.redis(None, f"redis://127.0.0.1:{port}")
    assert found.status == "fail"
    assert found.fix
    assert server_checks.redis(None, "nonsense").status == "fail"


def test_a_check_that_breaks_is_a_finding() -> None:
    def broken_check() -> Check:
        raise RuntimeError("oh")

    found = _made(broken_check)
    assert (found.name, found.status) == ("broken check", "fail")

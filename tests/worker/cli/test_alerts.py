"""`runfold alerts`: lists what was raised, and tests a receiver as the server would tell it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from support.webhooks import WebhookServer
from worker.api.canned import Answer, CannedServer, packed
from worker.cli.test_cli import document, run

ALERT = {
    "run": "local/p/r1", "title": "diverged\x1b[31m", "text": "loss is nan", "level": "WARN", "source": "run",
    "raised_unix_s": 0.0, "suppressed": False, "rank": 0, "label": "rank0",
    "deliveries": [
        {"receiver": "ops", "state": "waiting", "attempts": 2, "error": "answered 503", "delivered_unix_s": None}
    ],
}  # fmt: skip


def answer(path: str, _headers: dict[str, str]) -> Answer:
    if path.startswith(("/api/v1/alerts", "/api/v1/runs/local/p/r1/alerts")):
        return packed({"alerts": [ALERT, ALERT | {"suppressed": True}], "next_cursor": None})
    return packed(document())


def test_alerts_are_listed_with_what_became_of_them(capfd: pytest.CaptureFixture[str]) -> None:
    with CannedServer(answer) as server:
        code, out, _ = run(capfd, "alerts", "--url", server.url)
        assert code == 0
        assert "ops: waiting (answered 503)" in out and "suppressed" in out and "\x1b[31m" not in out
        code, out, _ = run(capfd, "alerts", "p/r1", "--url", server.url, "--json")
        assert code == 0 and json.loads(out)["alerts"][0]["title"] == ALERT["title"]


def test_a_receiver_is_tested(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    with WebhookServer(200, 500) as hooks:
        address = f'url = "http://127.0.0.1:{hooks.port}/s3cret"\nallow_http = true\nallow_private = true\n'
        file.write_text(
            f'[[receiver]]\nname = "ops"\nkind = "webhook"\n{address}'
            f'[[receiver]]\nname = "cmd"\nkind = "command"\ncommand = ["{sys.executable}", "-c", "exit(4)"]\n'
        )
        code, out, _ = run(capfd, "alerts", "--test", "ops", "--file", str(file))
        assert (code, out) == (0, "delivered to ops\n")
        assert hooks.received[0].document["alert"]["title"] == "runfold test"
        code, out, err = run(capfd, "alerts", "--test", "ops", "--file", str(file))
        assert (code, out, err) == (1, "", "runfold: error: ops: answered 500\n")
    code, _, err = run(capfd, "alerts", "--test", "cmd", "--file", str(file), "--json")
    assert code == 1 and "status 4" in json.loads(err)["error"]["message"]
    code, _, err = run(capfd, "alerts", "--test", "nobody", "--file", str(file))
    assert code == 1 and "it has ops, cmd" in err


def test_a_wrong_file_is_named(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text('[[receiver]]\nname = "ops"\nkind = "fax"\n')
    monkeypatch.setenv("RUNFOLD_ALERTS", str(file))
    code, _, err = run(capfd, "alerts", "--test", "ops")
    assert code == 1 and "receiver[0].kind (of 'ops')" in err
    monkeypatch.delenv("RUNFOLD_ALERTS")
    code, _, err = run(capfd, "alerts", "--test", "ops")
    assert code != 0 and "RUNFOLD_ALERTS" in err

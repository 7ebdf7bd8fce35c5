"""Alerts end to end: a process or a rule speaks, a webhook hears it, whatever dies in between."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.processes import finish, start, until
from support.webhooks import WebhookServer

FILE = """
[[receiver]]
name = "ops"
kind = "webhook"
url = "http://127.0.0.1:{port}/hook?token=s3cret"
secret_env = "HOOK_SECRET"
allow_http = true
allow_private = true

[[rule]]
name = "a rank died"
when = {{ rank_state = ["failed", "crashed", "killed"] }}
receivers = ["ops"]
level = "ERROR"

[[rule]]
name = "diverged"
when = {{ metric = "loss", not_finite = true }}
receivers = ["ops"]
text = "{{metric}} of {{run}} is {{value}} at step {{step}}"
"""

TRAIN = """
import os, sys, time
import runfold
run = runfold.init(project="journey", id=sys.argv[2], mode="shared", label="rank" + os.environ["RANK"])
for step in range(3):
    run.log({"loss": 1.0}, step=step)
print("ready", flush=True)
time.sleep(60)
"""


def alerting_server(tmp_path: Path, port: int) -> LocalServer:
    file = tmp_path / "alerts.toml"
    file.write_text(FILE.format(port=port))
    return LocalServer(arguments=("--alerts", str(file)), env={"HOOK_SECRET": "signing key"})


def titled(hooks: WebhookServer, title: str) -> list[dict[str, Any]]:
    return [each.document for each in hooks.received if each.document["alert"]["title"] == title]


@pytest.mark.timeout(120)
def test_what_a_run_says_and_what_happens_to_it_reaches_a_webhook(tmp_path: Path, name: str) -> None:
    with WebhookServer() as hooks, alerting_server(tmp_path, hooks.port) as server:
        said = 'import runfold, sys, time; r = runfold.init(project="journey", id=sys.argv[2]); '
        said += 'print(time.time()); [r.alert("look here", "text & <b>", level="WARN") for _ in range(3)]; '
        said += 'r.log({"loss": float("nan")}, step=7); r.finish()'
        [output] = finish([start("support.program", said, name, env=server.env)])
        [alert] = until(lambda: titled(hooks, "look here"))
        assert time.time() - float(output.split()[0]) < 30
        assert alert["alert"]["text"] == "text & <b>" and alert["alert"]["level"] == "WARN"
        assert alert["run"]["id"] == name

        first = hooks.received[0]
        signed = f"{first.headers['webhook-id']}.{first.headers['webhook-timestamp']}.".encode() + first.body
        expected = base64.b64encode(hmac.digest(b"signing key", signed, hashlib.sha256)).decode()
        assert first.headers["webhook-signature"] == f"v1,{expected}"
        [diverged] = until(lambda: titled(hooks, "diverged"))
        assert diverged["alert"]["text"] == f"loss of {name} is nan at step 7"

        run = runfold.Api(url=server.url).run(f"journey/{name}")

        def check_known() -> bool:
            known = [each for each in run.alerts() if each["source"] == "run"]
            assert [each["suppressed"] for each in known] == [True, True, False]
            assert known[-1]["deliveries"][0]["state"] == "delivered"
            return True

        until(check_known)
        assert "s3cret" not in str(runfold.Api(url=server.url).alerts()) + server.log_path.read_text()

        # A rank that is killed while its peer goes on: named, with its reason, soon.
        job = f"{name}-job"
        ranks = [
            start("support.program", TRAIN, job, env=server.env | {"RANK": str(rank), "WORLD_SIZE": "2"})
            for rank in range(2)
        ]
        try:
            for rank in ranks:
                assert rank.stdout is not None and rank.stdout.readline() == "ready\n"
            os.kill(ranks[1].pid, signal.SIGKILL)
            killed_s = time.monotonic()
            [died] = until(lambda: titled(hooks, "a rank died"))
            assert time.monotonic() - killed_s < 30
            assert died["run"]["id"] == job and died["alert"]["level"] == "ERROR"
            assert re.search(r"rank 1 on .+ (killed|crashed): \w+", died["alert"]["text"])
        finally:
            for rank in ranks:
                rank.kill()
                rank.communicate()


@pytest.mark.timeout(120)
def test_a_delivery_survives_the_server_and_keeps_its_id(tmp_path: Path, name: str) -> None:
    with WebhookServer(503, "hang") as hooks, alerting_server(tmp_path, hooks.port) as server:
        said = 'import runfold, sys; r = runfold.init(project="journey", id=sys.argv[2]); '
        said += 'r.alert("once", ""); r.finish()'
        finish([start("support.program", said, name, env=server.env)])
        until(lambda: len(hooks.received) >= 2)  # refused, then taken up and never answered
        server.kill("coordinator")
        server.restart("coordinator")
        api = runfold.Api(url=server.url)
        [alert] = until(
            lambda: [
                each
                for each in api.alerts("journey")
                if each["deliveries"] and each["deliveries"][0]["state"] == "delivered"
            ]
        )
        assert (alert["title"], alert["source"]) == ("once", "run")
        assert len({each.delivery for each in hooks.received}) == 1
        assert len(hooks.received) >= 3

"""Each source against a server that speaks its protocol, with the answers of its documentation, and with faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runfold.node.notices.aws import Aws
from runfold.node.notices.azure import Azure
from runfold.node.notices.detect import cloud_of, sources
from runfold.node.notices.gcp import Gcp
from runfold.node.notices.kubernetes import Kubernetes, api_url
from runfold.node.notices.notice import MAX_ANSWER_BYTES, NeverError, Notice, Source, unix_s_of

pytestmark = pytest.mark.journey


class Metadata(BaseHTTPRequestHandler):
    """Answers as `server.said[method, path]` says: a status, a body, and headers; and keeps what was asked."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.command, self.path, dict(self.headers.items())))
        refusal = server.refuse(self.command, dict(self.headers.items()))
        said = server.said.get((self.command, self.path), (404, b"", {}))
        status, body, headers = (refusal, b"", {}) if refusal else said
        if status is None:  # no HTTP at all
            self.wfile.write(b"\x00\x01garbage\r\n\r\n")
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    server.said, server.asked = {}, []
    server.refuse = lambda _method, _headers: None
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


# --- Amazon -----------------------------------------------------------------------------------------------

ACTION = "/latest/meta-data/spot/instance-action"


@pytest.fixture
def aws(metadata: Any) -> Any:
    """IMDSv2: nothing without a token that is valid."""
    metadata.tokens = ["one"]
    metadata.said["PUT", "/latest/api/token"] = (200, b"one", {})

    def refuse(method: str, headers: dict[str, str]) -> int | None:
        shown = {name.lower(): value for name, value in headers.items()}
        if method == "PUT":
            return None if shown.get("x-aws-ec2-metadata-token-ttl-seconds", "").isdigit() else 400
        return None if shown.get("x-aws-ec2-metadata-token") in metadata.tokens else 401

    metadata.refuse = refuse
    return metadata


def test_aws_tells_an_interruption_and_nothing_before(aws: Any):
    source = Aws(aws.url)
    assert source.look() is None
    aws.said["GET", ACTION] = (200, b'{"action": "terminate", "time": "2017-09-18T08:22:00Z"}', {})
    found = source.look()
    assert found == Notice(
        "aws", "EC2 spot instance: terminate at 2017-09-18T08:22:00Z", 1505722920.0,
        "terminate 2017-09-18T08:22:00Z",
    )  # fmt: skip
    assert [path for method, path, _ in aws.asked if method == "PUT"] == ["/latest/api/token"], "one token"


def test_aws_takes_a_new_token_when_the_old_one_has_expired(aws: Any):
    source = Aws(aws.url)
    assert source.look() is None
    aws.tokens = ["two"]
    aws.said["PUT", "/latest/api/token"] = (200, b"two", {})
    aws.said["GET", ACTION] = (200, b'{"action": "stop", "time": "soon"}', {})
    found = source.look()
    assert found is not None
    assert found.at_unix_s is None


@pytest.mark.parametrize(
    "said",
    [(200, b"{}", {}), (200, b"[]", {}), (200, b"\xff", {}), (500, b"", {}), (None, b"", {}),
     (302, b"", {"Location": "http://127.0.0.1:1/"}), (200, b"[" * 100_000, {})],
)  # fmt: skip
def test_an_answer_that_is_none_is_no_notice(aws: Any, said: Any):
    aws.said["GET", ACTION] = said
    with pytest.raises((OSError, ValueError, RecursionError)):
        Aws(aws.url).look()


# --- Google -----------------------------------------------------------------------------------------------

INSTANCE = "/computeMetadata/v1/instance/"
GOOGLE = {"Metadata-Flavor": "Google"}


@pytest.mark.parametrize(
    ("preempted", "event", "text"),
    [
        (b"FALSE", b"NONE", None),
        (b"FALSE", b"MIGRATE_ON_HOST_MAINTENANCE", None),
        (b"TRUE", b"NONE", "preempts this machine"),
        (b"FALSE", b"TERMINATE_ON_HOST_MAINTENANCE", "TERMINATE_ON_HOST_MAINTENANCE"),
    ],
)
def test_google_tells_preemption_and_maintenance_that_terminates(
    metadata: Any, preempted: bytes, event: bytes, text: str | None
):
    metadata.said["GET", INSTANCE + "preempted"] = (200, preempted, GOOGLE)
    metadata.said["GET", INSTANCE + "maintenance-event"] = (200, event, GOOGLE)
    found = Gcp(metadata.url).look()
    assert (found is None) if text is None else (found is not None and text in found.text)
    assert all(headers.get("Metadata-Flavor") == "Google" for _, _, headers in metadata.asked)


def test_whoever_is_not_google_is_not_believed(metadata: Any):
    metadata.said["GET", INSTANCE + "preempted"] = (200, b"TRUE", {})
    with pytest.raises(ValueError, match="no metadata server of Google"):
        Gcp(metadata.url).look()


# --- Microsoft --------------------------------------------------------------------------------------------

EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"


def events(*found: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
    return 200, json.dumps({"DocumentIncarnation": 2, "Events": list(found)}).encode(), {}


def event(kind: str, *names: str) -> dict[str, Any]:
    return {
        "EventId": "C7061BAC-AFDC-4513-B24B-AA5F13A16123", "EventStatus": "Scheduled", "EventType": kind,
        "ResourceType": "VirtualMachine", "Resources": list(names),
        "NotBefore": "Mon, 11 Apr 2022 22:26:58 GMT", "Description": "", "EventSource": "Platform",
    }  # fmt: skip


@pytest.fixture
def azure(metadata: Any) -> Any:
    name = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
    metadata.said["GET", name] = (200, b"trainers_7", {})
    return metadata


def test_azure_tells_what_takes_this_machine_away(azure: Any):
    source = Azure(azure.url)
    for others in ((), (event("Preempt", "trainers_8"),), (event("Freeze", "trainers_7"),)):
        azure.said["GET", EVENTS] = events(*others)
        assert source.look() is None
    azure.said["GET", EVENTS] = events(
        event("Reboot", "trainers_7"), event("Preempt", "trainers_8", "trainers_7")
    )
    found = source.look()
    assert found is not None
    assert (found.text, found.at_unix_s) == (
        "Azure scheduled event: Preempt, not before Mon, 11 Apr 2022 22:26:58 GMT", 1649716018.0,
    )  # fmt: skip
    assert all(headers.get("Metadata") == "true" for _, _, headers in azure.asked)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"Events": null}', b"nonsense"])
def test_another_document_than_azures_is_no_notice(azure: Any, body: bytes):
    azure.said["GET", EVENTS] = (200, body, {})
    with pytest.raises(ValueError):
        Azure(azure.url).look()


# --- Kubernetes -------------------------------------------------------------------------------------------

POD = "/api/v1/namespaces/team-a/pods/train-0"


@pytest.fixture
def account(tmp_path: Path) -> Path:
    for name, text in (("namespace", "team-a"), ("token", "secret\n")):
        (tmp_path / name).write_text(text)
    return tmp_path


def pod(conditions: Any = None, **metadata: Any) -> tuple[int, bytes, dict[str, str]]:
    found = {"kind": "Pod", "metadata": {"uid": "u1", **metadata}, "status": {"conditions": conditions}}
    return 200, json.dumps(found).encode(), {}


def test_kubernetes_tells_a_disruption_and_a_deletion(metadata: Any, account: Path):
    source = Kubernetes(metadata.url, "train-0", account)
    ready = {"type": "Ready", "status": "True"}
    for nothing in (pod(), pod([ready]), pod([{"type": "DisruptionTarget", "status": "False"}])):
        metadata.said["GET", POD] = nothing
        assert source.look() is None
    metadata.said["GET", POD] = pod(deletionTimestamp="2026-01-02T03:04:05Z", deletionGracePeriodSeconds=30)
    found = source.look()
    assert found is not None
    assert (found.at_unix_s, found.ident) == (1767323045.0, "u1 deletion")
    target = {
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": "kube-scheduler: preempting to accommodate a higher priority pod",
    }  # fmt: skip
    metadata.said["GET", POD] = pod([ready, target])
    found = source.look()
    assert found is not None
    assert "PreemptionByScheduler" in found.text
    assert metadata.asked[0][2]["Authorization"] == "Bearer secret"
    (account / "token").write_text("renewed")
    source.look()
    assert metadata.asked[-1][2]["Authorization"] == "Bearer renewed"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_without_the_right_to_see_the_own_pod_it_is_not_asked_again(
    metadata: Any, account: Path, status: int
):
    metadata.said["GET", POD] = (status, b"", {})
    with pytest.raises(NeverError):
        Kubernetes(metadata.url, "train-0", account).look()


@pytest.mark.parametrize(
    "said", [(500, b"", {}), (200, b"{}", {}), (200, b'{"kind": "Status"}', {}), (None, b"", {})]
)
def test_an_api_in_trouble_is_no_notice(metadata: Any, account: Path, said: Any):
    metadata.said["GET", POD] = said
    with pytest.raises((OSError, ValueError)):
        Kubernetes(metadata.url, "train-0", account).look()


def test_an_api_with_another_certificate_is_not_told_the_token(metadata: Any, account: Path):
    (account / "ca.crt").write_text("")
    with pytest.raises(OSError):
        Kubernetes(metadata.url.replace("http:", "https:"), "train-0", account).look()
    assert metadata.asked == []


# --- common -----------------------------------------------------------------------------------------------


def test_a_service_that_is_not_there_or_silent_is_given_up_soon():
    import socket
    import time

    silent = socket.create_server(("127.0.0.1", 0))
    for url in ("http://127.0.0.1:1", f"http://127.0.0.1:{silent.getsockname()[1]}"):
        found: list[Source] = [Aws(url), Gcp(url), Azure(url)]
        for source in found:
            began = time.monotonic()
            with pytest.raises(OSError):
                source.look()
            assert time.monotonic() - began < 30, "without a limit it would wait for ever"
    silent.close()


def test_only_http_is_asked():
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/", "/latest", ""):
        with pytest.raises(ValueError, match="no http"):
            Gcp(url).look()


def test_an_endless_answer_is_cut(metadata: Any):
    metadata.said["GET", INSTANCE + "preempted"] = (200, b"T" * (MAX_ANSWER_BYTES + 5), GOOGLE)
    metadata.said["GET", INSTANCE + "maintenance-event"] = (200, b"NONE", GOOGLE)
    assert Gcp(metadata.url).look() is None


def test_proxies_of_the_environment_are_not_asked(metadata: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    metadata.said["GET", INSTANCE + "preempted"] = (200, b"TRUE", GOOGLE)
    assert Gcp(metadata.url).look() is not None


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [("2017-09-18T08:22:00Z", 1505722920.0), ("Mon, 19 Sep 2016 18:29:47 GMT", 1474309787.0), ("", None),
     ("soon", None), (None, None), (5, None)],
)  # fmt: skip
def test_times_are_read_in_both_forms(text: object, unix_s: float | None):
    assert unix_s_of(text) == unix_s


def test_the_grace_is_what_is_left():
    assert Notice("aws", "t", 100.0).facts(40.0) == {"system": "aws", "text": "t", "grace_s": 60.0}
    assert Notice("aws", "t", 100.0).facts(400.0)["grace_s"] == 0.0
    assert Notice("aws", "t").facts(0.0)["grace_s"] is None


@pytest.mark.parametrize(
    ("files", "cloud"),
    [
        ({"sys_vendor": "Amazon EC2\n"}, "aws"),
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, "gcp"),
        (
            {"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"},
            "azure",
        ),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, None),
        ({"sys_vendor": "QEMU"}, None),
        ({}, None),
    ],
)
def test_a_cloud_is_asked_only_on_its_own_machines(tmp_path: Path, files: dict[str, str], cloud: str | None):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cloud_of(tmp_path) == cloud
    found = sources(("auto",), {}, metadata_url="http://127.0.0.1:1", dmi=tmp_path, account=tmp_path)
    assert [source.system for source in found] == ([cloud] if cloud else [])
    assert sources(("off",), {}, metadata_url="", dmi=tmp_path, account=tmp_path) == []
    chosen = sources(("gcp", "aws"), {}, metadata_url="", dmi=tmp_path, account=tmp_path)
    assert {source.system for source in chosen} == {"aws", "gcp"}


def test_a_pod_is_known_by_its_environment_and_its_account(account: Path, tmp_path: Path):
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443", "HOSTNAME": "train-0"}
    assert api_url(inside) == "https://10.0.0.1:6443"
    assert api_url({"KUBERNETES_SERVICE_HOST": "fd00::1"}) == "https://[fd00::1]:443"
    nowhere = tmp_path / "none"
    for environ, place, systems in (
        (inside, account, ["kubernetes"]),
        ({}, account, []),
        (inside, nowhere, []),
    ):
        found = sources(("auto",), environ, metadata_url="", dmi=nowhere, account=place)
        assert [source.system for source in found] == systems

"""One delivery, over real sockets and processes: what is success, what is not, and how long it may take."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from runfold_coordinator.alerts import command
from runfold_coordinator.alerts.command import run_command
from runfold_coordinator.alerts.webhook import DeliveryError, post
from support.processes import until
from support.webhooks import WebhookServer


def send(server: WebhookServer, *, scheme: str = "http", host: str = "127.0.0.1", **more: object) -> int:
    options: dict[str, object] = {"timeout_s": 5.0, "allow_http": True, "allow_private": True}
    return post(f"{scheme}://{host}:{server.port}/a?t=s3cret", b"{}", {"X-A": "b"}, **(options | more))  # type: ignore[arg-type]


def test_a_post_arrives_as_it_was_sent() -> None:
    with WebhookServer() as server:
        assert send(server) == 200
        [request] = server.received
        assert (request.path, request.body, request.headers["x-a"]) == ("/a?t=s3cret", b"{}", "b")
        assert request.headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 500, 503])
def test_a_status_that_is_no_success_is_told_and_nothing_else_of_the_answer(status: int) -> None:
    with WebhookServer(status) as server, pytest.raises(DeliveryError) as caught:
        send(server)
    assert f"answered {status}" in str(caught.value)
    assert "secret" not in str(caught.value) and "s3cret" not in str(caught.value)


def test_redirects_are_not_followed() -> None:
    with WebhookServer("redirect") as server:
        with pytest.raises(DeliveryError, match="redirects are not followed"):
            send(server)
        assert len(server.received) == server.hits == 1


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_server_that_never_comes_to_an_end_is_left_in_time(how: str) -> None:
    with WebhookServer(how) as server:
        began_s = time.monotonic()
        with pytest.raises(DeliveryError, match="no answer"):
            send(server, timeout_s=0.5)
        assert time.monotonic() - began_s < 30


def test_a_handshake_that_never_comes_to_an_end_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began_s = time.monotonic()
        with pytest.raises(DeliveryError, match="no connection"):
            post(
                f"https://127.0.0.1:{silent.getsockname()[1]}/",
                b"{}",
                {},
                timeout_s=0.5,
                allow_private=True,
            )
        assert time.monotonic() - began_s < 30


def test_nobody_listening() -> None:
    with WebhookServer() as server:
        pass
    with pytest.raises(DeliveryError, match="no connection: Connection refused"):
        send(server)


def test_certificates_are_checked(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    with WebhookServer(tls=context) as server:
        with pytest.raises(DeliveryError, match="certificate"):
            send(server, scheme="https", host="localhost")
        with pytest.raises(DeliveryError, match="certificate"):
            send(server, scheme="https", host="127.0.0.1", ca_file=ca_file)
        assert server.received == []
        assert send(server, scheme="https", host="localhost", ca_file=ca_file) == 200


def test_a_body_over_the_limit_is_not_sent() -> None:
    with WebhookServer() as server:
        with pytest.raises(DeliveryError, match="limit"):
            post(
                f"http://127.0.0.1:{server.port}/",
                b"x" * 1_000_000,
                {},
                timeout_s=1,
                allow_http=True,
                allow_private=True,
            )
        assert server.hits == 0


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_gets_the_document_and_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFOLD_API_KEY", "hunter2")
    code = "import os, sys; print(sys.stdin.read(), sorted(os.environ), os.getcwd())"
    output = run_command(python(code), b'{"a": 1}', timeout_s=20)
    assert output.startswith('{"a": 1}') and "hunter2" not in output and "RUNFOLD" not in output
    assert output.rstrip().endswith(" /")


def test_arguments_are_not_read_by_a_shell() -> None:
    code = "import sys; print(sys.argv[1])"
    assert run_command([*python(code), "$(id); `id` | x"], b"", timeout_s=20) == "$(id); `id` | x\n"


def test_a_command_that_fails_or_does_not_start() -> None:
    with pytest.raises(DeliveryError, match="status 3"):
        run_command(python("raise SystemExit(3)"), b"", timeout_s=20)
    with pytest.raises(DeliveryError, match="No such file"):
        run_command(["/nowhere/program"], b"", timeout_s=20)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_that_stays_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "child"
    stays = f"sleep 60 & echo $! > {mark}.new; mv {mark}.new {mark}; wait"
    # Its time is over as soon as it has a child.
    late = SimpleNamespace(monotonic=lambda: 1000.0 if mark.exists() else 0.0, sleep=time.sleep)
    monkeypatch.setattr(command, "time", late)
    with pytest.raises(DeliveryError, match="did not end within 500 s"):
        run_command(["/bin/sh", "-c", stays], b"", timeout_s=500.0)
    child = int(mark.read_text())
    until(lambda: not is_alive(child))


def test_output_without_end_is_cut() -> None:
    code = "import sys\nfor _ in range(200): sys.stdout.write('x' * 10_000)"
    assert run_command(python(code), b"", timeout_s=20) == "x" * 4096


def test_a_child_that_holds_the_pipe_holds_up_nobody() -> None:
    child = int(run_command(["/bin/sh", "-c", "sleep 60 & echo $!"], b"", timeout_s=20))
    assert is_alive(child), "nobody waited for it"
    os.kill(child, signal.SIGKILL)

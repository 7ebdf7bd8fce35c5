"""Redis over TLS: coordinator and agent check the certificate, and refuse a server that they don't know."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

import runfold
from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.redis_checks import check_redis
from runfold_coordinator.testing import LocalServer
from support.checks import check_accounting, check_rows, rows_by_writer
from support.oracle import Oracle
from support.processes import environment, finish, start, until
from support.proxy import Proxy


def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


UPLOADS = """
import pathlib, runfold
run = runfold.init(project="tls", id="sender")
pathlib.Path("file.bin").write_bytes(b"x" * 1_500_000)
run.save("file.bin", policy="now")
artifact = runfold.Artifact("model", "model")
with artifact.new_file("w.txt") as file:
    file.write("weights")
run.log_artifact(artifact).wait(90)
run.finish()
"""


def test_files_travel_over_https_to_a_server_that_is_known(tmp_path: Path) -> None:
    known = trustme.CA()
    known.cert_pem.write_to_path(str(tmp_path / "known.pem"))
    with (
        LocalServer(tmp_path / "data", runfold_dir=tmp_path / "runfold") as server,
        Proxy("127.0.0.1", urlsplit(server.url).port or 0, tls=server_side(known)) as line,
    ):
        env = server.env | {
            "RUNFOLD_URL": f"https://127.0.0.1:{line.port}",
            "RUNFOLD_REDIS_URL": server.redis_url,
            "SSL_CERT_FILE": str(tmp_path / "known.pem"),
        }
        finish([start("support.program", UPLOADS, env=env, cwd=tmp_path)], 120)
        run = runfold.Api(url=server.url).run("tls/sender")
        assert until(lambda: run.file("file.bin").size, 60) == 1_500_000
        assert [each.name for each in run.logged_artifacts()] == ["model:v0"]
        assert line.forwarded_bytes > 1_500_000


def test_rows_travel_through_redis_over_tls(name: str, tmp_path: Path) -> None:
    known, stranger = trustme.CA(), trustme.CA()
    known.cert_pem.write_to_path(str(tmp_path / "known.pem"))
    stranger.cert_pem.write_to_path(str(tmp_path / "stranger.pem"))
    oracle = Oracle(tmp_path / "oracle")
    redis = EmbeddedRedis(tmp_path / "redis", listen="port")
    redis.start()
    plain = urlsplit(redis.url)
    assert plain.port is not None
    try:
        with Proxy("127.0.0.1", plain.port, tls=server_side(known)) as line:
            url = f"rediss://:{plain.password}@127.0.0.1:{line.port}/0?ssl_ca_certs={tmp_path}"
            with pytest.raises(Exception, match="certificate verify failed"):
                check_redis(f"{url}/stranger.pem")
            with LocalServer(tmp_path / "data", redis=f"{url}/known.pem") as server:
                done = subprocess.run(
                    [
                        sys.executable,
                        "-m",
                        "support.trainer",
                        "--run-id",
                        name,
                        "--rows",
                        "2000",
                        "--oracle",
                        oracle.path,
                    ],
                    env=environment(server.env),
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                assert done.returncode == 0, done.stdout + done.stderr
                run = runfold.Api(url=server.url).run(f"chaos/{name}")
                assert (
                    check_rows(rows_by_writer(run)[0], 0, acked=oracle.acked, attempted=oracle.attempted)
                    == []
                )
                check_accounting(run)
            # One heartbeat or ack alone is less: the frames themselves went this way.
            assert line.forwarded_bytes > 2000 * 8
    finally:
        redis.stop()

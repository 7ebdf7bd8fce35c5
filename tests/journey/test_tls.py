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
from support.processes import environment
from support.proxy import Proxy


def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


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

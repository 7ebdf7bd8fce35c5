"""A real S3 API served by moto in a process of its own, one a test session, and a fresh bucket for each test."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Bucket:
    """An empty bucket, and what a process needs in its environment to reach it."""

    url: str
    env: dict[str, str]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The server's address."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    program = (
        "from moto.server import ThreadedMotoServer\n"
        "import threading\n"
        "server = ThreadedMotoServer('127.0.0.1', 0, verbose=False)\n"
        "server.start()\n"
        "print('%s:%d' % server.get_host_and_port(), flush=True)\n"
        "threading.Event().wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **KEYS},
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"http://{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket; this process can reach it too, as long as the test goes on."""
    import s3fs

    env = {**KEYS, "AWS_ENDPOINT_URL": s3_server}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    return Bucket(f"s3://{name}/runfold", env)

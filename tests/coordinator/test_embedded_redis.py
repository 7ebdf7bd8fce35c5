"""The embedded server, with a real redis-server."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.redis_binary import find_redis_binary, probe
from runfold_coordinator.redis_checks import RedisConfigurationError, RedisUnavailableError, check_redis

pytestmark = [pytest.mark.journey, pytest.mark.timeout(60)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path, listen="port") as started:
        yield started


def until(fact: Callable[[], bool], limit_s: float = 45.0) -> None:
    deadline = time.monotonic() + limit_s
    while not fact():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def client_of(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=5)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_it_serves_on_a_private_socket(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        facts = check_redis(server.url)
        assert facts.policy == "noeviction"
        assert facts.aof
        assert server.url.startswith("unix://")
        modes = {
            name: stat.S_IMODE((tmp_path / "redis" / name).stat().st_mode)
            for name in ("redis.conf", "password", ".")
        }
        assert modes == {"redis.conf": 0o600, "password": 0o600, ".": 0o700}
        pid = server.pid
    assert pid
    assert not alive(pid)


def test_a_path_too_long_for_a_socket_takes_a_loopback_port(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / ("d" * 100)) as server:
        assert server.url.startswith("redis://")
        check_redis(server.url)


def test_scripting_is_off_and_a_password_needed(server: EmbeddedRedis) -> None:
    with client_of(server) as client:
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.eval("return 1", 0)
    bare = server.url.replace(server.url.split("@")[0] + "@", "redis://")
    with pytest.raises(RedisConfigurationError, match="password"):
        check_redis(bare)


def test_it_starts_again_after_kill_9_at_the_same_address(server: EmbeddedRedis) -> None:
    url, pid = server.url, server.pid
    assert pid
    with client_of(server) as client:
        client.xadd("rf:{0}:in", {"f": b"x"})
        until(lambda: client.info("persistence")["aof_buffer_length"] == 0)  # the kernel has it
        os.kill(pid, signal.SIGKILL)
    until(lambda: server.pid not in (None, pid))

    def answers() -> bool:
        try:
            with redis.Redis.from_url(url) as again:
                return again.xlen("rf:{0}:in") == 1
        except redis.ConnectionError:
            return False

    until(answers)
    assert server.restart_count == 1


def test_a_full_server_refuses_instead_of_evicting(tmp_path: Path) -> None:
    with (
        EmbeddedRedis(tmp_path, listen="port", max_memory_bytes=1_500_000, persistent=False) as server,
        client_of(server) as client,
    ):
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            for _ in range(1000):
                client.xadd("rf:{0}:in", {"f": b"x" * 10_000})
        check_redis(server.url)  # full is back-pressure, not a wrong set-up


def test_an_evicting_server_and_a_replica_are_refused(server: EmbeddedRedis) -> None:
    with client_of(server) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(RedisConfigurationError, match="noeviction"):
            check_redis(server.url)
        client.config_set("maxmemory-policy", "noeviction")
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(RedisConfigurationError, match="primary"):
            check_redis(server.url)


def test_an_acl_user_without_our_rights_is_told_which(server: EmbeddedRedis) -> None:
    with client_of(server) as client:
        client.execute_command(
            "ACL",
            "SETUSER",
            "weak",
            "on",
            ">pw",
            "~rf:*",
            "-@all",
            "+ping",
            "+info",
            "+xread",
            "+hello",
            "+client",
            "+select",
        )
        client.execute_command(
            *"ACL SETUSER fit on >pw ~rf:* resetchannels -@all +xadd +xread +xtrim +xlen +hset +hget +hmget +hdel +ping +info +hello +client|setinfo +select".split()
            if tuple(map(int, client.info()["redis_version"].split(".")[:1])) >= (7,)
            else "ACL SETUSER fit on >pw ~rf:* resetchannels -@all +xadd +xread +xtrim +xlen +hset +hget +hmget +hdel +ping +info +hello +client +select".split()
        )
    where = server.url.split("@")[1]
    with pytest.raises(RedisConfigurationError, match="ACL SETUSER"):
        check_redis(f"redis://weak:pw@{where}")
    check_redis(f"redis://fit:pw@{where}")


def test_files_that_do_not_load_are_moved_aside(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, listen="port") as server, client_of(server) as client:
        for number in range(50):
            client.xadd("rf:{0}:in", {"f": str(number)})
    files = [
        path for path in (tmp_path / "redis").rglob("*aof*") if path.is_file() and "manifest" not in path.name
    ]
    for path in files:
        data = bytearray(path.read_bytes())
        data[: len(data) // 2] = b"\xff" * (len(data) // 2)
        path.write_bytes(data)
    with EmbeddedRedis(tmp_path, listen="port") as server, client_of(server) as client:
        assert client.xlen("rf:{0}:in") == 0
    assert list((tmp_path / "redis").glob("append*.bad-*"))


def test_it_ends_a_server_left_by_a_killed_coordinator(tmp_path: Path) -> None:
    first = EmbeddedRedis(tmp_path, listen="port", supervise=False).start()
    old = first.pid
    assert old
    with EmbeddedRedis(tmp_path, listen="port") as second:
        assert second.url == first.url
        assert second.pid != old
        assert not alive(old)
    first.stop()


def test_a_port_in_use_is_an_error_that_says_so(tmp_path: Path, server: EmbeddedRedis) -> None:
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    with pytest.raises(RedisUnavailableError, match="in use"):
        EmbeddedRedis(tmp_path / "other", listen="port", port=port).start()


def test_the_newest_server_on_the_path_is_taken(tmp_path: Path) -> None:
    for name, version in (("redis-server", "7.0.15"), ("valkey-server", "8.0.1")):
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\necho 'Server v={version} sha=0'\n")
        script.chmod(0o755)
    found = find_redis_binary(str(tmp_path))
    assert (found.path.name, found.version) == ("valkey-server", (8, 0, 1))


def test_an_old_server_on_the_path_is_passed_over(tmp_path: Path) -> None:
    script = tmp_path / "redis-server"
    script.write_text("#!/bin/sh\necho 'Redis server v=5.0.7'\n")
    script.chmod(0o755)
    assert find_redis_binary(str(tmp_path)).path != script
    assert probe(tmp_path / "missing") is None


def test_it_ends_with_a_coordinator_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib\n"
        "from runfold_coordinator.embedded_redis import EmbeddedRedis\n"
        f"server = EmbeddedRedis(pathlib.Path({str(tmp_path)!r})).start()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        pid = int(owner.stdout.readline())
        assert alive(pid)
        owner.kill()
    until(lambda: not alive(pid))

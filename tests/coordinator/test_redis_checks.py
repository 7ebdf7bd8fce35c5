"""What makes a Redis unfit, and that each message tells the way out."""

from __future__ import annotations

from typing import Any

import pytest

from runfold_coordinator.redis_checks import (
    RedisConfigurationError,
    RedisUnavailableError,
    check_info,
    check_redis,
    parse_version,
    redact,
)

FIT: dict[str, Any] = {
    "redis_version": "7.0.15",
    "redis_mode": "standalone",
    "role": "master",
    "maxmemory_policy": "noeviction",
}


def test_a_fit_server_gives_its_facts() -> None:
    facts = check_info({**FIT, "maxmemory": 5, "aof_enabled": 1}, "redis://h")
    assert (facts.version, facts.policy, facts.max_memory_bytes, facts.aof) == (
        "7.0.15",
        "noeviction",
        5,
        True,
    )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"redis_version": "6.0.9"}, "6.2"),
        ({"maxmemory_policy": "allkeys-lru"}, "CONFIG SET maxmemory-policy noeviction"),
        ({"redis_mode": "cluster"}, "cluster"),
        ({"role": "slave", "master_host": "db1", "master_port": 6379}, "db1:6379"),
    ],
)
def test_an_unfit_server_is_refused_with_the_way_out(change: dict[str, Any], word: str) -> None:
    with pytest.raises(RedisConfigurationError, match=word):
        check_info({**FIT, **change}, "redis://h")


def test_valkey_is_judged_by_its_own_version() -> None:
    info = {**FIT, "redis_version": "7.2.4", "valkey_version": "8.1.0", "server_name": "valkey"}
    facts = check_info(info, "redis://h")
    assert (facts.product, facts.version) == ("valkey", "8.1.0")


def test_versions_compare_as_numbers() -> None:
    assert parse_version("6.2.14") > parse_version("6.2.9")
    assert parse_version("8.0-rc1") == (8,)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@h:1/0", "redis://h:1/0"),
        ("rediss://user:p%40ss@h", "rediss://h"),
        ("unix://:secret@/run/r.sock?db=0", "unix:///run/r.sock?db=0"),
        ("redis://h", "redis://h"),
    ],
)
def test_a_shown_address_carries_no_secret(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(RedisConfigurationError, match="redis://host"):
        check_redis("http://h:80")


def test_a_silent_server_is_unavailable() -> None:
    with pytest.raises(RedisUnavailableError, match="does not answer"):
        check_redis("redis://:secret@127.0.0.1:1", timeout_s=0.2)

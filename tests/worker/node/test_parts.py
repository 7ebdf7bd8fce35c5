"""The small pure parts: back-off, reactions, pace, heartbeats, settings, retention."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from runfold.node import retention
from runfold.node.back_off import BackOff
from runfold.node.failures import Reaction, back_off_for, http_reaction, redis_reaction
from runfold.node.heartbeat import Heartbeats, NodeIdentity, WriterNews
from runfold.node.pace import LARGEST_BUDGET_BYTES, SMALLEST_BUDGET_BYTES, Pace
from runfold.node.settings import NodeSettings, public_url, target_of
from runfold.protocol.streams import Heartbeat


def test_waits_double_up_to_the_longest_and_start_anew_after_a_success():
    back_off = BackOff(0.1, 1.0, spread=lambda: 1.0)
    assert [round(back_off.fail(), 3) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    back_off.succeed()
    assert back_off.fail() == pytest.approx(0.1)


def test_jitter_keeps_at_least_half_of_the_wait():
    assert BackOff(1.0, 1.0, spread=lambda: 0.0).fail() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("reply", "reaction"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", Reaction.BACK_PRESSURE),
        ("LOADING Redis is loading the dataset in memory", Reaction.WAIT),
        ("BUSY Redis is busy running a script", Reaction.WAIT),
        ("MISCONF Redis is configured to save RDB snapshots", Reaction.WAIT),
        ("CLUSTERDOWN The cluster is down", Reaction.WAIT),
        ("READONLY You can't write against a read only replica.", Reaction.RESOLVE),
        ("MOVED 3999 127.0.0.1:6381", Reaction.RESOLVE),
        ("NOPERM this user has no permissions", Reaction.REFUSED),
        ("NOAUTH Authentication required.", Reaction.REFUSED),
        ("WRONGPASS invalid username-password pair", Reaction.REFUSED),
        ("WRONGTYPE Operation against a key", Reaction.REFUSED),
        ("ERR something that nobody has seen before", Reaction.RETRY),
        ("", Reaction.RETRY),
    ],
)
def test_every_redis_error_has_a_reaction_and_none_drops(reply: str, reaction: Reaction):
    assert redis_reaction(reply) is reaction
    assert back_off_for(reaction).fail() > 0


@pytest.mark.parametrize(
    ("status", "reaction"),
    [
        (401, Reaction.REFUSED),
        (404, Reaction.RESOLVE),
        (429, Reaction.BACK_PRESSURE),
        (500, Reaction.WAIT),
        (503, Reaction.WAIT),
        (418, Reaction.RETRY),
    ],
)
def test_every_http_status_has_a_reaction(status: int, reaction: Reaction):
    assert http_reaction(status) is reaction


def test_a_slow_link_gets_smaller_rounds_and_longer_waits():
    pace = Pace()
    before = pace.budget_bytes
    for _ in range(6):
        pace.timed_out()
    assert pace.budget_bytes < before / 10
    assert pace.wait_s(SMALLEST_BUDGET_BYTES) > 5.0
    for _ in range(40):
        pace.succeeded(SMALLEST_BUDGET_BYTES, 0.001)
    assert pace.budget_bytes == LARGEST_BUDGET_BYTES


def test_a_dead_link_is_noticed_within_seconds_at_first():
    assert Pace().wait_s(0) < 2.0
    assert Pace().wait_s(1_000_000) < 2.5


W = b"w" * 16


def heartbeats() -> Heartbeats:
    return Heartbeats(NodeIdentity("n", "h", "b"), interval_s=5.0)


def test_heartbeats_are_due_at_the_interval_and_sooner_when_something_happened():
    beats = heartbeats()
    assert beats.is_due(0.0)
    beats.sent(0.0)
    assert not beats.is_due(4.9) and beats.is_due(5.0)
    assert beats.due_in_s(4.0) == pytest.approx(1.0)
    beats.hurry()
    assert beats.is_due(0.1) and not beats.is_due(0.01)
    beats.sent(0.1)
    assert not beats.is_due(5.0)


def test_one_record_speaks_for_all_writers_of_a_partition():
    news = [WriterNews(W, 0, 7, True), WriterNews(b"x" * 16, 2, 8, None), WriterNews(b"y" * 16, 0, 9, False)]
    packed = heartbeats().pack(news, 12.5)
    assert [partition for partition, _ in packed] == [0, 2]
    first = Heartbeat.unpack(packed[0][1])
    assert (first.node, first.unix_s, first.interval_s) == ("n", 12.5, 5.0)
    assert [(beat.head_seq, beat.alive) for beat in first.writers] == [(7, True), (9, False)]
    assert Heartbeat.unpack(packed[1][1]).writers[0].alive is None


def test_tens_of_thousands_of_writers_are_split():
    news = [WriterNews(n.to_bytes(16, "big"), 0, 1, True) for n in range(25_000)]
    packed = heartbeats().pack(news, 0.0)
    assert len(packed) == 3
    assert sum(len(Heartbeat.unpack(message).writers) for _, message in packed) == 25_000


def test_settings_survive_the_environment_and_hide_their_secrets():
    env = {
        "RUNFOLD_DIR": "/d",
        "RUNFOLD_URL": "http://h:1",
        "RUNFOLD_API_KEY": "secret-key",
        "RUNFOLD_REDIS_URL": "redis://:secret-pw@h:2",
        "RUNFOLD_AGENT_IDLE_S": "7.5",
        "RUNFOLD_WINDOW_BYTES": "1000",
    }
    settings = NodeSettings.from_env(env)
    assert (settings.idle_exit_s, settings.window_bytes) == (7.5, 1000)
    assert settings.target_dir == Path("/d/spool") / settings.target
    assert NodeSettings.from_env(settings.to_env()) == settings
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("RUNFOLD_AGENT", "x"), ("RUNFOLD_HEARTBEAT_S", "-1"), ("RUNFOLD_HEARTBEAT_S", "a")],
)
def test_a_wrong_variable_is_named(variable: str, value: str):
    with pytest.raises(ValueError, match=variable):
        NodeSettings.from_env({variable: value})


def test_targets_go_by_address_and_not_by_password():
    assert target_of(None, None) == "local"
    assert target_of("http://Host:1/", None) == target_of("http://host:1", "redis://elsewhere")
    assert target_of(None, "redis://:a@h:1") == target_of(None, "redis://:b@h:1")
    assert target_of("http://a", None) != target_of("http://b", None)
    assert public_url("https://me:pw@Host:1/x/?token=1") == "https://host:1/x"


def held(n: int, age_s: float, size: int) -> retention.HeldSpool:
    return retention.HeldSpool(bytes([n]) * 16, Path(str(n)), 1000.0 - age_s, size)


def test_retention_lets_old_spools_go_and_then_the_oldest_until_the_rest_fits():
    spools = [held(1, 10, 60), held(2, 5000, 1), held(3, 20, 60), held(4, 30, 60)]
    chosen = retention.choose(spools, now_unix_s=1000.0, keep_s=3600.0, keep_bytes=130)
    assert [one.directory.name for one in chosen] == ["2", "4"]
    assert retention.choose(spools, now_unix_s=1000.0, keep_s=1e9, keep_bytes=10**9) == []


def test_a_removal_that_was_interrupted_is_finished_later(tmp_path: Path):
    spool = tmp_path / "aa"
    spool.mkdir()
    (spool / "x").write_text("x")
    assert retention.remove(spool)
    assert list(tmp_path.iterdir()) == []
    left = tmp_path / ".bb.removed"
    left.mkdir()
    retention.remove_leftovers(tmp_path)
    assert not left.exists()


@pytest.mark.parametrize(
    ("total_mb", "free_mb", "full"), [(8, 0.5, True), (8, 4, False), (10**6, 100, True), (10**6, 200, False)]
)
def test_a_disk_is_nearly_full_by_share_when_small_and_by_bytes_when_large(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, total_mb: float, free_mb: float, full: bool
) -> None:
    about = SimpleNamespace(f_frsize=1024, f_blocks=int(total_mb * 1024), f_bavail=int(free_mb * 1024))
    monkeypatch.setattr(retention.os, "statvfs", lambda _: about)

    assert retention.is_nearly_full(tmp_path) is full

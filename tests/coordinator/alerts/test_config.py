"""The alerts file: what is wrong in it is named, secrets are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runfold_coordinator.alerts.config import AlertsConfigError, load_config
from runfold_coordinator.alerts.config_file import ConfigFile

RECEIVER = '[[receiver]]\nname = "ops"\nkind = "webhook"\nurl = "https://example.com/x"\n'


def load(tmp_path: Path, text: str, **environ: str):
    file = tmp_path / "alerts.toml"
    file.write_text(text)
    return load_config(file, environ)


def rule(when: str, more: str = "") -> str:
    return f'{RECEIVER}[[rule]]\nname = "r"\nreceivers = ["ops"]\nwhen = {when}\n{more}\n'


def test_a_file_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, rule('{ state = "failed", project = "^llm" }', "level = 'ERROR'"))
    assert config.rule[0].when.state == ("failed",)
    assert (config.rule[0].level, config.rule[0].wait_duration_s) == ("ERROR", 60.0)
    receiver = config.find_receiver("ops")
    assert receiver is not None and not receiver.allow_http and not receiver.allow_private


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[receiver", "no TOML"),
        ("[[receivers]]\nname = 'x'", "receivers"),
        ('[[receiver]]\nname = "ops"\nkind = "webhook"', "receiver[0] (of 'ops'): url"),
        ('[[receiver]]\nname = "ops"\nkind = "webhook"\nurl = "http://example.com"', "allow_http"),
        ('[[receiver]]\nname = "ops"\nkind = "webhook"\nurl = "ftp://example.com"', "https:// only"),
        ('[[receiver]]\nname = "ops"\nkind = "webhook"\nurl = "https://u:hunter2@example.com"', "no user"),
        ('[[receiver]]\nname = "ops"\nkind = "webhook"\nurl_env = "NOT_SET"', "receiver[0].url_env"),
        ('[[receiver]]\nname = "ops"\nkind = "command"\ncommand = "rm -rf"', "receiver[0].command"),
        ('[[receiver]]\nname = "ops"\nkind = "command"\ncommand = []', "command"),
        (RECEIVER + 'allow_htp = true', "receiver[0].allow_htp"),
        (RECEIVER + "timeout_s = 0", "receiver[0].timeout_s"),
        (RECEIVER + RECEIVER, "given twice"),
        (rule('{ state = "exploded" }'), "rule[0].when.state[0]"),
        (rule('{ state = "failed", stalled = true }'), "state and stalled"),
        (rule("{ project = 'x' }"), "none"),
        (rule('{ stalled = true, project = "(a" }'), "rule[0].when.project"),
        (rule('{ metric = "loss", op = ">" }'), "op and value"),
        (rule('{ metric = "loss" }'), "metric"),
        (rule('{ stalled = true, op = ">", value = 1 }'), "need a metric"),
        (rule("{ stalled = true }", 'text = "{run.__class__}"'), "rule[0].text"),
        (rule("{ stalled = true }", 'text = "{run!r}"'), "rule[0].text"),
        (rule("{ stalled = true }").replace('["ops"]', '["nobody"]'), "nobody"),
        (rule("{ stalled = true }").replace('"r"', '"run"'), "Run.alert()"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(AlertsConfigError) as caught:
        load(tmp_path, text)
    assert named in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_secrets_come_from_the_environment_and_never_show(tmp_path: Path) -> None:
    text = '[[receiver]]\nname = "ops"\nkind = "slack"\nurl_env = "HOOK"\nsecret_env = "KEY"\n'
    config = load(tmp_path, text, HOOK="https://hooks.example.com/hunter2", KEY="hunter3")
    assert config.receiver[0].url is not None
    assert config.receiver[0].url.get_secret_value().endswith("hunter2")
    assert "hunter" not in repr(config)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AlertsConfigError, match=r"alerts\.toml: No such file"):
        load_config(tmp_path / "alerts.toml", {})


def test_a_file_that_becomes_wrong_leaves_the_last_good_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(RECEIVER)
    file = ConfigFile(path, {})
    assert not file.refresh()
    path.write_text("[[receiver]]\n")
    assert not file.refresh() and not file.refresh()
    assert [receiver.name for receiver in file.current.receiver] == ["ops"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    path.write_text(RECEIVER.replace("ops", "others"))
    os.utime(path, ns=(1, 1))
    assert file.refresh()
    assert [receiver.name for receiver in file.current.receiver] == ["others"]
    path.unlink()
    assert not file.refresh()
    assert file.current.receiver


def test_without_a_file_there_is_nobody_to_tell() -> None:
    file = ConfigFile(None, {})
    assert not file.refresh() and file.current.receiver == ()

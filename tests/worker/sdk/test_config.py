"""run.config: what may change, what is stored, where it comes from."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import enum
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runfold
from runfold.config import Config, ConfigStatic
from runfold.config_values import convert
from runfold.errors import ConfigError
from runfold.protocol.records import RecordKind
from support.spooled import Spooled

Read = Callable[[], Spooled]


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int = 1


class BrokenText:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (math.nan, None),
        ((1, 2), [1, 2]),
        (range(3), [0, 1, 2]),
        ({1}, [1]),
        (Color.RED, "RED"),
        (Point(), {"x": 1}),
        (b"text", "text"),
        (slice(1, 2), {"slice_start": 1, "slice_step": None, "slice_stop": 2}),
        (2**100, 2**100),
        (datetime.datetime(2024, 1, 1), "2024-01-01T00:00:00"),
        (datetime.timedelta(seconds=90), "0:01:30"),
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        (np.zeros(40), str(np.zeros(40))),
        (Path("a/b"), "a/b"),
        (len, "builtins.len"),
        (Point, f"{__name__}.Point"),
        (collections.deque([1, 2]), [1, 2]),
        (BrokenText(), "<BrokenText>"),
        ({1: (2,)}, {"1": [2]}),
    ],
)
def test_values_are_kept_plain(value: Any, kept: Any) -> None:
    assert convert(value) == kept


def test_things_to_log_are_no_config_values(run: runfold.Run) -> None:
    with pytest.raises(TypeError):
        run.config["h"] = runfold.Histogram([1, 2, 3])
    assert "h" not in run.config


def test_a_dict_that_contains_itself_ends_as_text() -> None:
    circle: dict[str, Any] = {}
    circle["c"] = circle
    assert "c" in convert(circle)


def test_a_value_may_change_only_when_asked() -> None:
    config = Config()
    config.update({"a": 1, "n": {"x": 1, "y": 2}})
    config.update({"a": 1})
    changes: list[Callable[[], None]] = [
        lambda: config.update({"a": 2}),
        lambda: config.__setitem__("a", 2),
        lambda: setattr(config, "a", 2),
        lambda: config.update({"n": {"x": 5}}),
        lambda: config.update({"new": 1, "a": 2}),
    ]
    for change in changes:
        with pytest.raises(ConfigError, match="Attempted to change value of key"):
            change()
    assert "new" not in config
    config.update({"a": 2, "n": {"x": 5}}, allow_val_change=True)
    assert config.as_dict() == {"a": 2, "n": {"x": 5}}


def test_reading() -> None:
    config = Config()
    config.update({"--lr": 0.1, "_hidden": 1, "a.b/c": 2})
    assert config.keys() == ["lr", "a.b/c"]
    assert dict(config) == {"lr": 0.1, "a.b/c": 2}
    assert sorted(config) == ["_hidden", "_wandb", "a.b/c", "lr"]
    assert config.lr == 0.1
    assert config["_hidden"] == 1
    assert config.get("zz", 3) == 3
    with pytest.raises(KeyError):
        config["zz"]
    with pytest.raises(AttributeError):
        _ = config.zz
    with pytest.raises(TypeError):
        len(config)
    with pytest.raises(AttributeError):
        config.update({1: 2})


def test_setdefaults_adds_what_is_missing() -> None:
    config = Config()
    config.update({"a": 1})
    config.setdefaults({"a": 5, "--b": 6})
    assert config.as_dict() == {"a": 1, "b": 6}


def test_locked_keys_stay(capsys: pytest.CaptureFixture[str]) -> None:
    config = Config()
    config.update({"a": 1, "b": {"x": 1, "y": 2}})
    config.update_locked({"a": 10}, user="sweep", _allow_val_change=True)
    config.update({"a": 11, "c": 1}, allow_val_change=True)
    assert config.as_dict() == {"a": 10, "b": {"x": 1, "y": 2}, "c": 1}
    assert "was locked by 'sweep'" in capsys.readouterr().err
    config.merge_locked({"b": {"x": 5}}, user="sweep", _allow_val_change=True)
    assert config["b"] == {"x": 5, "y": 2}


def test_a_static_copy_is_read_only_and_does_not_follow(run: runfold.Run) -> None:
    run.config.update({"a": 1})
    static = run.config_static
    run.config["later"] = 1
    assert isinstance(static, ConfigStatic)
    assert dict(static) == {"a": 1}
    changes: list[Callable[[], None]] = [lambda: setattr(static, "a", 2), lambda: static.__setitem__("a", 2)]
    for change in changes:
        with pytest.raises(AttributeError, match="readonly"):
            change()


def test_changes_are_stored_whole_and_without_secrets(spool: Read) -> None:
    run = runfold.init(project="p", config={"lr": 0.1, "hf_token": "hf_abcdefghijklmnop"})
    run.config.update({"n": {"a": 1, "password": "sekrit"}, "url": "redis://me:pw@host/1"})
    found = spool()
    assert found.identity.config["lr"] == 0.1
    assert found.identity.config["hf_token"] == "[redacted]"
    (change,) = found.payloads(RecordKind.CONFIG)
    assert change.set == {"n": {"a": 1, "password": "[redacted]"}, "url": "redis://[redacted]@host/1"}
    assert run.config["n"]["password"] == "sekrit"


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("lr:\n  value: 0.5\n  desc: d\nplain: 3\n")
    (tmp_path / "config-defaults.yaml").write_text("wandb_version: 1\nlr:\n  value: 0.1\nm:\n  value: 3\n")
    assert runfold.init(config="c.yaml").config.as_dict() == {"lr": 0.5, "plain": 3, "m": 3}
    first = runfold.run
    assert first is not None
    copied = runfold.init(config=first.config, reinit="create_new")
    assert copied.config.as_dict() == first.config.as_dict()
    spaced = runfold.init(config=argparse.Namespace(a=1), reinit="create_new")
    assert spaced.config["a"] == 1
    with pytest.raises(TypeError, match="must be a dict or have a __dict__"):
        runfold.init(config=5, reinit="create_new")
    with pytest.raises(ConfigError):
        runfold.init(config="missing.yaml", reinit="create_new")


def test_include_and_exclude_exclude_each_other() -> None:
    with pytest.raises(runfold.UsageError):
        runfold.init(config={"a": 1}, config_include_keys=["a"], config_exclude_keys=["a"])
    run = runfold.init(config={"a": 1, "b": 2}, config_exclude_keys=["a"])
    assert run.config.as_dict() == {"b": 2}


def test_pinned_keys_are_stored_under_the_reserved_key(run: runfold.Run, spool: Read) -> None:
    run.pin_config_keys(["a"])
    run.pin_config_keys(("b", "c"))
    assert spool().payloads(RecordKind.CONFIG)[-1].set == {"_wandb": {"pinned_keys": ["b", "c"]}}


def test_a_finished_run_takes_no_config(run: runfold.Run) -> None:
    run.finish()
    with pytest.raises(runfold.UsageError, match="_config_callback"):
        run.config["a"] = 1
    assert "a" not in run.config


def test_what_was_changed_in_place_is_stored_again(run: runfold.Run, spool: Read) -> None:
    run.config.net = {"layers": 1}
    run.config.net["layers"] = 2
    run.config.persist()
    assert spool().payloads(RecordKind.CONFIG)[-1].set["net"] == {"layers": 2}

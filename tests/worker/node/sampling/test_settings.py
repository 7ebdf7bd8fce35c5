"""How often a process is sampled: what its settings and variables say, and what reaches the agent of the node."""

from __future__ import annotations

from typing import Any

import pytest

from runfold.errors import UsageError, ValidationError
from runfold.joining import Joiner
from runfold.node.settings import NodeSettings
from runfold.node.start import _environment
from runfold.settings import Settings


def interval(environ: dict[str, str], **settings: Any) -> float | None:
    resolved = Settings.resolved({}, Settings(**settings), environ)
    membership = Joiner().join(resolved, environ, arguments={}, fold=None, mode_said=False)
    return membership.identity.stats_interval_s


@pytest.mark.parametrize(
    ("environ", "settings", "found"),
    [
        ({}, {}, None),
        ({"RUNFOLD_STATS": "0"}, {}, 0),
        ({"RUNFOLD_STATS": "Off"}, {"x_stats_sampling_interval": 5}, 0),
        ({"RUNFOLD_STATS": "1"}, {}, None),
        ({"RUNFOLD_STATS_INTERVAL_S": "3"}, {}, 3),
        ({"RUNFOLD_STATS_INTERVAL_S": "0"}, {}, 0),
        ({"RUNFOLD_STATS_INTERVAL_S": "3"}, {"x_stats_sampling_interval": 5}, 5),
        ({"RUNFOLD_STATS_INTERVAL_S": "often"}, {}, None),
        ({}, {"x_disable_stats": True}, 0),
        ({"WANDB__DISABLE_STATS": "true"}, {}, 0),
        ({"WANDB__STATS_SAMPLING_INTERVAL": "2.5"}, {}, 2.5),
        ({"RUNFOLD_X_DISABLE_STATS": "false", "WANDB__DISABLE_STATS": "true"}, {}, None),
    ],
)
def test_a_run_says_how_often_it_is_sampled(
    environ: dict[str, str], settings: dict[str, Any], found: float | None, recwarn: pytest.WarningsRecorder
):
    assert interval(environ, **settings) == found


def test_what_is_no_interval_is_refused():
    for wrong in (-1, "often"):
        with pytest.raises(ValidationError):
            Settings(x_stats_sampling_interval=wrong)


def test_an_agent_that_a_run_starts_samples_for_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RUNFOLD_STATS", "0")
    settings = NodeSettings.from_env({"RUNFOLD_STATS": "0", "RUNFOLD_STATS_INTERVAL_S": "0"})
    assert not settings.stats
    again = NodeSettings.from_env(_environment(settings))
    assert (again.stats, again.stats_interval_s) == (True, 10)


def test_nobody_writes_where_agents_keep_their_nodes():
    with pytest.raises(UsageError, match="kept for what agents say"):
        Settings(entity="_nodes")

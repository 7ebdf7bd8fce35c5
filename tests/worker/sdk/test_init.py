"""init(): modes, earlier runs, what is there before it."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runfold as wandb
from support.spooled import Spooled


def test_before_init() -> None:
    wandb.finish()
    assert wandb.run is None
    calls: list[Callable[[], Any]] = [
        lambda: wandb.log({"a": 1}),
        lambda: wandb.define_metric("x"),
        lambda: wandb.save("x"),
        lambda: wandb.alert("t", "x"),
        lambda: wandb.config["a"],
        lambda: wandb.config.__setitem__("a", 1),
        lambda: wandb.config.update({}),
        lambda: setattr(wandb.summary, "a", 1),
        lambda: wandb.summary["a"],
    ]
    for call in calls:
        with pytest.raises(wandb.Error, match=r"You must call wandb\.init\(\) before wandb\."):
            call()


def test_module_names_follow_the_current_run() -> None:
    run = wandb.init(project="p", config={"a": 1})
    assert (wandb.run, wandb.config, wandb.summary) == (run, run.config, run.summary)
    wandb.finish()
    assert wandb.run is None
    with pytest.raises(wandb.Error):
        wandb.config["a"]


def test_a_second_init_returns_the_active_run(capsys: pytest.CaptureFixture[str]) -> None:
    first = wandb.init(project="p")
    assert wandb.init(project="q", config={1: 2}) is first
    assert wandb.init(reinit=False) is first
    assert "Using a boolean value for 'reinit' is deprecated" in capsys.readouterr().err


@pytest.mark.parametrize("reinit", ["finish_previous", True])
def test_previous_runs_are_finished_when_asked(reinit: Any) -> None:
    first = wandb.init(project="p")
    second = wandb.init(project="p", reinit=reinit)
    assert second is not first
    assert wandb.run is second
    with pytest.raises(wandb.UsageError):
        first.log({"a": 1})


def test_in_a_notebook_a_cell_can_be_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    first = wandb.init(project="p", config={"a": 1})
    first.config["a"] = 2
    assert wandb.init(project="p") is not first


def test_independent_runs_leave_the_current_one(spools: Callable[[], list[Spooled]]) -> None:
    first = wandb.init(project="p")
    second = wandb.init(project="p", reinit="create_new")
    wandb.log({"a": 1})
    second.log({"b": 2})
    assert wandb.run is first
    second.finish()
    assert wandb.run is first
    first.finish()
    assert [spooled.values for spooled in spools()] == [[{"a": 1}], [{"b": 2}]]


def test_the_newest_active_run_is_given_back_whatever_is_current() -> None:
    first = wandb.init(project="p")
    ignored = wandb.init(mode="disabled")
    assert wandb.init(project="p") is first
    assert wandb.run is ignored
    second = wandb.init(project="p", reinit="create_new")
    assert wandb.init(project="p", reinit="return_previous") is second
    second.finish()
    assert wandb.init(project="p") is first


def test_must_resume_with_an_active_run() -> None:
    wandb.init(project="p")
    with pytest.raises(wandb.Error):
        wandb.init(project="p", resume="must")


def test_resume_auto_takes_up_the_run_that_did_not_end(tmp_path: Path) -> None:
    first = wandb.init(project="p", resume="auto")
    note = tmp_path / "runfold" / "runfold-resume.json"
    assert first.id in note.read_text()
    first.finish()
    assert not note.exists()


def test_a_run_that_failed_is_taken_up_again() -> None:
    first = wandb.init(project="p", resume="auto")
    first.finish(exit_code=1)
    assert wandb.init(project="p", resume="auto").id == first.id


def test_disabled(spools: Callable[[], list[Spooled]]) -> None:
    run = wandb.init(mode="disabled", config={"a": 1})
    run.log({"x": 1, 2: 3})  # type: ignore[dict-item]  # nothing is checked
    assert dict(run.summary) == {"x": 1, 2: 3}
    assert (run.disabled, run.offline, run.step, run.url) == (True, False, 0, None)
    assert (run.entity, run.project, run.name) == ("dummy", "dummy", f"dummy-{run.id}")
    assert not run.save("x")
    run.define_metric("a*b")
    run.name = "other"
    with pytest.raises(TypeError):
        run.log(5)  # type: ignore[arg-type]  # as the test says
    with pytest.raises(wandb.Error):
        run.config["a"] = 2
    run.finish()
    run.log({"y": 2})
    assert run.summary["y"] == 2
    assert spools() == []


@pytest.mark.parametrize(("mode", "disabled"), [(None, True), ("offline", False), ("disabled", True)])
def test_what_says_disabled_gives_way_to_a_mode(
    mode: str | None, disabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNFOLD_MODE", raising=False)
    monkeypatch.setenv("WANDB_DISABLED", "true")
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    run = wandb.init(project="p")
    assert run.disabled == disabled
    run.finish()


def test_a_disabled_run_stays_disabled_in_another_process(spools: Callable[[], list[Spooled]]) -> None:
    run = wandb.init(mode="disabled", config={"a": 1})
    copied = pickle.loads(pickle.dumps(run))
    copied.log({"x": 1})
    assert copied.disabled
    assert copied.config["a"] == 1
    assert spools() == []


def test_tags_are_split_as_python_splits_a_str() -> None:
    assert wandb.init(project="p", tags="abc").tags == ("a", "b", "c")


def test_shared_offline(spool: Callable[[], Spooled]) -> None:
    run = wandb.init(
        project="p",
        id="sh",
        mode="shared",
        settings=wandb.Settings(x_label="rank1", x_primary=False, x_update_finish_state=False),
    )
    run.log({"a": 1}, step=5)
    assert (run.step, run.settings.x_label, run.offline) == (5, "rank1", True)
    identity = spool().identity
    assert (identity.mode, identity.label, identity.primary, identity.update_finish_state) == (
        "shared",
        "rank1",
        False,
        False,
    )


def test_ignored_features_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    wandb.init(project="p", sync_tensorboard=True, save_code=True, force=True, anonymous="allow")
    assert "sync_tensorboard" in capsys.readouterr().err


def test_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.init(project="p").finish()
    assert capsys.readouterr().err == ""


def test_names_of_the_module() -> None:
    assert wandb.login() is True
    wandb.setup()
    wandb.require("core")
    assert len(wandb.util.generate_id()) == 8
    assert wandb.__version__
    assert wandb.errors.UsageError is wandb.UsageError
    assert wandb.Api is not None
    with pytest.raises(AttributeError):
        _ = wandb.nothing
    assert sorted(wandb.__all__) == wandb.__all__
    assert all(hasattr(wandb, name) for name in wandb.__all__)

"""Which run a process joins, and as which writer."""

from __future__ import annotations

from typing import Any

import pytest

from runfold.joining import Joiner, Membership, as_child, default_project
from runfold.naming import readable_name
from runfold.node.settings import OFFLINE_TARGET
from runfold.settings import Settings

TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "TORCHELASTIC_RUN_ID": "job-17",
    "TORCHELASTIC_RESTART_COUNT": "0",
}


def join(environ: dict[str, str], joiner: Joiner | None = None, **arguments: Any) -> Membership:
    settings = Settings.resolved({"project": "p", **arguments}, None, environ)
    return (joiner or Joiner()).join(
        settings,
        environ,
        arguments=arguments,
        fold=None,
        mode_said=settings.mode in ("online", "run", "shared"),
    )


def test_alone_each_init_is_a_new_run() -> None:
    first, second = join({}).identity, join({}).identity
    assert first.run_id != second.run_id
    assert (first.mode, first.rank, first.label, first.entity) == ("grouped", None, None, "local")
    assert first.name == readable_name(first.run_id)


def test_ranks_of_one_job_join_one_shared_run_alone() -> None:
    ranks = [join({**TORCHRUN, "RANK": str(rank)}).identity for rank in range(2)]
    assert ranks[0].run_id == ranks[1].run_id
    assert [(r.mode, r.rank, r.label) for r in ranks] == [("shared", 0, "rank0"), ("shared", 1, "rank1")]
    assert ranks[0].name == ranks[1].name


def test_a_relaunch_of_the_job_is_the_same_run() -> None:
    again = {**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "1"}
    assert join(TORCHRUN).identity.run_id == join(again).identity.run_id
    assert join(again).identity.launcher.restart_hint == 1


def test_the_second_run_of_a_job_is_another_one_for_all_ranks() -> None:
    by_rank = []
    for rank in range(2):
        joiner = Joiner()
        environ = {**TORCHRUN, "RANK": str(rank)}
        by_rank.append([join(environ, joiner).identity.run_id for _ in range(2)])
    assert by_rank[0] == by_rank[1]
    assert by_rank[0][0] != by_rank[0][1]


def test_projects_and_jobs_are_told_apart() -> None:
    ids = {
        join(TORCHRUN).identity.run_id,
        join(TORCHRUN, project="q").identity.run_id,
        join({**TORCHRUN, "TORCHELASTIC_RUN_ID": "job-18"}).identity.run_id,
    }
    assert len(ids) == 3


@pytest.mark.parametrize("arguments", [{"run_group": "g"}, {"mode": "online"}])
def test_a_group_or_a_mode_makes_one_run_a_rank_with_a_stable_id(arguments: dict[str, Any]) -> None:
    ranks = [join({**TORCHRUN, "RANK": str(rank)}, **arguments).identity for rank in (0, 1, 1)]
    assert [r.mode for r in ranks] == ["grouped"] * 3
    assert ranks[0].run_id != ranks[1].run_id == ranks[2].run_id


def test_an_id_by_argument_is_taken_as_it_is() -> None:
    identity = join(TORCHRUN, run_id="mine").identity
    assert (identity.run_id, identity.mode) == ("mine", "grouped")


def test_an_id_from_the_environment_names_one_run_for_all_ranks() -> None:
    identity = join({**TORCHRUN, "RUNFOLD_RUN_ID": "ours"}).identity
    assert (identity.run_id, identity.mode, identity.label) == ("ours", "shared", "rank1")


def test_offline_says_where_to_and_not_who_writes() -> None:
    membership = join({**TORCHRUN, "RUNFOLD_MODE": "offline"})
    assert membership.identity.mode == "shared"
    assert membership.is_offline
    assert membership.node.target == OFFLINE_TARGET


def test_a_world_of_one_is_alone() -> None:
    assert join({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}).identity.mode == "grouped"


def test_shared_without_a_launcher_is_labelled_by_host() -> None:
    first, second = (join({}, run_id="r", mode="shared").identity for _ in range(2))
    assert first.label is not None
    assert first.label != second.label
    assert join({}, run_id="r", mode="shared", x_label="mine", x_primary=True).identity.label == "mine"


def test_unknown_nodes_make_a_run_each_and_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {**TORCHRUN, "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "none"}
    assert join(environ).identity.mode == "shared"
    assert "RUNFOLD_RUN_ID" in capsys.readouterr().err


def test_targets_follow_the_server() -> None:
    local = join({"RUNFOLD_MODE": "online"}).node
    remote = join({"RUNFOLD_MODE": "online", "RUNFOLD_URL": "http://h:1"}).node
    assert local.target == "local"
    assert remote.target not in ("local", "offline")
    assert remote.url == "http://h:1"


def test_a_child_is_a_writer_of_its_own_without_the_parents_rank() -> None:
    parent = join(TORCHRUN).identity
    child = as_child(parent, TORCHRUN, Settings(), rank_before="1")
    assert (child.run_id, child.rank, child.update_finish_state, child.primary) == (
        parent.run_id,
        None,
        False,
        False,
    )
    assert child.label is not None
    assert child.label.startswith("rank1-child-")
    ranked = as_child(parent, {**TORCHRUN, "RANK": "0"}, Settings(), rank_before="1")
    assert (ranked.rank, ranked.label) == (0, "rank0")


def test_the_default_project_is_the_repository(tmp_path: Any) -> None:
    assert default_project(tmp_path) == "uncategorized"
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / "a" / "b").mkdir(parents=True)
    assert default_project(tmp_path / "repo") == "repo"
    assert default_project(tmp_path / "repo" / "a" / "b") == "repo-a-b"


def test_arguments_of_the_program_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "--api-key", "sekrit"])
    assert join({}).identity.program == "train.py"

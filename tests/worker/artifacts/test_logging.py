"""log_artifact() and its like, without a server: what is said, what waits in the outbox, what is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold import Artifact
from runfold.artifacts import draft
from runfold.artifacts.errors import ArtifactFinalizedError
from runfold.protocol.file_records import ArtifactRecord
from runfold.protocol.manifest import Manifest
from runfold.protocol.records import RecordKind
from runfold.spool import SpoolReader, list_writers
from runfold.uploads.jobs import ArtifactJob
from runfold.uploads.outbox import Outbox


def jobs(tmp_path: Path) -> list[ArtifactJob]:
    found = Outbox(tmp_path / "home/spool/offline").waiting()
    return [job for job in found if isinstance(job, ArtifactJob)]


def said(tmp_path: Path) -> list[ArtifactRecord]:
    found = []
    for directory in list_writers(tmp_path / "home/spool/offline"):
        reader = SpoolReader(directory)
        seq = 1
        while (batch := reader.read(seq, max_bytes=1 << 20)) is not None:
            found += [
                ArtifactRecord.unpack(each.payload)
                for each in batch.others
                if each.kind == RecordKind.ARTIFACT
            ]
            seq = batch.hi + 1
        reader.close()
    return found


def files_of(job: ArtifactJob) -> dict[str, bytes]:
    """Return what would be uploaded, by name."""
    sources = json.loads(Path(job.sources).read_text())
    entries = Manifest.unpack(Path(job.manifest).read_bytes()).entries
    return {name: Path(sources[entry.blob]).read_bytes() for name, entry in entries.items()}


def test_a_record_is_said_and_a_job_waits_with_the_copies(run: runfold.Run, tmp_path: Path) -> None:
    Path("f").write_bytes(b"before")
    artifact = Artifact("data", "dataset", metadata={"a": 1})
    artifact.add_file("f")
    assert run.log_artifact(artifact, aliases="best", tags=["small"]) is artifact
    Path("f").write_bytes(b"after!")
    (job,), (record,) = jobs(tmp_path), said(tmp_path)
    assert files_of(job) == {"f": b"before"}
    assert (record.name, record.type, record.aliases, record.tags) == (
        "data", "dataset", ("best", "latest"), ("small",),
    )  # fmt: skip
    assert (record.size, record.count, record.finalize, record.distributed_id) == (6, 1, True, None)
    assert record.client_id == job.client_id
    assert record.digest == job.about["digest"] == artifact.digest
    assert job.about["metadata"] == {"a": 1}
    assert job.run == f"local/p/{run.id}"
    assert not list((tmp_path / "home/drafts").glob("*/*/*")), "the copies moved"
    with pytest.raises(ArtifactFinalizedError):
        artifact.add_file("f", "other")


def test_logged_again_it_is_another_draft_of_the_same_content(run: runfold.Run, tmp_path: Path) -> None:
    Path("f").write_text("x")
    artifact = Artifact("data", "dataset")
    artifact.add_file("f")
    run.log_artifact(artifact)
    run.log_artifact(artifact, aliases=["later"])
    first, second = jobs(tmp_path)
    assert first.client_id != second.client_id
    assert files_of(first) == files_of(second) == {"f": b"x"}


def test_paths_become_artifacts(run: runfold.Run, tmp_path: Path) -> None:
    Path("d").mkdir()
    Path("d/f").write_text("x")
    names = [run.log_artifact(path).name for path in ("d", Path("d/f"), f"file://{os.path.abspath('d/f')}")]
    assert names == [f"run-{run.id}-d", f"run-{run.id}-f", f"run-{run.id}-f"]
    assert {record.type for record in said(tmp_path)} == {"unspecified"}
    with pytest.raises(
        ValueError, match="path must be a file, directory or externalreference like s3://bucket/path"
    ):
        run.log_artifact("nope")
    with pytest.raises(TypeError, match=r"You must pass an instance of wandb\.Artifact"):
        run.log_artifact(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Aliases must not contain"):
        run.log_artifact("d", aliases=["a:b"])


def test_models_and_code(run: runfold.Run, tmp_path: Path) -> None:
    for name in ("train.py", "Dockerfile.gpu", "requirements.txt", "notes.md", "wandb/old.py", "s/deep.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    assert run.log_model("notes.md", name="net", aliases=["a"]) is None
    code = run.log_code()
    assert code is not None
    assert sorted(code.manifest.entries) == ["Dockerfile.gpu", "requirements.txt", "s/deep.py", "train.py"]
    assert code.name.startswith("source-p-")
    chosen = run.log_code(name="mine", include_fn=lambda path: path.endswith(".md"))
    assert chosen is not None
    assert sorted(chosen.manifest.entries) == ["notes.md"]
    assert run.log_code("wandb", include_fn=lambda path, root: False) is None
    named = run.log_code(".", name="my code")
    assert named is not None
    assert named.name == "my_code"
    assert [record.type for record in said(tmp_path)] == ["model", "code", "code", "code"]
    with pytest.raises(AssertionError, match="Do not append the entity"):
        run.link_model("train.py", "a/b")


def test_parts_need_something_to_share(run: runfold.Run, tmp_path: Path) -> None:
    Path("f").write_text("x")
    for call, word in ((run.upsert_artifact, "upsert"), (run.finish_artifact, "finish")):
        with pytest.raises(TypeError, match=f"Cannot {word} artifact unless run is in a group or"):
            call("f")
        with pytest.raises(TypeError, match="distributed_id must be text, not 3"):
            call("f", distributed_id=3)
    part = run.upsert_artifact("f", distributed_id="all")
    assert part.distributed_id == "all"
    shared = runfold.init(project="p", id="shared", mode="shared", reinit="create_new")
    shared.upsert_artifact("f")
    shared.finish_artifact("f")
    assert sorted((record.distributed_id, record.finalize) for record in said(tmp_path)) == [
        ("all", False), ("shared", False), ("shared", True),
    ]  # fmt: skip


def test_a_finished_run_logs_nothing(run: runfold.Run) -> None:
    run.finish()
    for call in (run.log_artifact, run.use_artifact, run.log_model, run.use_model, run.upsert_artifact):
        with pytest.raises(runfold.UsageError, match="is finished"):
            call("f")
    with pytest.raises(runfold.UsageError):
        run.log_code()


def test_a_disabled_run_logs_nothing_and_complains_about_nothing() -> None:
    with runfold.init(mode="disabled") as disabled:
        calls: list[Callable[..., Any]] = [
            disabled.use_artifact, disabled.upsert_artifact, disabled.finish_artifact, disabled.link_artifact,
            disabled.log_model, disabled.use_model, disabled.link_model, disabled.log_code,
        ]  # fmt: skip
        assert [call("whatever") for call in calls] == [None] * 8
        logged = disabled.log_artifact("whatever")
        assert logged.wait().name is logged
        with pytest.raises(AttributeError):
            logged.__fspath__


def test_a_full_disk_costs_the_artifact_and_nothing_else(
    run: runfold.Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    Path("f").write_text("x")
    artifact = Artifact("data", "dataset")
    artifact.add_file("f")
    monkeypatch.setattr(draft.Draft, "write_job", full)
    run.log_artifact(artifact)
    assert "can't be kept" in capsys.readouterr().err
    assert jobs(tmp_path) == []
    with pytest.raises(ValueError, match=r"could not be kept: .*No space left"):
        artifact.wait()
    run.log({"a": 1})


def _log_in_child(path: str) -> None:
    run = runfold.run
    assert run is not None
    run.log_artifact(path, name="from-child", type="dataset")
    run.finish()


def test_a_folder_of_drafts_that_is_gone_is_made_anew(run: runfold.Run, tmp_path: Path) -> None:
    Path("f").write_bytes(b"before")
    run.log_artifact("f", name="a", type="t")
    shutil.rmtree(tmp_path / "home/drafts")
    run.log_artifact("f", name="b", type="t")
    Path("f").write_bytes(b"after!")
    assert [files_of(job) for job in jobs(tmp_path)] == [{"f": b"before"}] * 2


def test_a_forked_child_logs_as_a_writer_of_its_own(run: runfold.Run, tmp_path: Path) -> None:
    Path("f").write_text("x")
    run.log_artifact("f", name="from-parent", type="dataset")
    child = multiprocessing.get_context("fork").Process(target=_log_in_child, args=("f",))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    found = {job.about["name"]: job for job in jobs(tmp_path)}
    assert set(found) == {"from-parent", "from-child"}
    assert len({job.writer for job in found.values()}) == 2
    assert files_of(found["from-child"]) == {"f": b"x"}

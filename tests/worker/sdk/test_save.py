"""Run.save: what it takes, what it returns, what it leaves to the agent."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold import saving
from runfold.protocol.file_records import FileRecord
from runfold.protocol.records import RecordKind
from runfold.uploads.jobs import FileJob, FolderJob
from runfold.uploads.outbox import Outbox
from support.spooled import Spooled


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "home/spool/offline")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("d/e/f.txt", "d/e/g.txt", "d/h.txt", "top.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def names(run: runfold.Run, found: list[str]) -> list[str]:
    """Return the places without the run's folder."""
    assert found == sorted(found)
    return [Path(place).relative_to(run.dir).as_posix() for place in found]


def file_jobs(outbox: Outbox) -> list[FileJob]:
    return [job for job in outbox.waiting() if isinstance(job, FileJob)]


def test_a_relative_path_keeps_its_folders(run: runfold.Run, tree: Path, outbox: Outbox) -> None:
    assert names(run, run.save("d/e/f.txt")) == ["d/e/f.txt"]
    link = Path(run.dir) / "d/e/f.txt"
    assert link.is_symlink()
    assert link.read_text() == "d/e/f.txt"
    (job,) = file_jobs(outbox)
    assert (job.name, job.source, job.policy) == ("d/e/f.txt", str(tree / "d/e/f.txt"), "live")
    assert job.run == f"local/p/{run.id}"


def test_a_glob_is_expanded_now(run: runfold.Run, tree: Path, outbox: Outbox) -> None:
    assert names(run, run.save("d/*/*.txt", policy="now")) == ["d/e/f.txt", "d/e/g.txt"]
    (tree / "d/e/later.txt").write_text("later")
    assert len(file_jobs(outbox)) == 2
    assert run.save("no/such/*") == []


def test_an_absolute_path_keeps_one_folder_and_says_so(
    run: runfold.Run, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert names(run, run.save(str(tree / "d/e/f.txt"))) == ["e/f.txt"]
    assert "base_path" in capsys.readouterr().err


def test_base_path_is_left_out(run: runfold.Run, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(run, run.save(tree / "d/e/*.txt", base_path=tree / "d")) == ["e/f.txt", "e/g.txt"]
    assert names(run, run.save("d/e/*.txt", "d")) == ["e/f.txt", "e/g.txt"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("glob", "base", "policy", "message"),
    [
        ("top.txt", "d", "now", "Glob may not walk above the base path"),
        ("../top.txt", None, "now", "Glob may not walk above the base path"),
        ("d", "d", "now", "Glob cannot be the same as the base path"),
        ("*", None, "now", r"Glob may not start with '\*' relative to the base path"),
        ("top.txt", None, "later", 'Only "live", "end" and "now" policies'),
    ],
)
def test_what_can_not_be_saved_is_refused(
    run: runfold.Run, tree: Path, glob: str, base: str | None, policy: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run.save(glob, base, policy)


def test_bytes_addresses_nothing_and_a_number(
    run: runfold.Run, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert names(run, run.save(b"top.txt")) == ["top.txt"]
    assert run.save() == []
    for address in ("s3://bucket/key", b"gs://bucket/key"):
        assert run.save(address) == []
        assert "cloud storage url" in capsys.readouterr().err
    with pytest.raises(TypeError):
        run.save(5)  # type: ignore[arg-type]


def test_with_glob_false_a_name_means_itself(run: runfold.Run, tree: Path) -> None:
    (tree / "a[1].txt").write_text("1")
    (tree / "a1.txt").write_text("not meant")
    assert names(run, run.save("a[1].txt", glob=False)) == ["a[1].txt"]
    assert names(run, run.save("a[1].txt")) == ["a1.txt"]


def test_a_finished_run_saves_nothing(run: runfold.Run, tree: Path) -> None:
    run.finish()
    with pytest.raises(runfold.UsageError, match="`save`"):
        run.save("top.txt")


def test_what_is_watched_already_is_not_said_again(run: runfold.Run, tree: Path, outbox: Outbox) -> None:
    for _ in range(3):
        run.save("top.txt")
        run.save("d/h.txt", policy="end")
        run.save("d/e/f.txt", policy="now")
    assert sorted(job.name for job in file_jobs(outbox)) == ["d/e/f.txt"] * 3 + ["d/h.txt", "top.txt"]


def test_what_was_saved_is_said_in_a_record(
    run: runfold.Run, tree: Path, spool: Callable[[], Spooled]
) -> None:
    run.save("top.txt", policy="end")
    run.finish()
    assert spool().payloads(RecordKind.FILE) == [FileRecord("top.txt", "end", 7)]


@pytest.mark.parametrize("broken", [("symlink_to",), ("symlink_to", "hardlink_to")])
def test_without_links_a_file_is_linked_hard_else_copied(
    run: runfold.Run, tree: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch, broken: tuple[str, ...]
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    for method in broken:
        monkeypatch.setattr(Path, method, refuse)
    run.save("top.txt")
    link = Path(run.dir) / "top.txt"
    assert not link.is_symlink()
    assert link.read_text() == "top.txt"
    (job,) = file_jobs(outbox)
    is_copy = len(broken) == 2
    assert (job.policy, Path(job.source)) == (("now", link) if is_copy else ("live", tree / "top.txt"))
    assert link.samefile(tree / "top.txt") is not is_copy


def test_folders_and_names_that_no_file_may_have_are_told(
    run: runfold.Run, tree: Path, outbox: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "d/back\\slash").write_text("x")
    assert names(run, run.save("d/*", policy="now")) == ["d/back\\slash", "d/e", "d/h.txt"]
    said = capsys.readouterr().err
    assert "is a folder and was not saved" in said
    assert "a backslash separates folders" in said
    assert [job.name for job in file_jobs(outbox)] == ["d/h.txt"]


def test_the_folder_is_looked_through_at_the_end(run: runfold.Run, outbox: Outbox) -> None:
    first, again = run.dir, run.dir
    assert first == again == os.path.join(run.sync_dir, "files")  # text is compared
    (job,) = outbox.waiting()
    assert isinstance(job, FolderJob)
    assert job.source == first
    (Path(first) / "mine.txt").write_text("x")
    run.finish()
    assert outbox.waiting() == [job]


def test_an_empty_folder_leaves_nothing_to_do(run: runfold.Run, tree: Path, outbox: Outbox) -> None:
    (Path(run.dir) / "link").symlink_to(tree / "top.txt")
    run.finish()
    assert outbox.waiting() == []


def test_what_can_not_be_noted_is_counted_and_told(
    run: runfold.Run,
    tree: Path,
    outbox: Outbox,
    spool: Callable[[], Spooled],
    capsys: pytest.CaptureFixture[str],
) -> None:
    outbox.directory.mkdir(parents=True)
    outbox.directory.rmdir()
    outbox.directory.write_text("in the way")
    run.save("top.txt")
    run.save("d/h.txt")
    status = run.status()
    assert (status.uploads, status.uploads_pending, status.uploads_failed) == (2, 0, 2)
    assert capsys.readouterr().err.count("will not be uploaded") == 1
    run.finish()
    said = spool().payloads(RecordKind.FILE)
    assert [each.name for each in said] == ["top.txt", "d/h.txt"]
    assert all("could not be left" in each.error for each in said)


def test_status_counts_and_finish_tells_of_the_end(
    run: runfold.Run, tree: Path, outbox: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    run.save("top.txt", policy="now")
    run.save("d/h.txt")
    status = run.status()
    assert (status.uploads, status.uploads_pending, status.uploads_failed) == (2, 2, 0)
    outbox.end(file_jobs(outbox)[0], error="top.txt is not there", name="top.txt")
    status = run.status()
    assert (status.uploads, status.uploads_pending, status.uploads_failed) == (2, 1, 1)
    run.finish()
    said = capsys.readouterr().err
    assert "1 files or artifacts are not uploaded yet; `runfold sync` uploads them" in said
    assert "top.txt was not uploaded: top.txt is not there" in said


def test_a_run_in_another_process_has_jobs_of_its_own(run: runfold.Run, tree: Path, outbox: Outbox) -> None:
    run.save("top.txt")
    pid = os.fork()
    if not pid:
        run.save("top.txt")
        run.save("d/h.txt")
        os._exit(0 if run.status().uploads == 2 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    writers = {(job.name, job.writer) for job in file_jobs(outbox)}
    assert len(writers) == 3
    assert len({writer for _, writer in writers}) == 2


def test_a_child_that_only_asks_for_the_folder_is_a_writer_of_its_own(
    run: runfold.Run, outbox: Outbox
) -> None:
    pid = os.fork()
    if not pid:
        os._exit(0 if Path(run.dir).is_dir() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    (job,) = outbox.waiting()
    assert run.dir
    assert len({job.writer, *(each.writer for each in outbox.waiting())}) == 2


def test_a_disabled_run_saves_nothing(tree: Path, tmp_path: Path) -> None:
    run = runfold.init(mode="disabled")
    assert run.save("top.txt") is False  # type: ignore[comparison-overlap]
    assert Path(run.dir).is_dir()
    assert run.restore("no.txt") is None
    run.finish()
    assert not (tmp_path / "home/spool/offline/uploads").exists()


def test_restore_returns_what_is_there(run: runfold.Run, tree: Path) -> None:
    run.save("top.txt")
    opened = run.restore("top.txt")
    assert opened is not None
    with opened:
        assert opened.read() == "top.txt"
    with pytest.raises(ValueError, match="a part of it is"):
        run.restore("../up.txt")
    with pytest.raises(runfold.UsageError, match="an offline run has no server"):
        run.restore("elsewhere.txt")


def test_restore_without_a_run_needs_a_path() -> None:
    with pytest.raises(ValueError, match="run_path required"):
        runfold.restore("a.txt")


def test_copies_keep_their_times(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("x")
    os.utime(source, (1e9, 1e9))
    saving.copy_file(source, tmp_path / "b")
    assert (tmp_path / "b").stat().st_mtime == 1e9

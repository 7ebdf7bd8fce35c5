"""What goes into a draft: names, policies, copies that nothing changes any more, W&B's refusals."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runfold import Artifact
from runfold.artifacts import staging
from runfold.artifacts.errors import ArtifactFinalizedError, ArtifactNotLoggedError
from runfold.artifacts.staging import Staging, _remove_left_behind
from runfold.file_copies import Summed


def md5_of(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def names(artifact: Artifact) -> list[str]:
    return sorted(artifact.manifest.entries)


def test_a_file_is_added_under_its_own_name_or_another() -> None:
    Path("f.txt").write_text("hello")
    artifact = Artifact("a", "t")
    entry = artifact.add_file("f.txt")
    assert (entry.path, entry.size, entry.digest) == ("f.txt", 5, md5_of(b"hello"))
    assert entry.ref is None
    assert artifact.add_file("f.txt", name="./sub//g.txt").path == "sub/g.txt"
    assert names(artifact) == ["f.txt", "sub/g.txt"]
    assert (artifact.size, len(artifact.manifest)) == (10, 2)
    assert artifact.get_added_local_path_name("f.txt") == "sub/g.txt"
    assert artifact.get_added_local_path_name(os.path.abspath("f.txt")) is None
    hashed = artifact.add_file("f.txt", name="x/f.tar.gz", is_tmp=True).path
    assert hashed == f"x/{hashlib.md5(b'hello').hexdigest()[:20]}.tar.gz"


def test_what_was_added_does_not_change_with_the_file() -> None:
    Path("f").write_bytes(b"before")
    artifact = Artifact("a", "t")
    artifact.add_file("f")
    Path("f").write_bytes(b"after!")
    entry = artifact.manifest.entries["f"]
    assert entry.digest == md5_of(b"before")
    assert entry.local_path is not None
    assert Path(entry.local_path).read_bytes() == b"before"


def test_an_immutable_file_is_not_copied(tmp_path: Path) -> None:
    Path("f").write_bytes(b"x" * 100)
    artifact = Artifact("a", "t")
    entry = artifact.add_file("f", policy="immutable")
    assert entry.local_path == os.path.abspath("f")
    assert not (tmp_path / "home/drafts").exists()
    with pytest.raises(
        ValueError, match=r"Invalid policy 'other'. Policy may only be `mutable` or `immutable`."
    ):
        artifact.add_file("f", policy="other")


def test_one_name_has_one_content() -> None:
    Path("f").write_bytes(b"one")
    artifact = Artifact("a", "t")
    artifact.add_file("f")
    artifact.add_file("f")
    Path("f").write_bytes(b"two")
    with pytest.raises(ValueError, match=r"^Cannot add the same path twice: 'f'$"):
        artifact.add_file("f")
    artifact.add_file("f", overwrite=True)
    assert artifact.manifest.entries["f"].digest == md5_of(b"two")


def test_a_folder_is_added_with_links_followed_and_loops_left_out(tmp_path: Path) -> None:
    for name in ("d/a", "d/s/b", "d/s/t/c", "other/x"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    Path("d/link").symlink_to(Path("other").absolute())
    Path("d/twin").symlink_to(Path("other").absolute())
    Path("d/s/loop").symlink_to(Path("d").absolute())
    Path("d/dangling").symlink_to("nowhere")
    os.mkfifo("d/pipe")
    artifact = Artifact("a", "t")
    artifact.add_dir("d")
    assert names(artifact) == ["a", "link/x", "s/b", "s/t/c", "twin/x"]
    artifact.add_dir("d/s", name="again")
    assert "again/t/c" in names(artifact)
    Path("d/a").write_text("other")
    with pytest.raises(ValueError, match="Cannot add the same path twice: 'a'"):
        artifact.add_dir("d")
    artifact.add_dir("d", merge=True)
    assert artifact.manifest.entries["a"].digest == md5_of(b"other")


def test_what_is_no_file_is_refused_in_the_clients_words() -> None:
    artifact = Artifact("a", "t")
    Path("d").mkdir()
    Path("f").write_text("")
    with pytest.raises(ValueError, match=r"^Path is not a file: 'nope'$"):
        artifact.add_file("nope")
    with pytest.raises(ValueError, match=r"^Path is not a file: 'd'$"):
        artifact.add_file("d")
    with pytest.raises(ValueError, match=r"^Path is not a directory: 'f'$"):
        artifact.add_dir("f")
    for name in ("../x", "/etc/x", "a/../../b", "a:b", ".", "bc: d/../e"):
        with pytest.raises(ValueError, match=f"^Invalid artifact path: {re.escape(repr(name))}$"):
            artifact.add_file("f", name=name)
    for name in ("a\\b", "x\0y", "x" * 300):
        with pytest.raises(ValueError, match=r"^Invalid artifact path: .*: "):
            artifact.add_file("f", name=name)
    with pytest.raises(ValueError, match=r"^Invalid artifact path: '\.\./x'$"), artifact.new_file("../x"):
        pass
    assert names(artifact) == []


def test_a_new_file_is_written_in_the_artifact() -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("s/n.txt") as file:
        file.write("héllo")
    assert artifact.manifest.entries["s/n.txt"].digest == md5_of("héllo".encode())
    with (
        pytest.raises(ValueError, match=r"File with name 's/n.txt' already exists"),
        artifact.new_file("s/n.txt"),
    ):
        pass
    with artifact.new_file("s/n.txt", mode="a") as file:
        file.write(" and more")
    assert artifact.manifest.entries["s/n.txt"].size == len("héllo and more".encode())
    with artifact.new_file("s/n.txt", mode="wb") as file:
        file.write(b"\0")
    assert artifact.manifest.entries["s/n.txt"].digest == md5_of(b"\0")
    with pytest.raises(RuntimeError), artifact.new_file("broken") as file:
        file.write("half")
        raise RuntimeError
    assert names(artifact) == ["s/n.txt"]


def test_equal_contents_are_kept_once(tmp_path: Path) -> None:
    artifact = Artifact("a", "t")
    for name in "abc":
        Path(name).write_bytes(b"same")
        artifact.add_file(name)
    copies = [
        path for path in (tmp_path / "home/drafts").rglob("*") if path.is_file() and path.stat().st_size
    ]
    assert [path.name for path in copies] == [hashlib.sha256(b"same").hexdigest()]


def test_the_digest_is_of_names_and_contents_only() -> None:
    Path("f").write_text("x")
    one, other, third = (Artifact(name, "t") for name in ("a", "b", "c"))
    one.add_file("f", "1")
    one.add_file("f", "2")
    other.add_file("f", "2", policy="immutable")
    other.add_file("f", "1")
    third.add_file("f", "1")
    assert one.digest == other.digest != third.digest
    assert one.manifest.digest() == one.digest
    assert one.manifest.get_entry_by_path("1") == other.manifest.entries["1"]
    assert len(one.manifest) == 2


def test_files_and_folders_are_removed() -> None:
    Path("f").write_text("x")
    artifact = Artifact("a", "t")
    for name in ("a", "d/b", "d/c", "dd"):
        artifact.add_file("f", name)
    artifact.remove(artifact.manifest.entries["a"])
    artifact.remove("d/")
    gone = artifact.manifest.entries["dd"]
    assert names(artifact) == ["dd"]
    with pytest.raises(FileNotFoundError, match="No such file or directory: a"):
        artifact.remove("a")
    with pytest.raises(KeyError):
        artifact.manifest.entries["a"]
    with pytest.raises(FileNotFoundError, match="Cannot remove missing entry: 'dd'"):
        for _ in range(2):
            artifact.remove(artifact.manifest.entries.get("dd") or gone)


def test_a_final_artifact_takes_no_files_and_a_draft_has_no_version() -> None:
    Path("f").write_text("x")
    artifact = Artifact("a", "t")
    for attribute in (
        "version",
        "aliases",
        "tags",
        "entity",
        "project",
        "created_at",
        "collection",
        "file_count",
        "linked_at",
    ):
        with pytest.raises(
            ArtifactNotLoggedError, match=f"'Artifact.{attribute}' used prior to logging artifact"
        ):
            getattr(artifact, attribute)
    for call in (
        artifact.download,
        artifact.logged_by,
        artifact.wait,
        artifact.files,
        artifact.verify,
        artifact.delete,
    ):
        with pytest.raises(ArtifactNotLoggedError):
            call()
    with pytest.raises(ArtifactNotLoggedError):
        artifact.aliases = ["x"]
    assert artifact.is_draft()
    assert (artifact.id, artifact.state, artifact.name) == (None, "PENDING", "a")
    artifact.finalize()
    with pytest.raises(ArtifactFinalizedError, match=r"'Artifact.add_file' used on logged artifact"):
        artifact.add_file("f")
    with pytest.raises(AttributeError), artifact.new_file("x"):
        pass
    with pytest.raises(ArtifactNotLoggedError):
        artifact.new_draft()
    assert (artifact.is_link, artifact.source_name) == (False, "a")


def test_threads_may_add_at_once() -> None:
    artifact = Artifact("a", "t")
    for number in range(80):
        Path(f"f{number}").write_text(str(number % 7))

    def add(start: int) -> None:
        for number in range(start, 80, 8):
            artifact.add_file(f"f{number}")

    threads = [threading.Thread(target=add, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(artifact.manifest) == 80


def test_copies_go_with_the_artifact(tmp_path: Path) -> None:
    Path("f").write_text("x")
    artifact = Artifact("a", "t")
    artifact.add_file("f")
    folder = Path(artifact.manifest.entries["f"].local_path or "").parent
    assert folder.is_dir()
    del artifact
    assert not folder.exists()


def test_copies_that_a_killed_process_left_are_removed(tmp_path: Path) -> None:
    program = "import os, runfold; a = runfold.Artifact('a', 't'); a.add_file('f'); print('there', flush=True); os._exit(9)"
    Path("f").write_text("x")
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    root = tmp_path / "home/drafts"
    (left,) = root.iterdir()
    alive = Staging(tmp_path / "home")
    alive.keep("f")
    _remove_left_behind(root, left.stat().st_mtime + 10)
    assert left.is_dir(), "its maker may not have locked it yet"
    _remove_left_behind(root, left.stat().st_mtime + 100)
    assert not left.exists()
    assert alive.folder.is_dir(), "its process lives"


def test_where_no_copy_can_be_kept_the_file_itself_is_promised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: int, target: int) -> Summed:
        raise OSError(28, "No space left on device")

    Path("f").write_text("x")
    monkeypatch.setattr(staging, "copy_summed", full)
    artifact = Artifact("a", "t")
    entry = artifact.add_file("f")
    assert entry.local_path == os.path.abspath("f")
    assert entry.digest == md5_of(b"x")
    assert "it must not change until it is uploaded" in capsys.readouterr().err


def test_a_file_that_grows_while_it_is_read_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("f").write_bytes(b"x" * 10)
    copy = staging.copy_summed

    def grows(source: int, target: int) -> Summed:
        with open("f", "ab") as file:
            file.write(b"y")
        return copy(source, target)

    monkeypatch.setattr(staging, "copy_summed", grows)
    artifact = Artifact("a", "t")
    entry = artifact.add_file("f")
    assert "changed while it was added" in capsys.readouterr().err
    assert entry.local_path is not None
    assert md5_of(Path(entry.local_path).read_bytes()) == entry.digest

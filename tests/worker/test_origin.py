"""What a process was started from: its command line without secrets, its repository read from files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runfold import origin
from runfold.origin import find_origin, git_facts, redact_arguments
from runfold.redact import REDACTED


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (["--lr", "0.1", "train"], ["--lr", "0.1", "train"]),
        (["--api-key", "hunter22"], ["--api-key", REDACTED]),
        (["--api-key=hunter22"], [f"--api-key={REDACTED}"]),
        (["db.password=hunter22", "opt.lr=1"], [f"db.password={REDACTED}", "opt.lr=1"]),
        (["--password", "--verbose", "x"], ["--password", "--verbose", "x"]),
        (["--use-token", "yes"], ["--use-token", "yes"]),
        (["https://ann:secret@h/x"], [f"https://{REDACTED}@h/x"]),
        (["hf_" + "a" * 30], [REDACTED]),
        (["a\udcffb"], ["a?b"]),
    ],
)
def test_secrets_of_a_command_line_are_replaced(said: list[str], shown: list[str]) -> None:
    assert redact_arguments(said) == shown


def test_a_command_line_is_bounded() -> None:
    assert len(redact_arguments(["x"] * 1000)) == origin.MAX_ARGUMENTS
    (long,) = redact_arguments(["y" * 100_000])
    assert len(long) == origin.MAX_ARGUMENT_CHARS
    assert sum(map(len, redact_arguments(["z" * 900] * 100))) <= origin.MAX_ARGUMENTS_CHARS


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, timeout=30, capture_output=True, text=True
    ).stdout.strip()


def test_a_repository_is_read_as_git_tells_it(tmp_path: Path) -> None:
    assert git_facts(tmp_path) is None
    main = tmp_path / "main"
    inside = main / "deep" / "er"
    inside.mkdir(parents=True)
    git(main, "init", "-q", "-b", "topic/x")
    assert git_facts(inside) == {"branch": "topic/x", "root": str(main)}
    git(main, "commit", "-q", "--allow-empty", "-m", "one")
    git(main, "remote", "add", "origin", "https://ann:secret@example.org/r.git")
    first = git(main, "rev-parse", "HEAD")
    remote = f"https://{REDACTED}@example.org/r.git"
    assert git_facts(inside) == {"commit": first, "branch": "topic/x", "remote": remote, "root": str(main)}
    git(main, "pack-refs", "--all")
    assert (git_facts(main) or {})["commit"] == first
    git(main, "checkout", "-q", "--detach")
    assert git_facts(main) == {"commit": first, "remote": remote, "root": str(main)}
    other = tmp_path / "other"
    git(main, "worktree", "add", "-q", "-b", "side", str(other))
    git(other, "commit", "-q", "--allow-empty", "-m", "two")
    second = git(other, "rev-parse", "HEAD")
    assert git_facts(other) == {"commit": second, "branch": "side", "remote": remote, "root": str(other)}


def test_a_repository_that_is_no_such_thing_tells_nothing(tmp_path: Path) -> None:
    folder = tmp_path / ".git"
    folder.mkdir()
    (folder / "HEAD").write_text("ref: ../../../../etc/passwd\n")
    (folder / "config").write_bytes(b"\xff\xfe[remote")
    assert git_facts(tmp_path) == {"root": str(tmp_path)}
    (folder / "HEAD").write_text("ref: refs/heads/a\n")
    (folder / "refs" / "heads").mkdir(parents=True)
    (folder / "refs" / "heads" / "a").write_text("ref: refs/heads/a\n")
    assert "commit" not in (git_facts(tmp_path) or {})


def test_what_is_known_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py", "--lr", "1"])
    found = find_origin({"USER": "ann"})
    assert (found["args"], found["username"], found["root"]) == (["--lr", "1"], "ann", str(tmp_path))
    assert "git" not in found
    assert "username" not in find_origin({}, with_git=False)

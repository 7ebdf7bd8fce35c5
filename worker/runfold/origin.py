"""What a process was started from: command line, repository, interpreter, user. Reads files, starts nothing.

In: the environment and the working directory. Out: a small dict, secrets replaced; what can't be found out
is left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runfold.redact import REDACTED, is_secret_key, redact_text

#: Most arguments kept, and characters of one and of all.
MAX_ARGUMENTS = 200
MAX_ARGUMENT_CHARS = 1000
MAX_ARGUMENTS_CHARS = 16_000
#: Of files of a repository no more is read, bytes.
MAX_GIT_FILE_BYTES = 4 * 1024 * 1024
#: Hops from one reference to the next.
_MAX_HOPS = 5


def find_origin(environ: Mapping[str, str], *, with_git: bool = True) -> dict[str, Any]:
    """Return args, executable, os, root, username and git of this process, as far as they are known.

    args: the command line after the program, secrets replaced. root: the working directory. git: commit,
    branch, remote, root.
    """
    system = os.uname()
    found: dict[str, Any] = {
        "args": redact_arguments(getattr(sys, "argv", [""])[1:]),
        "executable": sys.executable or None,
        "os": f"{system.sysname}-{system.release}-{system.machine}",
        "username": next((environ[name] for name in ("LOGNAME", "USER") if environ.get(name)), None),
    }
    try:
        folder = Path.cwd()
        found["root"] = str(folder)
        found["git"] = git_facts(folder) if with_git else None
    except OSError:
        pass  # the working directory is gone
    return {name: value for name, value in found.items() if value is not None}


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line with secrets replaced: told by the name of their option, or by their look."""
    shown: list[str] = []
    left = MAX_ARGUMENTS_CHARS
    is_secret = False
    for argument in arguments[:MAX_ARGUMENTS]:
        text = _printable(argument[: 2 * MAX_ARGUMENT_CHARS])
        name, equals, value = text.partition("=")
        if is_secret and not text.startswith("-"):
            text = REDACTED
        elif equals and value and is_secret_key(name.lstrip("-")):
            text = f"{name}={REDACTED}"
        else:
            text = redact_text(text)
        is_secret = argument.startswith("-") and not equals and is_secret_key(argument.lstrip("-"))
        text = text[:MAX_ARGUMENT_CHARS]
        if len(text) > left:
            break
        left -= len(text)
        shown.append(text)
    return shown


def git_facts(folder: Path) -> dict[str, str] | None:
    """Return commit, branch, remote and root of the repository around `folder`, read from its files."""
    place = next(_git_folders(folder), None)
    if place is None:
        return None
    root, git = place
    common = git
    if pointer := _read(git / "commondir"):  # a worktree: references and configuration lie elsewhere
        common = (git / pointer).resolve()
    head = _read(git / "HEAD") or ""
    branch = head.removeprefix("ref: refs/heads/") if head.startswith("ref: refs/heads/") else None
    found = {
        "commit": _commit(git, common, head),
        "branch": branch,
        "remote": _remote(common),
        "root": str(root),
    }
    return {name: value for name, value in found.items() if value}


def _git_folders(folder: Path) -> Iterator[tuple[Path, Path]]:
    for parent in (folder, *folder.parents):
        git = parent / ".git"
        if git.is_dir():
            yield parent, git
        elif git.is_file() and (text := _read(git)) and text.startswith("gitdir: "):
            yield parent, (parent / text.removeprefix("gitdir: ")).resolve()


def _commit(git: Path, common: Path, head: str) -> str | None:
    for _ in range(_MAX_HOPS):
        if not head.startswith("ref: "):
            return head if _is_digest(head) else None
        name = head.removeprefix("ref: ")
        if ".." in name or name.startswith("/"):
            return None
        head = _read(git / name) or _read(common / name) or _packed(common, name)
    return None


def _packed(common: Path, name: str) -> str:
    for line in (_read(common / "packed-refs") or "").splitlines():
        digest, _, said = line.partition(" ")
        if said == name:
            return digest
    return ""


def _remote(common: Path) -> str | None:
    """Return the URL of origin, credentials replaced."""
    section = ""
    for line in (_read(common / "config") or "").splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text
        elif section == '[remote "origin"]' and text.partition("=")[0].strip() == "url":
            return redact_text(text.partition("=")[2].strip())
    return None


def _is_digest(text: str) -> bool:
    return len(text) in (40, 64) and all(char in "0123456789abcdef" for char in text)


def _read(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_GIT_FILE_BYTES).strip()
    except (OSError, ValueError):
        return None


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()

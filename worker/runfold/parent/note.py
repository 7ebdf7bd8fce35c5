"""What `runfold run` knows of its child, as a file for the node's agents: parents/<pid>-<start>.json.

In and out: a ParentNote. The file is made whole or not at all, is the user's own, and holds neither command
nor environment. Any agent of the user may read it, and take from it what concerns its writers.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

FOLDER = "parents"
#: Notes that were not written for this long are removed; those of living children are written every hour.
KEPT_S = 86_400.0
#: Signals that a note can hold; of more, the last ones.
MAX_SIGNALS = 32
#: Notes that are kept; of ended children the oldest go first.
MAX_NOTES = 2000
#: Larger files are no notes of ours.
MAX_NOTE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class PassedOn:
    """A signal that came to `runfold run`. `sender_*` are None where the kernel did not name a process."""

    signum: int
    t_ns: int
    sender_pid: int | None = None
    sender_uid: int | None = None


@dataclass(frozen=True, slots=True)
class ParentNote:
    """One child. Starts are as `start_of` says them; `status` is None while the child lives."""

    pid: int
    pid_start: float | None
    parent_pid: int
    parent_start: float | None
    boot_id: str
    pid_namespace: int | None
    signals: tuple[PassedOn, ...] = ()
    #: Wait status word, and when the parent got it (unix ns).
    status: int | None = None
    ended_ns: int = 0

    def with_signal(self, signal: PassedOn) -> ParentNote:
        """Return the note with one more signal; the first of too many goes."""
        return replace(self, signals=(*self.signals, signal)[-MAX_SIGNALS:])

    def is_about(self, pid: int | None, start: float | None) -> bool:
        """Return whether the child is this process, and no other one of its pid."""
        return pid == self.pid and bool(start) and start == self.pid_start


def write_note(runfold_dir: Path, note: ParentNote) -> None:
    """Write or replace the note of a child. Raises OSError."""
    folder = runfold_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / _name(note)
    temporary = folder / f".{path.name}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(temporary, flags, 0o600), "w") as file:
            json.dump({"v": 1, **asdict(note)}, file)
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def list_notes(runfold_dir: Path) -> dict[Path, int]:
    """Return the files of notes with the time of their last change (unix ns); none without a folder."""
    try:
        with os.scandir(runfold_dir / FOLDER) as entries:
            return {
                Path(entry.path): entry.stat(follow_symlinks=False).st_mtime_ns
                for entry in entries
                if entry.name.endswith(".json") and entry.name[0] != "."
            }
    except OSError:
        return {}


def read_note(path: Path) -> ParentNote:
    """Return the note in a file. Raises OSError or ValueError: it is gone, damaged, foreign or too large."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            raise ValueError("not a file of this user")
        data = file.read(MAX_NOTE_BYTES + 1)
    if len(data) > MAX_NOTE_BYTES:
        raise ValueError("too large for a note")
    try:
        return _note_in(json.loads(data))
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no note: {error}") from error


def remove_old_notes(runfold_dir: Path, *, now_unix_s: float) -> None:
    """Remove notes that nobody wrote for a day, the oldest of too many ended ones, and halves of notes."""
    folder = runfold_dir / FOLDER
    with contextlib.suppress(OSError):
        found = sorted((path.lstat().st_mtime, path) for path in folder.iterdir())
        for number, (changed_s, path) in enumerate(found):
            is_one_of_too_many = number < len(found) - MAX_NOTES
            if changed_s < now_unix_s - KEPT_S or (is_one_of_too_many and not _may_go_on(path)):
                path.unlink(missing_ok=True)


def _may_go_on(path: Path) -> bool:
    """Return whether the child of this note may live: its parent will look for no other note."""
    try:
        return read_note(path).status is None
    except (OSError, ValueError):
        return False


def _name(note: ParentNote) -> str:
    return f"{note.pid}-{int(note.pid_start or 0)}.json"


def _note_in(found: Any) -> ParentNote:
    if found["v"] != 1:
        raise ValueError("a note of another version")
    signals = tuple(
        PassedOn(
            _int64(one["signum"]), _int64(one["t_ns"]), _whole(one["sender_pid"]), _whole(one["sender_uid"])
        )
        for one in found["signals"][-MAX_SIGNALS:]
    )
    return ParentNote(
        pid=_int64(found["pid"]),
        pid_start=_number(found["pid_start"]),
        parent_pid=_int64(found["parent_pid"]),
        parent_start=_number(found["parent_start"]),
        boot_id=str(found["boot_id"]),
        pid_namespace=_whole(found["pid_namespace"]),
        signals=signals,
        status=_whole(found["status"]),
        ended_ns=_int64(found["ended_ns"]),
    )


def _whole(value: Any) -> int | None:
    return None if value is None else _int64(value)


def _int64(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise ValueError("not a whole number of 64 bits")
    return value


def _number(value: Any) -> float | None:
    return None if value is None else float(value)

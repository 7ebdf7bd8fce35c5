"""What `runfold run` processes of this node know of their children. In: their notes. Out: notes by child."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from runfold.parent.note import FOLDER, ParentNote, list_notes, read_note

from .processes import is_alive

#: A folder that changed less than this ago may change again within one tick of the kernel's clock, seconds.
_TICK_S = 0.1


class Parents:
    """The notes of one RUNFOLD_DIR, read again when they change. Not thread-safe."""

    def __init__(
        self,
        runfold_dir: Path,
        *,
        boot: str,
        namespace: int | None,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._runfold_dir = runfold_dir
        self._boot = boot
        self._namespace = namespace
        self._unix_clock = unix_clock
        self._folder_changed_ns: int | None = None
        self._read: dict[Path, tuple[int, ParentNote | None]] = {}
        #: Notes by the child's pid.
        self._notes: dict[int, list[ParentNote]] = {}
        #: Another number whenever a note came or changed.
        self.version = 0

    def refresh(self) -> None:
        """Read what is new. A look at an unchanged folder costs one stat."""
        try:
            changed_ns: int | None = (self._runfold_dir / FOLDER).stat().st_mtime_ns
        except OSError:
            changed_ns = None
        if changed_ns == self._folder_changed_ns:
            return
        is_settled = changed_ns is None or changed_ns / 1e9 < self._unix_clock() - _TICK_S
        self._folder_changed_ns = changed_ns if is_settled else None
        before = self._read
        self._read = {
            path: before[path]
            if path in before and before[path][0] == mtime_ns
            else (mtime_ns, self._note(path))
            for path, mtime_ns in list_notes(self._runfold_dir).items()
        }
        if self._read != before:
            self.version += 1
            self._notes = {}
            for _, note in self._read.values():
                if note is not None:
                    self._notes.setdefault(note.pid, []).append(note)

    def about(self, children: Iterable[tuple[int, float | None]]) -> list[ParentNote]:
        """Return the notes about any of these processes, each (pid, start)."""
        return [
            note for pid, start in children for note in self._notes.get(pid, ()) if note.is_about(pid, start)
        ]

    def _note(self, path: Path) -> ParentNote | None:
        try:
            note = read_note(path)
        except (OSError, ValueError):
            return None
        is_of_here = note.boot_id == self._boot and note.pid_namespace in (None, self._namespace)
        return note if is_of_here else None


def will_tell(note: ParentNote) -> bool:
    """Return whether the child's status is still to come."""
    return note.status is None and is_alive(note.parent_pid, note.parent_start)

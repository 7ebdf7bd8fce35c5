"""The process's one capture, and whose lines it keeps: the first active run's, then the next one's.

In: runs that begin and end. Out: a capture by the setting `console`; where the ended run's lines are.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from runfold import terminal
from runfold.console.place import ConsolePlace
from runfold.protocol.identity import Identity


class Capture(Protocol):
    """What FdCapture and WrapCapture have in common."""

    @property
    def is_working(self) -> bool: ...
    def hand_over(self, place: ConsolePlace) -> tuple[Path, int] | None: ...
    def close(self) -> tuple[Path, int] | None: ...


@dataclass(frozen=True, slots=True)
class Speaker:
    """A run's process, as far as its console needs it."""

    #: Names the run in this process.
    key: int
    identity: Identity
    #: Its spool's folder, whose name is the writer's id; None: it has none, and its lines neither.
    directory: Path | None
    #: settings.console
    how: str


class CurrentCapture:
    """One per process. Never raises: output goes on whatever happens to its capture."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._capture: Capture | None = None
        #: Those that want a capture, oldest first; the first has it.
        self._speakers: list[Speaker] = []

    def begin(self, speaker: Speaker) -> None:
        """A run begins: its lines are kept from now on, or from the end of the run before it."""
        if speaker.directory is None or speaker.how == "off":
            return
        self._forget_parent()
        with self._lock:
            self._speakers.append(speaker)
            if self._speakers[0] is speaker:
                try:
                    self._capture = _start(speaker)
                except Exception as error:  # noqa: BLE001  # training begins, whatever keeps its lines from being kept
                    terminal.warn_once(f"the console is not kept: {error!r}")

    def end(self, key: int) -> tuple[Path, int] | None:
        """A run ends: return the folder and last seq of its console's spool, None when there is none."""
        if self._pid != os.getpid():
            return None
        with self._lock:
            has_it = bool(self._speakers) and self._speakers[0].key == key
            self._speakers = [speaker for speaker in self._speakers if speaker.key != key]
            capture = self._capture
            if not has_it or capture is None:
                return None
            try:
                if self._speakers and capture.is_working:
                    return capture.hand_over(_place_of(self._speakers[0]))
                self._capture = None
                return capture.close()
            except Exception as error:  # noqa: BLE001  # the run ends all the same
                terminal.warn(f"the console's last lines may be missing: {error!r}")
                return None

    def _forget_parent(self) -> None:
        if self._pid != os.getpid():
            self.__init__()  # type: ignore[misc]  # a fork's child has none yet


def _start(speaker: Speaker) -> Capture | None:
    place = _place_of(speaker)
    if _way(speaker.how) == "redirect":
        from runfold.console.fd_capture import FdCapture

        assert speaker.directory is not None, "begin() asks"
        try:
            return FdCapture.start(place, speaker.directory.parent, terminal.warn)
        except OSError as error:
            terminal.warn_once(f"no process for the console ({error}): only what Python prints is kept")
    from runfold.console.wrap import WrapCapture

    return WrapCapture.start(place)


def _way(how: str) -> str:
    """Return redirect or wrap, for what the settings say."""
    if how != "auto":
        return "redirect" if how == "redirect" else "wrap"
    from runfold.console.stdio import is_backed_by_descriptors

    is_interactive = terminal.is_notebook() or hasattr(sys, "ps1")
    # Whoever is process 1 of a container takes every other process with it: the tee too, with last words that
    # it has not passed on. Better to miss lines of C code than to lose them for the user.
    is_init = os.getpid() == 1
    return "wrap" if is_interactive or is_init or not is_backed_by_descriptors() else "redirect"


def _place_of(speaker: Speaker) -> ConsolePlace:
    directory = speaker.directory
    assert directory is not None, "begin() asks"
    identity = replace(
        speaker.identity,
        role="console",
        console_of=directory.name,
        config={},
        primary=None,
        update_finish_state=False,
        forked_from=None,
        visible_devices=None,
        stack_signum=None,
    )
    target = directory.parent
    return ConsolePlace(str(target.parent), target.name, {**identity.to_map(), "tags": list(identity.tags)})


current = CurrentCapture()

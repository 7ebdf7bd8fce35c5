"""RunConsole: what the process prints, and what a script adds to it. Part of Run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from runfold.protocol.records import ConsoleRecord, RecordKind
from runfold.redact import redact_text
from runfold.run_part import RunPart


class RunConsole(RunPart):
    """Lines of `write_logs` travel with the run's records, what is printed in a spool of its own."""

    #: Lines of write_logs() so far.
    _console_lines_count = 0
    #: Folder and last seq of the console's spool, once that is ended.
    _console: tuple[Path, int] | None = None

    def write_logs(self, text: str) -> None:
        """Add text to the run's console output; ignored when the run is finished."""
        if self._recorder.is_ended:
            return
        lines = tuple(redact_text(line) for line in text.rstrip("\n").split("\n"))
        first, self._console_lines_count = self._console_lines_count, self._console_lines_count + len(lines)
        record = ConsoleRecord(stream="logger", first_line=first, lines=lines)
        self._recorder.append(RecordKind.CONSOLE, record.pack())

    def _begin_console(self) -> None:
        """Keep what the process prints from now on, where settings want it."""
        how = self._settings.console
        if how == "auto" and self._membership.node.mode == "thread":
            how = "wrap"  # said of places where a process may have no children
        if how != "off":
            from runfold.console.current import Speaker, current

            current.begin(Speaker(id(self), self._spool.identity, self._spool.directory, how))

    def _end_console(self) -> None:
        module: Any = sys.modules.get("runfold.console.current")
        if module is not None:
            self._console = module.current.end(id(self))
